"""Many picture files into one array, each decoded straight into its row, so that nothing is held twice."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BrokenFileError, MixedChannelsError, MixedSizesError, NoImagesError
from ..image_set import ImageSet, let_go, rows_a_block
from ..picture import Fit, decode, picture_formats
from .layout import Layout

CHUNK = 256  # pictures a task: large enough that handing out tasks costs nothing, small enough to fail early
MAX_THREADS = 8
# Below it a picture is mostly Pillow's Python code, where threads only wait for each other (60,000 JPEGs of
# 32x32: 9 s in one thread, 14 s in eight); above it mostly decoding, which releases the interpreter.
THREADS_FROM_BYTES = 2**15
ADVICE = "mend or remove it, or leave such files out with dataset.skip_broken=true"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureSource:
    """Where pictures come from: the source as the user named it, what to read of it, name -> file's bytes."""

    where: str
    name: str
    layout: Layout
    read: Callable[[str], bytes]

    def path(self, name: str) -> str:
        """How an error names this file."""
        return f"{self.where}/{name}"


@dataclass(frozen=True)
class _First:
    """The first readable picture, which all others must equal in shape."""

    index: int
    pixels: NDArray[np.uint8]


def read_pictures(source: PictureSource, fit: Fit, *, skip_broken: bool) -> ImageSet:
    """All pictures of a source, in the order of their ids.

    Raises BrokenFileError for the first broken file (with `skip_broken` they are left out, logged, and named
    in `ImageSet.skipped`), MixedChannelsError, MixedSizesError, and NoImagesError if no file is left.
    """
    names, formats = source.layout.names, picture_formats()
    broken: dict[int, BrokenFileError] = {}
    first = _first_picture(source, fit, formats, broken, skip_broken=skip_broken)
    images = fit.allocate((len(names), *first.pixels.shape))
    rows = rows_a_block(images)

    def read_chunk(start: int) -> list[tuple[int, BrokenFileError]]:
        found = []
        for index in range(start, min(start + CHUNK, len(names))):
            pixels = _read(source, names[index], fit, formats)
            if isinstance(pixels, BrokenFileError):
                found.append((index, pixels))
                continue
            _check_shape(source, first, names[index], pixels)
            images[index] = pixels
            if index % rows == 0:
                let_go(images)
        return found

    images[first.index] = first.pixels
    starts = range(first.index + 1, len(names), CHUNK)
    large = len(source.read(names[first.index])) >= THREADS_FROM_BYTES
    for index, error in _in_order(read_chunk, starts, threads=MAX_THREADS if large else 1):
        if not skip_broken:
            raise error
        broken[index] = error
    return _gather(source, images, broken)


def _first_picture(
    source: PictureSource,
    fit: Fit,
    formats: tuple[str, ...],
    broken: dict[int, BrokenFileError],
    *,
    skip_broken: bool,
) -> _First:
    for index, name in enumerate(source.layout.names):
        pixels = _read(source, name, fit, formats)
        if not isinstance(pixels, BrokenFileError):
            return _First(index, pixels)
        if not skip_broken:
            raise pixels
        broken[index] = pixels
    raise NoImagesError(f"all {len(broken):,} images of {source.where} are broken; the first: {broken[0]}")


def _read(source: PictureSource, name: str, fit: Fit, formats: tuple[str, ...]) -> NDArray[np.uint8] | BrokenFileError:
    try:
        data = source.read(name)
    except BrokenFileError as error:
        return error
    if not data:
        return BrokenFileError(source.path(name), "0 bytes long", ADVICE)
    try:
        return decode(data, fit, formats)
    except Exception as error:
        # Decoders meet hostile bytes with nearly any exception (OSError, SyntaxError, struct.error,
        # IndexError, ...). Each means the same here, that this file cannot be decoded, and it is reported
        # with its reason.
        reason = _reason(error)
        failure = BrokenFileError(source.path(name), reason, ADVICE)
        failure.__cause__ = error
        return failure


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return "not an image" if "cannot identify image file" in text else text


def _check_shape(source: PictureSource, first: _First, name: str, pixels: NDArray[np.uint8]) -> None:
    first_name = source.layout.names[first.index]
    if pixels.shape[2] != first.pixels.shape[2]:
        names = (first_name, name) if pixels.shape[2] == 3 else (name, first_name)
        grey, colour = (source.path(each) for each in names)
        raise MixedChannelsError(
            f"{source.where} mixes greyscale images ({grey}) with colour images ({colour}): "
            "make them the same with dataset.channels=3 (colour) or dataset.channels=1 (greyscale)"
        )
    if pixels.shape != first.pixels.shape:
        (height, width), (other_height, other_width) = first.pixels.shape[:2], pixels.shape[:2]
        raise MixedSizesError(
            f"images of {source.where} differ in size ({source.path(first_name)} is {width}x{height}, "
            f"{source.path(name)} is {other_width}x{other_height}): "
            f"crop and scale them to one with dataset.resolution=, "
            f"e.g. dataset.resolution={_suggestion(first, pixels)}"
        )


def _suggestion(first: _First, pixels: NDArray[np.uint8]) -> int:
    smallest = min(*first.pixels.shape[:2], *pixels.shape[:2])
    return next((side for side in (64, 32, 16) if side <= smallest), smallest)


def _in_order(
    work: Callable[[int], list[tuple[int, BrokenFileError]]], starts: Sequence[int], *, threads: int
) -> Iterator[tuple[int, BrokenFileError]]:
    """The results of `work` in the order of `starts`; the first exception ends all that has not begun."""
    workers = min(threads, len(starts), os.cpu_count() or 1)
    if workers <= 1:
        for start in starts:
            yield from work(start)
        return
    executor = ThreadPoolExecutor(max_workers=workers)
    try:
        for found in executor.map(work, starts):
            yield from found
    finally:
        executor.shutdown(cancel_futures=True)


def _gather(source: PictureSource, images: NDArray[np.uint8], broken: dict[int, BrokenFileError]) -> ImageSet:
    layout = source.layout
    kept = [index for index in range(len(images)) if index not in broken]
    if broken:
        for row, index in enumerate(kept):  # closes the gaps in place: an index array would copy everything
            if row != index:
                images[row] = images[index]
        reasons = "; ".join(f"{error.path} ({error.reason})" for error in list(broken.values())[:5])
        log.warning("%d of %d files are broken and skipped: %s", len(broken), len(images), reasons)
    return ImageSet(
        images=images[: len(kept)],
        labels=None if layout.labels is None else layout.labels[kept],
        ids=[layout.ids[index] for index in kept],
        name=source.name,
        class_names=layout.class_names,
        skipped=tuple(layout.names[index] for index in sorted(broken)),
    )
