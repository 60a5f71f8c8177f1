"""The pictures of one rung: its samples, the gallery beside the nearest training images, and the gap along sigma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import read_samples

_SEARCHED = 500  # samples whose neighbours are looked for here, when the scoring has not kept them


def draw_rung(
    checkpoint: Path, images_seen: int, train_images: NDArray[np.uint8] | None, folder: Path
) -> list[tuple[Path, str]]:
    """Draw the samples.npz of `checkpoint` into `folder`; return each file and its artifact folder.

    train_images: uint8 [N,H,W,C], or None for no gallery. Nothing is drawn where no samples were kept.
    """
    samples = read_samples(checkpoint)
    if samples is None:
        return []
    from .galleries import nearest_gallery, nearest_training, partial_gallery, sample_grid

    name = f"{images_seen:010d}.png"  # sorts in the order of training
    mechanism = _draw_mechanism(checkpoint, images_seen, folder)
    for part in ("samples",) if train_images is None else ("samples", "nearest", "partial"):
        (folder / part).mkdir()
    drawn = [(sample_grid(samples.images, folder / "samples" / name), "samples"), *mechanism]
    if train_images is None:
        return drawn
    path = folder / "nearest" / name
    if samples.nearest is not None and samples.ratio is not None:
        gallery = nearest_gallery(
            samples.images,
            train_images[samples.nearest],
            samples.ratio,
            path,
            similarity=samples.similarity,
            order=samples.order,
        )
    else:
        images = samples.images[:_SEARCHED]
        found = nearest_training(images, train_images)
        gallery = nearest_gallery(images, train_images[found.index], found.ratio, path)
    drawn.append((gallery, "nearest"))
    if samples.partial is not None:
        parts = partial_gallery(samples.images, train_images, samples.partial, folder / "partial" / name)
        drawn += [(parts, "partial")] if parts is not None else []
    if not any((folder / "partial").iterdir()):
        (folder / "partial").rmdir()
    return drawn


def _draw_mechanism(checkpoint: Path, images_seen: int, folder: Path) -> list[tuple[Path, str]]:
    """The denoising gap at each sigma, where the scoring has kept it."""
    from .mechanism import mechanism_figure, read_mechanism

    found = read_mechanism(checkpoint)
    if found is None:
        return []
    (folder / "mechanism").mkdir()
    title = f"What it knows of its training images at each noise level, after {images_seen:,} images"
    path = mechanism_figure(found, folder / "mechanism" / f"{images_seen:010d}.svg", title=title)
    return [(path, "mechanism")]
