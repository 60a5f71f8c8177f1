"""Pictures show what they claim: the right neighbours, every image, whole pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ambient_ray.evaluation import partial_copies
from ambient_ray.tracking.drawing.galleries import nearest_gallery, nearest_training, partial_gallery, sample_grid


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 9))
def test_nearest_training_images_are_those_of_brute_force(seed: int, n_train: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.integers(0, 256, (n_train, 4, 4, 3), dtype=np.uint8)
    generated = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    generated[0] = train[-1]
    d = np.linalg.norm((generated[:, None].astype(float) - train[None].astype(float)).reshape(n, n_train, -1), axis=2)
    nearest = nearest_training(generated, train)
    np.testing.assert_allclose(d[np.arange(n), nearest.index], d.min(axis=1), rtol=1e-5)
    ordered = np.sort(d, axis=1)
    np.testing.assert_allclose(nearest.ratio, ordered[:, 0] / ordered[:, 1], rtol=1e-4, atol=1e-6)
    assert nearest.ratio[0] == 0


def test_nearest_of_one_or_of_equal_training_images_has_no_gap() -> None:
    one = np.full((1, 2, 2, 1), 9, dtype=np.uint8)
    assert nearest_training(one, one).ratio.tolist() == [1.0]
    assert nearest_training(one, one.repeat(3, axis=0)).ratio.tolist() == [1.0]


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3), (64, 64, 4), (7, 9, 3)])
def test_a_grid_shows_every_pixel_of_every_image(shape: tuple[int, int, int], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 200, (5, *shape), dtype=np.uint8)
    shown = np.asarray(Image.open(sample_grid(images, tmp_path / "grid.png")))
    factor = max(1, -(-48 // max(shape[:2])))
    gap = max(2, shape[0] * factor // 24)
    for k, image in enumerate(images):
        y = gap + k // 3 * (shape[0] * factor + gap)
        x = gap + k % 3 * (shape[1] * factor + gap)
        tile = shown[y : y + shape[0] * factor : factor, x : x + shape[1] * factor : factor]
        np.testing.assert_array_equal(tile, np.broadcast_to(image[:, :, :3], (*shape[:2], 3)))
    assert (shown[:gap] == 255).all()


def test_a_gallery_puts_the_most_similar_first_and_frames_copies_only(tmp_path: Path) -> None:
    levels = np.array([60, 120, 180], dtype=np.uint8)
    images = levels[:, None, None, None].repeat(8, axis=1).repeat(8, axis=2)
    path = nearest_gallery(images, images, np.array([0.9, 0.1, 0.5]), tmp_path / "gallery.png", columns=3)
    picture = np.asarray(Image.open(path))[..., :3].astype(int)
    middle = picture[int(picture.shape[0] * 0.62)]
    greys = [level for level in middle[:, 0] if level in levels]
    assert list(dict.fromkeys(greys)) == [120, 180, 60]
    vermillion = (abs(picture - np.array([0xD5, 0x5E, 0x00])).sum(axis=2) < 30).any(axis=0).nonzero()[0]
    assert len(vermillion) and vermillion.max() < picture.shape[1] / 3  # the first pair alone
    order = np.array([0, 2, 1])
    path = nearest_gallery(images, images, np.ones(3), tmp_path / "by.png", order=order, columns=3)
    middle = np.asarray(Image.open(path))[int(picture.shape[0] * 0.62), :, 0]
    assert next(level for level in middle if level in levels) == 60


def test_partial_copies_are_shown_with_the_part_that_is_copied(tmp_path: Path) -> None:
    """The left half of training image 3 beside something else: it is drawn in colour, and the rest faded."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    samples = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    samples[4, :, :8] = train[3, :, :8]
    found = partial_copies(samples, train)
    assert found.index.tolist() == [-1, -1, -1, -1, 3, -1] and found.area[4] == 0.5
    path = partial_gallery(samples, train, found, tmp_path / "partial.png")
    assert path is not None
    drawn = np.asarray(Image.open(path).convert("RGB"))
    whole, faded = samples[4, 0, 0], 255 - (255 - samples[4, 0, 15].astype(int)) // 5
    assert (drawn == whole).all(axis=2).any() and (drawn == faded).all(axis=2).any()
    assert not (drawn == samples[4, 0, 15]).all(axis=2).any()
    assert partial_gallery(samples[:4], train, partial_copies(samples[:4], train), tmp_path / "none.png") is None
