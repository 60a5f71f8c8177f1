"""Augmentation that cannot leak: an image and its fixed noise are flipped and shifted together."""

from __future__ import annotations

import torch
from torch import Tensor

from .losses import per_image


def flip_together(clean: Tensor, fixed_noise: Tensor | None, flip: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mirror the chosen images left to right, and their noise with them.

    Flipping the image alone would let the model see x + n and flip(x) + n, whose difference is the clean x -
    flip(x).

    clean, fixed_noise: [B,C,H,W]; flip: bool [B].
    """
    mask = per_image(flip, clean)
    flipped = torch.where(mask, clean.flip(-1), clean)
    return flipped, None if fixed_noise is None else torch.where(mask, fixed_noise.flip(-1), fixed_noise)


def shift_together(clean: Tensor, fixed_noise: Tensor | None, shift: Tensor) -> tuple[Tensor, Tensor | None]:
    """Move each image by whole pixels, and its noise with it; what leaves on one side comes in on the other.

    Nothing is interpolated, and what comes in is no new value: y = x + sigma n is the same numbers in other places, so
    no view of it shows more of x than another, and n stays white. Filling the edge with a constant would be neither:
    where the image is known, the noise that stands there is laid open, and with it the pixel that it hides elsewhere.
    Cut-and-wrapped edges are the price; one or two pixels on images whose border is background cost nothing.

    clean, fixed_noise: [B,C,H,W]; shift: int64 [B,2], pixels down and to the right.
    """
    return _rolled(clean, shift), None if fixed_noise is None else _rolled(fixed_noise, shift)


def _rolled(images: Tensor, shift: Tensor) -> Tensor:
    """Each image rolled by its own shift, on the device."""
    for axis in (0, 1):
        size = images.shape[2 + axis]
        source = (torch.arange(size, device=images.device) - shift[:, axis, None]) % size
        view = [len(images), 1, 1, 1]
        view[2 + axis] = size
        images = images.gather(2 + axis, source.view(view).expand_as(images))
    return images
