"""From raw arrays to an ImageSet: the checks that `.npy`, `.npz`, IDX and CIFAR share."""

import tokenize
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import BadContentsError, NoImagesError
from ..image_set import ImageSet
from ..picture import Fit, fit_array

# What NumPy meets the header of a damaged array with, which is a Python literal: unfinished, nested too deep, a shape
# or dtype of any kind, an array larger than any memory.
HEADER_DAMAGE = (
    ValueError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError, tokenize.TokenError, EOFError,
    KeyError, IndexError, AttributeError,
)  # fmt: skip
MAX_CLASSES = 65_536  # above it, the "labels" are something else, and a network's class table would not fit


def index_ids(count: int) -> list[str]:
    """Ids of images that have no names: their position, zero-padded so that sorting keeps it."""
    width = max(6, len(str(count - 1)))
    return [f"{index:0{width}d}" for index in range(count)]


def image_set_of_arrays(
    images: NDArray[np.generic],
    labels: NDArray[np.generic] | None,
    *,
    where: str,
    name: str,
    fit: Fit,
    class_names: tuple[str, ...] = (),
    ids: Sequence[str] | None = None,
    skipped: tuple[str, ...] = (),
) -> ImageSet:
    """uint8 [N,H,W] or [N,H,W,1 or 3] and integer labels [N], checked and fitted; `where` begins every error.

    ids: None gives them their positions as ids.

    Raises BadContentsError, or NoImagesError for N = 0.
    """
    if images.dtype != np.uint8:
        raise BadContentsError(f"{where} holds images as {images.dtype}: expected uint8, values 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    pixels = images.astype(np.uint8, copy=False)
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise BadContentsError(
            f"{where} holds images of shape {list(images.shape)}: expected [N,H,W], or [N,H,W,C] with C = 1 or 3"
        )
    if not len(images):
        raise NoImagesError(f"{where} holds no images: expected one or more")
    if ids is not None and (len(ids) != len(images) or len(set(ids)) != len(ids)):
        raise BadContentsError(f"{where} holds {len(images):,} images and {len(set(ids)):,} different ids")
    return ImageSet(
        images=fit_array(pixels, fit),
        labels=None if labels is None else _labels(labels, len(images), where, len(class_names) or MAX_CLASSES),
        ids=index_ids(len(images)) if ids is None else list(ids),
        name=name,
        class_names=class_names,
        skipped=skipped,
    )


def _labels(labels: NDArray[np.generic], count: int, where: str, classes: int) -> NDArray[np.int64]:
    if labels.shape not in ((count,), (count, 1)):
        raise BadContentsError(
            f"{where} holds labels of shape {list(labels.shape)} for {count:,} images: expected [{count}]"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise BadContentsError(f"{where} holds labels as {labels.dtype}: expected whole numbers from 0")
    numbers = labels.reshape(count).astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= classes:
        raise BadContentsError(
            f"{where} holds labels from {numbers.min()} to {numbers.max()}: "
            f"expected classes numbered from 0, at most {classes - 1}"
        )
    return numbers
