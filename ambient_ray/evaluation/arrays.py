"""Checked arrays: what every score does with its input before it computes anything."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .errors import FeatureShapeError, NonFiniteFeaturesError, TooFewImagesError

Array = npt.NDArray[Any] | torch.Tensor
Floats = npt.NDArray[np.float64]


def as_array(values: Array) -> npt.NDArray[Any]:
    """A numpy view (or a CPU copy, from another device) of an array or tensor of any shape."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    return np.asarray(values)


def as_features(
    values: Array, name: str = "features", *, at_least: int = 1, bytes_too: bool = False
) -> npt.NDArray[Any]:
    """`values` as a finite matrix [N, d] of float32 or float64.

    More than two axes are flattened: images [N,H,W,C] or [N,C,H,W] become [N, H*W*C]. Integers become
    float32 (exact for uint8, which bytes_too=True leaves as it is). Raises FeatureShapeError (fewer than two
    axes, no feature), TooFewImagesError (N < at_least), NonFiniteFeaturesError.
    """
    array = as_array(values)
    if array.ndim < 2:
        raise FeatureShapeError(f"{name}: expected features [N, d] or images [N, ., ., .], got shape {array.shape}.")
    if len(array) < at_least:
        raise TooFewImagesError(f"{name}: too few images, {len(array)}; at least {at_least} are needed.")
    matrix = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if matrix.shape[1] == 0:
        raise FeatureShapeError(f"{name}: each image has no value at all (shape {array.shape}).")
    if bytes_too and matrix.dtype == np.uint8:
        return matrix
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32)
    if not np.isfinite(matrix).all():
        bad = int((~np.isfinite(matrix)).any(axis=1).argmax())
        raise NonFiniteFeaturesError(
            f"{name}: image {bad} has NaN or infinite values; check the images and the extractor's weights."
        )
    return matrix


def same_width(a: Array, b: Array, names: str) -> None:
    """Raise FeatureShapeError unless both [N, d] matrices have one d."""
    if a.shape[1] != b.shape[1]:
        raise FeatureShapeError(
            f"{names}: {a.shape[1]} and {b.shape[1]} values an image; both need the same extractor."
        )


def augmented_orders(
    images: Array, *, mirror: bool = False, shift: int = 0, name: str = "images"
) -> list[npt.NDArray[np.int64]]:
    """What augmentation does to flattened images [N, d]: for each variant, which value stands at each place, int64 [d].

    images [N,H,W,C] or [N,C,H,W]: uint8 is taken as [N,H,W,C] (how images are stored here); for floats the channel axis
    is the one of size 1, 3 or 4. shift: up to so many whole pixels either way along both axes, wrapping round, as
    training moves them (`ambient_ray.diffusion.shift_together`). mirror: all of them with left and right swapped, too.
    The first variant is the image itself. Raises FeatureShapeError for features, and where both axes could hold the
    channels.
    """
    array = as_array(images)
    across = _width_axis(array, name) - 1
    places = np.arange(int(np.prod(array.shape[1:])), dtype=np.int64).reshape(array.shape[1:])
    moves = [(0, 0)] + [(y, x) for y in range(-shift, shift + 1) for x in range(-shift, shift + 1) if (y, x) != (0, 0)]
    sides = [places, np.flip(places, across)] if mirror else [places]
    return [np.roll(side, move, (across - 1, across)).reshape(-1) for side in sides for move in moves]


def _width_axis(array: npt.NDArray[Any], name: str) -> int:
    """The axis from left to right; that from top to bottom comes before it."""
    if array.ndim != 4:
        raise FeatureShapeError(
            f"{name}: only images can be mirrored or shifted, expected four axes, got shape {array.shape}."
        )
    if array.dtype == np.uint8:
        return 2
    first, last = (array.shape[axis] in (1, 3, 4) for axis in (1, 3))
    if first == last:
        raise FeatureShapeError(
            f"{name}: shape {array.shape} does not say where the channels are; pass uint8 [N,H,W,C]."
        )
    return 3 if first else 2
