"""Pictures of images: a grid of samples, and generated images beside the training images nearest to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COPY_RATIO = 1 / 3  # d1/d2 below this counts as a copy (Yoon et al. 2023)
# Okabe and Ito's palette: told apart by colour-blind readers, and by their lightness in grey print.
VERMILLION, BLUE, SKY, ORANGE, GREEN, GREY = "#D55E00", "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#8A8A8A"
_TILE = 48  # smallest side of an image in a picture, in screen pixels
_CHUNK = 4_000_000  # distances computed at once


@dataclass(frozen=True)
class Nearest:
    """For n generated images: index [n] of the nearest training image, and the gap ratio d1/d2 [n]."""

    index: NDArray[np.int64]
    ratio: NDArray[np.float64]


def nearest_training(generated: NDArray[np.uint8], train: NDArray[np.uint8]) -> Nearest:
    """Nearest training image of each generated one, by pixel L2, with d1/d2 of the two smallest distances.

    generated [n,H,W,C], train [N,H,W,C] with N >= 1; for N = 1, without a second neighbour, the ratio is 1.
    """
    g = generated.reshape(len(generated), -1).astype(np.float32) / 255
    t = train.reshape(len(train), -1).astype(np.float32) / 255
    t_norm = np.einsum("nd,nd->n", t, t)
    index = np.empty(len(g), dtype=np.int64)
    ratio = np.ones(len(g))
    rows = max(1, _CHUNK // len(t))
    for first in range(0, len(g), rows):
        part = g[first : first + rows]
        # |t|^2 - 2 <g, t> orders the training images; the distances themselves are taken exactly, for two of
        # them
        order = t_norm - 2 * part @ t.T
        two = np.argpartition(order, min(1, len(t) - 1), axis=1)[:, :2]
        d = np.linalg.norm(part[:, None] - t[two], axis=2)
        best = d.argmin(axis=1)
        here = np.arange(len(part))
        index[first : first + rows] = two[here, best]
        if len(t) > 1:
            d1, d2 = d[here, best], d[here, 1 - best]
            ratio[first : first + rows] = np.divide(d1, d2, out=np.ones(len(part)), where=d2 > 0)
    return Nearest(index, ratio)


def sample_grid(
    images: NDArray[np.uint8], path: Path, *, limit: int = 64, columns: int | None = None
) -> Path:
    """Write a PNG of the first `limit` images uint8 [n,H,W,C], row by row, and return its path.

    Small images are enlarged by whole factors, without smoothing. columns: by default about a square.
    """
    from PIL import Image

    tiles = [_enlarge(image) for image in images[:limit]]
    if not tiles:
        raise ValueError("a grid needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    height, width, gap = tiles[0].shape[0], tiles[0].shape[1], max(2, tiles[0].shape[0] // 24)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        y, x = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    Image.fromarray(canvas).save(path, optimize=False)
    return path


def nearest_gallery(
    generated: NDArray[np.uint8],
    nearest: NDArray[np.uint8],
    ratio: NDArray[np.float64],
    path: Path,
    *,
    similarity: NDArray[np.float64] | None = None,
    order: NDArray[np.int64] | None = None,
    limit: int = 20,
    columns: int = 5,
    title: str | None = None,
) -> Path:
    """Write a PNG of generated images beside their nearest training images, most similar first.

    generated, nearest: uint8 [n,H,W,C], row by row; ratio [n]: d1/d2 (below 1/3 is a copy, framed thick and
    marked); similarity [n]: cosine in feature space, shown too when given; order [n]: by default by rising
    ratio. Returns the path.
    """
    order = (np.argsort(ratio, kind="stable") if order is None else order)[:limit]
    if not len(order):
        raise ValueError("a gallery needs at least one image")
    columns = min(columns, len(order))
    rows = math.ceil(len(order) / columns)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    copies = int(np.sum(ratio < COPY_RATIO))
    # In units of one image's side: a pair is 2 wide, with room around it for frame and caption.
    wide, high, head = columns * 2.5 + 0.2, rows * 1.55, 0.8
    unit = 1.55 * 5 / columns / 2.5
    figure = Figure(figsize=(wide * unit, (high + head) * unit), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, wide), ylim=(high + head, 0))
    axes.axis("off")
    size = max(6.0, min(9.0, 13 * unit))
    heading = title or "Generated images (left) and their nearest training images (right), most similar first"
    axes.text(0.2, 0.28, heading, fontsize=size + 1, weight="bold", va="center")
    told = f"{copies} of {len(ratio)} are copies (d₁/d₂ < 1/3): three times nearer to one than to any other"
    axes.text(0.2, 0.6, told, fontsize=size - 0.5, va="center", color="#333333")
    for k, i in enumerate(order):
        x, y = 0.2 + (k % columns) * 2.5, head + (k // columns) * 1.55
        copied = bool(ratio[i] < COPY_RATIO)
        for offset, image in ((0.0, generated[i]), (1.05, nearest[i])):
            axes.imshow(
                _rgb(image),
                extent=(x + offset, x + offset + 1, y + 1, y),
                interpolation="nearest" if len(image) < 128 else "antialiased",
                aspect="auto",
            )
        _frame(axes, x, y, copied)
        caption = f"d₁/d₂ {ratio[i]:.2f}" + ("" if similarity is None else f"   sim {similarity[i]:.2f}")
        axes.text(
            x + 1.025,
            y + 1.23,
            caption + ("   copy" if copied else ""),
            fontsize=size,
            ha="center",
            va="center",
            color=VERMILLION if copied else "black",
            weight="bold" if copied else "normal",
        )
    axes.set(xlim=(0, wide), ylim=(high + head, 0))
    figure.savefig(path)
    return path


def _frame(axes: Axes, x: float, y: float, copied: bool) -> None:
    from matplotlib.patches import Rectangle

    colour, width = (VERMILLION, 2.4) if copied else ("#BBBBBB", 0.6)
    axes.add_patch(Rectangle((x - 0.06, y - 0.06), 2.17, 1.12, fill=False, edgecolor=colour, linewidth=width))


def _enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, math.ceil(_TILE / max(image.shape[:2])))
    return _rgb(image).repeat(factor, axis=0).repeat(factor, axis=1)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H,W,C] -> [H,W,3]: grey is repeated, alpha dropped, other counts shown by their first channel."""
    if image.shape[2] in (3, 4):
        return image[:, :, :3]
    return image[:, :, :1].repeat(3, axis=2)
