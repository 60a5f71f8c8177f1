"""Between stored images (uint8, NHWC) and what networks see (float32 in [-1, 1], NCHW)."""

import numpy as np
from numpy.typing import NDArray


def to_float(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """x = images / 127.5 - 1: uint8 [N,H,W,C] -> float32 [N,C,H,W] in [-1, 1], contiguous, one allocation.

    Raises ValueError for another dtype or another count of dimensions.
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [N,H,W,C], not {images.dtype} {list(images.shape)}")
    count, height, width, channels = images.shape
    x = np.empty((count, channels, height, width), dtype=np.float32)
    np.divide(images.transpose(0, 3, 1, 2), np.float32(127.5), out=x)
    x -= np.float32(1)
    return x


def to_uint8(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    """round((x + 1) * 127.5) clipped to 0..255: float [N,C,H,W] -> uint8 [N,H,W,C]; inverse of `to_float`.

    Infinities are clipped. Raises ValueError for NaN, for another dtype or another count of dimensions.
    """
    if not np.issubdtype(x.dtype, np.floating) or x.ndim != 4:
        raise ValueError(f"x must be floating [N,C,H,W], not {x.dtype} {list(x.shape)}")
    wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)  # half precision cannot count to 255 in halves
    scaled = wide + 1
    scaled *= 127.5
    if np.isnan(scaled).any():
        raise ValueError("x holds NaN, which is no pixel")
    np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled)
    return np.ascontiguousarray(scaled.transpose(0, 2, 3, 1), dtype=np.uint8)
