"""Thumbnails show the first samples, small in bytes whatever the images are."""

import io

import numpy as np
import pytest
from PIL import Image

from ambient_ray.reporting.figures.thumbnails import image_type, samples_thumbnail


def opened(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def test_small_images_are_shown_pixel_by_pixel():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    shown = opened(samples_thumbnail(images))
    for k in range(16):
        y, x = k // 4 * 9, k % 4 * 9
        np.testing.assert_array_equal(shown[y : y + 8, x : x + 8], images[k].repeat(3, axis=2))


@pytest.mark.parametrize("shape", [(16, 256, 256, 3), (3, 64, 64, 4), (1, 32, 48, 3), (16, 40, 40, 3)])
def test_even_noise_stays_below_nine_kilobytes(shape):
    picture = samples_thumbnail(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))
    assert len(picture) <= 9_000 and image_type(picture) == "image/webp"
    assert max(opened(picture).shape[:2]) <= 163


def test_colours_of_large_images_survive():
    images = np.zeros((16, 128, 128, 3), dtype=np.uint8)
    images[5] = (200, 30, 90)
    shown = opened(samples_thumbnail(images)).astype(int)
    assert abs(shown[41 + 20, 41 + 20] - [200, 30, 90]).max() < 12


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="with n >= 1"):
        samples_thumbnail(np.zeros((0, 8, 8, 1), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_pictures_are_told_by_their_first_bytes(kind):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, kind)
    assert image_type(file.getvalue()) == f"image/{kind.lower()}"
    with pytest.raises(ValueError, match="PNG, JPEG"):
        image_type(b"<svg onload=...>")
