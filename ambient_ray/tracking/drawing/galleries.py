"""Pictures of images: a grid of samples, and generated images beside the training images nearest to them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    from ambient_ray.evaluation import PartialCopies

COPY_RATIO = 1 / 3  # d1/d2 below this counts as a copy (Yoon et al. 2023)
# Okabe and Ito's palette: told apart by colour-blind readers, and by their lightness in grey print.
VERMILLION, BLUE, SKY, ORANGE, GREEN, GREY = "#D55E00", "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#8A8A8A"
_TILE = 48  # smallest side of an image in a picture, in screen pixels
_PAIR_GAP, _ROOM = 4, 24  # pixels between the images of a pair, and around a pair
_CHUNK = 4_000_000  # distances computed at once
_COMPRESSION = 3  # of PNG: two thirds of the time of the usual 6, and files a quarter larger


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


def sample_grid(images: NDArray[np.uint8], path: Path, *, limit: int = 64, columns: int | None = None) -> Path:
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
    Image.fromarray(canvas).save(path, compress_level=_COMPRESSION)
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
    heading = title or "Generated images (left) and their nearest training images (right), most similar first"
    copies = int(np.sum(ratio < COPY_RATIO))
    told = f"{copies} of {len(ratio)} are copies (d₁/d₂ < 1/3): three times nearer to one training image "
    told += "than to any other"
    pairs = [
        _Pair(
            generated[i],
            nearest[i],
            f"d₁/d₂ {ratio[i]:.2f}" + ("" if similarity is None else f"  sim {similarity[i]:.2f}"),
            bool(ratio[i] < COPY_RATIO),
        )
        for i in order
    ]
    return _gallery(pairs, heading, told, path, columns)


def partial_gallery(
    generated: NDArray[np.uint8],
    train: NDArray[np.uint8],
    partial: PartialCopies,
    path: Path,
    *,
    limit: int = 20,
    columns: int = 5,
) -> Path | None:
    """Write a PNG of the images that are partly copied, each beside its source, with the copied part in colour.

    generated uint8 [n,H,W,C]; train uint8 [N,H,W,C], which `partial.index` counts. The largest part first; those of
    which a third or more is copied are framed thick and marked. Returns the path; None where no part of any is copied.
    """
    from ambient_ray.evaluation import PARTIAL_AREA

    found = np.flatnonzero(partial.area > 0)
    order = found[np.argsort(-partial.area[found], kind="stable")][:limit]
    if not len(order):
        return None
    masks = partial.pixels(*generated.shape[1:3])
    heading = "Generated images (left) and the training images that a part of them comes from (right)"
    copies = int(np.sum(partial.area >= PARTIAL_AREA))
    told = f"{copies} of {len(generated)} have a third of their area or more from one training image; the rest is faded"
    pairs = []
    for i in order:
        left, right = _faded(generated[i], masks[i]), _faded(train[partial.index[i]], masks[i])
        share = float(partial.area[i])
        pairs.append(_Pair(left, right, f"{100 * share:.0f} % of the area", share >= PARTIAL_AREA))
    return _gallery(pairs, heading, told, path, columns)


class _Pair(NamedTuple):
    """Two images side by side, what stands below them, and whether they are marked as a copy."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    caption: str
    copied: bool


def _gallery(pairs: Sequence[_Pair], heading: str, told: str, path: Path, columns: int) -> Path:
    """Write pairs of images as a PNG, row by row, below a heading and a line."""
    if not pairs:
        raise ValueError("a gallery needs at least one image")
    from PIL import Image
    from PIL.ImageDraw import Draw

    high, wide = _tile(pairs[0].left).shape[:2]
    columns = min(columns, len(pairs))
    words = round(max(14, high / 7))
    bold, plain = _font(words + 2, bold=True), _font(words)
    head, cell = 4 * words, (2 * wide + _PAIR_GAP + 2 * _ROOM, high + 2 * _ROOM + words)
    width = max(columns * cell[0], round(max(bold.getlength(heading), plain.getlength(told))) + 2 * _ROOM)
    canvas = Image.new("RGB", (width, head + math.ceil(len(pairs) / columns) * cell[1]), "white")
    draw = Draw(canvas)
    draw.text((_ROOM, 0.6 * words), heading, "black", bold)
    draw.text((_ROOM, 2.3 * words), told, "#333333", plain)
    for k, pair in enumerate(pairs):
        x, y = k % columns * cell[0] + _ROOM, head + k // columns * cell[1] + _ROOM // 2
        _draw_pair(draw, x, y, (wide, high), pair.caption, words, copied=pair.copied)
        canvas.paste(Image.fromarray(_tile(pair.left)), (x, y))
        canvas.paste(Image.fromarray(_tile(pair.right)), (x + wide + _PAIR_GAP, y))
    canvas.save(path, compress_level=_COMPRESSION)
    return path


def _faded(image: NDArray[np.uint8], kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with all but the kept pixels [H,W] a fifth as strong, on white."""
    pale = 255 - (255 - image.astype(np.int64)) // 5
    return np.where(kept[..., None], image, pale).astype(np.uint8)


def _draw_pair(
    draw: ImageDraw, x: int, y: int, tile: tuple[int, int], caption: str, words: int, *, copied: bool
) -> None:
    """Frame and caption of the pair whose first image lies at (x, y)."""
    wide, high = tile
    far = 8
    box = (x - far, y - far, x + 2 * wide + _PAIR_GAP + far - 1, y + high + far - 1)
    draw.rectangle(box, outline=VERMILLION if copied else "#BBBBBB", width=5 if copied else 1)
    draw.text(
        (x + wide + _PAIR_GAP // 2, y + high + far + words * 0.8),
        caption + ("  copy" if copied else ""),
        VERMILLION if copied else "black",
        _font(words, bold=copied),
        anchor="mm",
    )


@cache
def _font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib; found without importing matplotlib, which takes a second."""
    from PIL import ImageFont

    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("matplotlib is not installed")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name, size)


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H,W,3] with a side of about 100 pixels: small images by whole factors, large ones averaged down."""
    from PIL import Image

    side = max(image.shape[:2])
    if side <= 160:
        factor = max(1, round(96 / side))
        return _rgb(image).repeat(factor, axis=0).repeat(factor, axis=1)
    shrunk = Image.fromarray(_rgb(image)).resize(
        (image.shape[1] * 128 // side, image.shape[0] * 128 // side), Image.Resampling.LANCZOS
    )
    return np.asarray(shrunk)


def _enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, math.ceil(_TILE / max(image.shape[:2])))
    return _rgb(image).repeat(factor, axis=0).repeat(factor, axis=1)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H,W,C] -> [H,W,3]: grey is repeated, alpha dropped, other counts shown by their first channel."""
    if image.shape[2] in (3, 4):
        return image[:, :, :3]
    return image[:, :, :1].repeat(3, axis=2)
