"""A few of a model's samples as one small picture, to be shown beside its point in a figure."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 4
_SIDE = 40  # of an image in the grid, at most, in pixels
_GAP = 1
_BYTES = 9_000  # 200 of them, in base64, are below 2.5 MB


def samples_thumbnail(images: NDArray[np.uint8]) -> bytes:
    """The first 16 of uint8 [n,H,W,C], n >= 1, as a 4 x 4 grid: WebP of at most 9 kB, without loss where that fits.

    C: 1 (grey), 3, or 4, of which alpha is dropped. Images larger than 40 pixels are reduced to that; small ones stay
    as they are: show them enlarged, without smoothing. ValueError for no images.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(f"a thumbnail needs images uint8 [n,H,W,C] with n >= 1, got shape {images.shape}")
    from PIL import Image

    tiles = [_small(image) for image in images[: _COLUMNS**2]]
    high, wide = tiles[0].shape[0] + _GAP, tiles[0].shape[1] + _GAP
    rows, columns = -(-len(tiles) // _COLUMNS), min(len(tiles), _COLUMNS)
    grid = np.full((rows * high - _GAP, columns * wide - _GAP, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // _COLUMNS * high, k % _COLUMNS * wide
        grid[y : y + high - _GAP, x : x + wide - _GAP] = tile
    picture = Image.fromarray(grid)
    tries: list[dict[str, Any]] = [{"lossless": True}, *({"quality": q} for q in (80, 50, 20))]
    for options in tries:
        file = io.BytesIO()
        picture.save(file, "WEBP", method=2, **options)
        if len(file.getvalue()) <= _BYTES:
            return file.getvalue()
    file = io.BytesIO()  # noise alone is that large
    picture.resize((grid.shape[1] // 2, grid.shape[0] // 2), Image.Resampling.BOX).save(file, "WEBP", quality=20)
    return file.getvalue()


def image_type(picture: bytes) -> str:
    """The media type of a PNG, JPEG, GIF or WebP by its first bytes. ValueError for anything else."""
    starts = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    for start, kind in starts.items():
        if picture.startswith(start):
            return kind
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    raise ValueError(f"a thumbnail must be a PNG, JPEG, GIF or WebP; this one begins with {picture[:8]!r}")


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[H,W,3] with sides of at most `_SIDE` pixels."""
    from PIL import Image

    rgb = image[:, :, :3] if image.shape[2] in (3, 4) else image[:, :, :1].repeat(3, axis=2)
    side = max(rgb.shape[:2])
    if side <= _SIDE:
        return rgb
    size = (max(1, round(rgb.shape[1] * _SIDE / side)), max(1, round(rgb.shape[0] * _SIDE / side)))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
