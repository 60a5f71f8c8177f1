"""The pictures of one rung: a grid of its samples, and the gallery beside the nearest training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .checkpoint import read_samples

_GALLERY = 500  # samples searched for copies; distances to all of a large set would hold the writer up


def draw_rung(
    checkpoint: Path, images_seen: int, train_images: NDArray[np.uint8] | None, folder: Path
) -> list[tuple[Path, str]]:
    """Draw the samples.npz of `checkpoint` into `folder`; return each file and its artifact folder.

    train_images: uint8 [N,H,W,C], or None for no gallery. Nothing is drawn where no samples were kept.
    """
    images = read_samples(checkpoint)
    if images is None:
        return []
    from .figures import nearest_gallery, nearest_training, sample_grid

    name = f"{images_seen:010d}.png"  # sorts in the order of training
    for part in ("samples", "nearest"):
        (folder / part).mkdir()
    drawn = [(sample_grid(images, folder / "samples" / name), "samples")]
    if train_images is not None:
        shown = images[:_GALLERY]
        nearest = nearest_training(shown, train_images)
        path = folder / "nearest" / name
        drawn.append((nearest_gallery(shown, train_images[nearest.index], nearest.ratio, path), "nearest"))
    return drawn
