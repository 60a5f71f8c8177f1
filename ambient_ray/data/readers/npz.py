"""Images in a NumPy archive (`np.savez`), never unpickled."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BadContentsError, BrokenFileError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit, check_memory
from .arrays import HEADER_DAMAGE, image_set_of_arrays
from .zipped import DAMAGE

# Names of (images, labels), the first found counts; labels may be missing.
KEYS = (
    ("images", "labels"),
    ("x", "y"),
    ("x_train", "y_train"),
    ("train_images", "train_labels"),
    ("arr_0", "arr_1"),
)


def read_npz(path: Path, fit: Fit) -> ImageSet:
    """Images uint8 [N,H,W] or [N,H,W,C] and labels, under one of the pairs of names in `KEYS`.

    Raises BrokenFileError (damaged), BadContentsError (names, dtypes, shapes, or arrays that would need
    pickle), UnreadableFileError.
    """
    advice = "save it again with np.savez(path, images=..., labels=...)"
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise BadContentsError(f"{path} holds one bare array: {advice}")
        with opened as held:
            pair = next((pair for pair in KEYS if pair[0] in held.files), None)
            if pair is None:
                raise BadContentsError(
                    f"{path} holds {', '.join(held.files) or 'no arrays'}: "
                    "expected the names images and labels (or x and y, or arr_0)"
                )
            images = _member(held, pair[0], path)
            labels = _member(held, pair[1], path) if pair[1] in held.files else None
    except PermissionError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error
    except (*DAMAGE, *HEADER_DAMAGE, OSError) as error:
        raise BrokenFileError(str(path), str(error) or "truncated", advice) from error
    return image_set_of_arrays(images, labels, where=str(path), name=path.stem, fit=fit)


def _member(held: "np.lib.npyio.NpzFile", name: str, path: Path) -> NDArray[np.generic]:
    assert held.zip is not None  # only once it is closed
    stored = name if name in held.zip.namelist() else f"{name}.npy"
    check_memory(held.zip.getinfo(stored).file_size, f"{name} of {path} unpacks to")
    try:
        array: NDArray[np.generic] = held[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise BadContentsError(
            f"{path} holds {name} as Python objects, which are never unpickled: "
            "save a plain array of one shape and dtype"
        ) from error
    if not isinstance(array, np.ndarray):
        raise BadContentsError(f"{path} holds {name} as no array of NumPy's: save it with np.savez")
    return array
