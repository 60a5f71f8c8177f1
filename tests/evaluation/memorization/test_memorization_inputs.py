"""What the scores of copying refuse, each in one sentence, and what they see through."""

import numpy as np
import pytest

from ambient_ray.errors import UserError
from ambient_ray.evaluation import (
    Cells,
    authentic_share,
    data_copying,
    mean_distance,
    partial_copies,
    reproducibility,
    training_radii,
    two_nearest,
    unique_memorization,
    usual_distance,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 12, 12, 3), dtype=np.uint8)


@pytest.mark.parametrize("height", [8, 12, 13])
def test_a_mirrored_part_is_found_where_training_flips(height):
    """The top half of mirror images; an image and its mirror image are one source, no rivals."""
    train = RNG.integers(0, 256, (30, height, 14, 1), dtype=np.uint8)
    samples = RNG.integers(0, 256, (10, height, 14, 1), dtype=np.uint8)
    samples[:4, : (height + 1) // 2] = train[5:9, : (height + 1) // 2, ::-1]
    samples[4:6] = train[[0, 1]]
    plain, flipped = partial_copies(samples, train), partial_copies(samples, train, mirror=True)
    assert plain.index.tolist() == [-1] * 4 + [0, 1] + [-1] * 4
    assert flipped.index.tolist() == [5, 6, 7, 8, 0, 1] + [-1] * 4
    assert flipped.share().value == 0.6 and plain.share().value == 0.2
    assert flipped.pixels(height, 14)[0, : height // 2].all() and not flipped.pixels(height, 14)[0, -1].any()
    assert flipped.area[4] == 1


def test_a_symmetric_training_image_is_no_rival_of_itself():
    train = RNG.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    train[3] = np.maximum(train[3], train[3, :, ::-1])
    assert partial_copies(train, train, mirror=True).share().value == 1


@pytest.mark.parametrize(
    ("images", "train", "options", "message"),
    [
        (IMAGES / 255, IMAGES, {}, "the generated images are float64"),
        (IMAGES, IMAGES[:, :3], {}, r"4 x 4 pixels or more, the training images are uint8 \[40, 3, 12, 3\]"),
        (IMAGES, IMAGES[:, :8], {}, "partial copies need one size"),
        (IMAGES, IMAGES[:1], {}, "at least 2 training images, got 1"),
        (IMAGES, IMAGES, {"k": 0}, r"k must lie in \(0, 1\], got 0"),
    ],
)
def test_partial_copies_refuse_what_cannot_be_compared(images, train, options, message):
    with pytest.raises(UserError, match=message):
        partial_copies(images, train, **options)


def test_shares_of_parts_and_pairs_refuse_what_makes_no_sense():
    found, features = partial_copies(IMAGES, IMAGES), RNG.normal(size=(20, 4))
    with pytest.raises(UserError, match=r"part of an image's area must lie in \(0, 1\], got 0"):
        found.share(0)
    with pytest.raises(UserError, match=r"tau=1\.5: a cosine threshold"):
        reproducibility(features, features, tau=1.5)
    with pytest.raises(UserError, match="20 and 19 samples are no pairs"):
        reproducibility(features, features[:19])
    with pytest.raises(UserError, match="one image alone has none"):
        training_radii(features[:1])
    with pytest.raises(UserError, match="more than the 5 training images that have a radius"):
        authentic_share(two_nearest(features, features), np.ones(5))
    with pytest.raises(UserError, match="needs at least one image"):
        mean_distance(np.zeros(0))
    with pytest.raises(UserError, match="at least two held-out images"):
        usual_distance(np.ones(1), 5)
    with pytest.raises(UserError, match="at least two held-out images, got 1"):
        data_copying(np.ones(5), np.zeros(5, int), np.ones(1), np.zeros(1, int))
    with pytest.raises(UserError, match="One distance and one cell for each of the samples"):
        data_copying(np.ones(5), np.zeros(4, int), np.ones(5), np.zeros(5, int))
    with pytest.raises(UserError, match="One index and one flag"):
        unique_memorization(np.zeros(3, int), np.zeros(4, bool), 5)


def test_radii_are_distances_to_others_and_duplicates_have_none():
    points = np.array([[0.0, 0], [3, 4], [3, 4], [10, 4]])
    assert training_radii(points).tolist() == [5, 0, 0, 7]


def test_cells_part_the_training_set_as_it_lies():
    """Three far groups of 40 points: as many cells, and each point in that of its group; few points are one cell."""
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    points = np.repeat(centres, 40, axis=0) + RNG.normal(size=(120, 2))
    cells = Cells.of(points[:119])
    assert len(cells.centres) == 3
    groups = [set(cells.containing(points[start : start + 40])) for start in (0, 40, 80)]
    assert all(len(group) == 1 for group in groups) and len(set.union(*groups)) == 3
    assert len(Cells.of(points[:29]).centres) == 1
