"""Augmentation that cannot leak: an image and its fixed noise are flipped together."""

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
