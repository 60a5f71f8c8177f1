"""IDX files, the format of MNIST and its descendants (Y. LeCun): a big-endian header, then raw bytes."""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadContentsError, BrokenFileError, UnknownFormatError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit
from .arrays import image_set_of_arrays

UINT8 = 0x08
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
    """One IDX file of unsigned bytes -> a read-only array over the bytes as read (no second copy)."""
    advice = "fetch it again"
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFileError(str(path), str(error) or "truncated", advice) from error
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise BrokenFileError(str(path), "0 bytes long" if not data else "not an IDX file", advice)
    if data[2] != UINT8:
        raise BadContentsError(f"{path} holds IDX values of type 0x{data[2]:02x}: expected 0x08, unsigned bytes")
    start = 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], dtype=">u4")) if len(data) >= start else ()
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise BrokenFileError(str(path), f"{len(data):,} bytes long, its header says {expected:,}", advice)
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
