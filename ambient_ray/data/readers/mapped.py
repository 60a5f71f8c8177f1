"""Images in a file that is mapped into memory, so that a set may be larger than memory; and any source made into one.

Layout: `NAME.npy` (uint8 [N,H,W] or [N,H,W,C]) with its labels, if there are any, in `NAME.labels.npy`; or a folder of
`images.npy`, perhaps `labels.npy`, and perhaps `set.json`, which gives the names that arrays have no place for. Ids are
positions unless set.json says otherwise. Of the images no more is in memory than what is used; ids and labels are.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadContentsError, BrokenFileError, UnreadableFileError
from ..image_set import ImageSet, blocks
from ..picture import Allocate, Fit
from .arrays import HEADER_DAMAGE, image_set_of_arrays
from .zipped import DAMAGE

IMAGES, LABELS, NAMES = "images.npy", "labels.npy", "set.json"
FORMAT = 1  # of a converted set: part of its key, so that a newer layout is made anew
NAMES_HELD = {"name": str, "content_hash": str, "class_names": list, "ids": list, "skipped": list}
ADVICE = "save a plain uint8 array with np.save"


def read_npy(path: Path, fit: Fit) -> ImageSet:
    """A `.npy` file of images, mapped; labels from `NAME.labels.npy` beside it.

    Raises BrokenFileError, BadContentsError (dtype, shape, Python objects), UnreadableFileError.
    """
    beside = path.with_name(f"{path.stem}.labels.npy")
    labels = _open(beside) if beside.is_file() else None
    return image_set_of_arrays(_open(path), labels, where=str(path), name=path.stem, fit=fit)


def is_mapped_folder(path: Path) -> bool:
    """Whether a folder holds `images.npy`."""
    return (path / IMAGES).is_file()


def read_mapped_folder(path: Path, fit: Fit) -> ImageSet:
    """A folder of `images.npy`, `labels.npy` and `set.json`, the last two optional.

    Raises what `read_npy` raises, and BadContentsError for names that do not fit the images.
    """
    labels = _open(path / LABELS) if (path / LABELS).is_file() else None
    names = _names(path)
    found = image_set_of_arrays(
        _open(path / IMAGES), labels, where=str(path), name=str(names.get("name", path.resolve().name)), fit=fit,
        class_names=tuple(names.get("class_names", ())), ids=names.get("ids"),
        skipped=tuple(names.get("skipped", ())),
    )  # fmt: skip
    recorded = names.get("content_hash", found.content_hash)
    if fit.changes_nothing and recorded != found.content_hash:
        raise BrokenFileError(str(path), f"its content is not that of {NAMES}", "remove it, so that it is made again")
    return found


def map_images(read: Callable[[Allocate], ImageSet], key: str, folder: Path) -> ImageSet:
    """The set that `read` gives, from a mapped copy in folder/key, which is made where there is none yet.

    read: takes where its images are to be put; pictures are decoded straight into the file, what comes from arrays is
    copied block by block. The copy is written beside its place and renamed, so it is whole or not there.
    Raises what `read` raises, UnreadableFileError when the folder cannot be written.
    """
    place = folder / key
    if place.is_dir():
        return read_mapped_folder(place, Fit())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder, prefix=f".{key}-"))
        try:
            _write(read, draft)
            draft.chmod(0o755)
            if not place.is_dir():  # else another process was faster
                draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if place.is_dir():
            return read_mapped_folder(place, Fit())
        raise UnreadableFileError(
            f"{folder} cannot be written ({error.strerror or error}): make room, or set AMBIENT_RAY_CACHE"
        ) from error
    return read_mapped_folder(place, Fit())


def source_key(files: Sequence[Path], options: Sequence[object]) -> str:
    """What a mapped copy is kept under: a hash of each file's path, size and time of change, and of the options."""
    stats = [(str(path.absolute()), status.st_size, status.st_mtime_ns) for path in files for status in (path.stat(),)]
    text = json.dumps([FORMAT, stats, [str(option) for option in options]])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _write(read: Callable[[Allocate], ImageSet], folder: Path) -> None:
    allocated: list[NDArray[np.uint8]] = []

    def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
        image_file = folder / IMAGES
        allocated.append(np.lib.format.open_memmap(image_file, mode="w+", dtype=np.uint8, shape=shape))
        return allocated[-1]

    found = read(allocate)
    if not (allocated and np.may_share_memory(found.images, allocated[-1])):
        target = allocate(found.images.shape)
        for start, block in blocks(found.images):
            target[start : start + len(block)] = block
    allocated[-1].flush()  # type: ignore[attr-defined]
    if len(found) < len(allocated[-1]):
        _shorten(folder / IMAGES, found.images.shape)
    if found.labels is not None:
        np.save(folder / LABELS, found.labels)
    names = {
        "name": found.name, "class_names": found.class_names, "skipped": found.skipped,
        "content_hash": found.content_hash, "ids": found.ids,
    }  # fmt: skip
    (folder / NAMES).write_text(json.dumps(names))


def _shorten(path: Path, shape: tuple[int, ...]) -> None:
    """Cut an array file after its first shape[0] images, where broken ones were left out."""
    start = _open(path).offset  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        if file.tell() != start:  # NumPy leaves room for any count of images in the header
            raise RuntimeError(f"the header of {path} became {file.tell()} bytes long, not {start}")
        os.truncate(path, start + int(np.prod(shape, dtype=object)))


def _open(path: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (*HEADER_DAMAGE, *DAMAGE) as error:  # a zip is opened as an archive of arrays
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise BadContentsError(f"{path} holds Python objects, which are never unpickled: {ADVICE}") from error
        raise BrokenFileError(str(path), str(error) or "truncated", ADVICE) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise BadContentsError(f"{path} holds an archive of arrays: {ADVICE}")
    return array


def _names(folder: Path) -> dict[str, Any]:
    path = folder / NAMES
    if not path.is_file():
        return {}
    try:
        names = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFileError(str(path), str(error), "remove it, or mend it") from error
    if not isinstance(names, dict):
        raise BrokenFileError(str(path), "no JSON object", "remove it, or mend it")
    for key, kind in NAMES_HELD.items():
        value = names.get(key, kind())
        if type(value) is not kind or not all(isinstance(part, str) for part in value):
            raise BrokenFileError(str(path), f"its {key} are no {kind.__name__} of names", "remove it, or mend it")
    return names
