"""IDX files, the format of MNIST and its descendants (Y. LeCun): a big-endian header, then raw bytes."""

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import BadContentsError, BrokenFileError, NoImagesError, UnknownFormatError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit, check_memory
from .arrays import image_set_of_arrays

UINT8 = 0x08
BLOCK = 2**20  # bytes that are unpacked at a time
MOST_DIMENSIONS = 4
NAME = re.compile(r"images?[-._]?idx[34]-ubyte(\.gz)?$")
LABELS = re.compile(r"labels?[-._]?idx1-ubyte(\.gz)?$")


def is_idx(path: Path) -> bool:
    """Whether a file is IDX, by its name or by the four bytes it begins with."""
    if NAME.search(path.name) or LABELS.search(path.name):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False  # whoever reads it next says why
    return start in (b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\x08\x04")


def idx_files(folder: Path) -> list[Path]:
    """The IDX image files directly in a folder."""
    return sorted(path for path in folder.iterdir() if NAME.search(path.name) and path.is_file())


def read_idx_folder(folder: Path, fit: Fit) -> ImageSet:
    """The training images of a folder of IDX files: those named "train", or the only ones there are.

    Raises UnknownFormatError where it is unclear which, and what `read_idx` raises.
    """
    found = idx_files(folder)
    train = [path for path in found if "train" in path.name] or found
    if len({path.name.removesuffix(".gz") for path in train}) != 1:
        names = ", ".join(path.name for path in train)
        raise UnknownFormatError(
            f"{folder} holds several sets of images ({names}): give the path of one of these files"
        )
    return read_idx(train[0], fit, name=folder.resolve().name)


def read_idx(path: Path, fit: Fit, *, name: str = "") -> ImageSet:
    """An IDX file of images, gzipped or not, labels from the file beside it (images-idx3 -> labels-idx1).

    Raises BrokenFileError (truncated, damaged), BadContentsError (no images, or labels for others),
    UnreadableFileError.
    """
    images = read_array(path)
    if images.ndim < 3:
        raise BadContentsError(
            f"{path} holds {images.ndim}-dimensional data, as labels are: give the file of the images"
        )
    labels_path = labels_beside(path)
    labels = None if labels_path is None else read_array(labels_path)
    return image_set_of_arrays(images, labels, where=str(path), name=name or path.name.split(".")[0], fit=fit)


def labels_beside(path: Path) -> Path | None:
    """The file with the labels of these images, gzipped or not; None if there is none."""
    named = re.sub(r"idx[34]-ubyte", "idx1-ubyte", path.name.removesuffix(".gz")).replace("image", "label")
    if named == path.name.removesuffix(".gz"):
        return None
    beside = (path.with_name(named), path.with_name(named + ".gz"))
    return next((candidate for candidate in beside if candidate.is_file()), None)


def read_array(path: Path) -> NDArray[np.uint8]:
    """One IDX file of unsigned bytes -> a read-only array, its bytes read straight into it."""
    advice = "fetch it again"
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] != b"\x1f\x8b":
                return _array_in(raw, path, advice)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _array_in(cast(IO[bytes], unpacked), path, advice)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFileError(str(path), str(error) or "truncated", advice) from error
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _array_in(file: IO[bytes], path: Path, advice: str) -> NDArray[np.uint8]:
    """As many bytes as the header says, and not one more of what a gzip may hold."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise BrokenFileError(str(path), "0 bytes long" if not start else "not an IDX file", advice)
    if start[2] != UINT8:
        raise BadContentsError(f"{path} holds IDX values of type 0x{start[2]:02x}: expected 0x08, unsigned bytes")
    sizes = file.read(4 * start[3])
    shape = tuple(int(size) for size in np.frombuffer(sizes[: len(sizes) // 4 * 4], dtype=">u4"))
    if len(shape) > MOST_DIMENSIONS:
        raise BadContentsError(f"{path} holds data of {len(shape)} dimensions: expected images, [N,H,W] or [N,H,W,C]")
    if 0 in shape:
        raise NoImagesError(f"{path} holds data of shape {list(shape)}, so none: expected one image or more")
    header, count = 4 + len(sizes), math.prod(shape)
    if len(sizes) < 4 * start[3]:
        raise BrokenFileError(str(path), f"{header:,} bytes long, its header says {4 + 4 * start[3]:,} or more", advice)
    check_memory(count, f"by its header, {path} holds")
    values = np.empty(count, dtype=np.uint8)
    found = 0
    while found < count and (block := file.read(min(BLOCK, count - found))):
        values[found : found + len(block)] = np.frombuffer(block, dtype=np.uint8)
        found += len(block)
    if found < count or file.read(1):
        more = "more than " if found == count else ""
        raise BrokenFileError(
            str(path), f"{more}{header + found:,} bytes long, its header says {header + count:,}", advice
        )
    values.flags.writeable = False
    return values.reshape(shape)
