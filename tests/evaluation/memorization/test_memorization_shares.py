"""Neighbours against brute force; planted copies; the digits oracle of SCIENCE.md 3."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.data import load_images, split, to_float
from ambient_ray.errors import UserError
from ambient_ray.evaluation import (
    calibrated_tau,
    memorized_fraction,
    nearest_cosine,
    nearest_similarity,
    similarity_share,
    two_nearest,
)


@pytest.fixture(scope="module")
def digits():
    return split(load_images("digits"), 300, seed=0)


def brute_force(queries, train):
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - train[None].astype(np.float64), axis=2)
    return np.argsort(distances, axis=1)[:, :2], np.sort(distances, axis=1)[:, :2]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 30), m=st.integers(2, 60), d=st.integers(1, 20), seed=st.integers(0, 1000))
def test_two_nearest_equals_brute_force(n, m, d, seed):
    generator = np.random.default_rng(seed)
    queries, train = (generator.normal(size=(k, d)).astype(np.float32) for k in (n, m))
    found = two_nearest(queries, train)
    index, distance = brute_force(queries, train)
    assert np.array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)


def test_float32_products_that_cancel_are_searched_again():
    generator = np.random.default_rng(0)
    # Two far clusters: norms of 1e4, gaps of 1e-3: |x|^2 + |y|^2 - 2 <x, y> in float32 knows nothing of them.
    centres = np.where(np.arange(200) % 2, 1e4, -1e4)[:, None]
    train = centres + 1e-3 * generator.normal(size=(200, 6))
    queries = centres + 1e-3 * generator.normal(size=(200, 6))
    queries[:50] = train[100:150]
    found = two_nearest(queries, train)
    index, distance = brute_force(queries, train)
    assert np.array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-9)
    assert (found.distance[:50, 0] == 0).all()


def test_a_process_that_allows_reduced_precision_gets_the_same_neighbours():
    generator = np.random.default_rng(0)
    queries, train = (generator.normal(size=(50, 30)).astype(np.float32) for _ in range(2))
    before = two_nearest(queries, train)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        after = two_nearest(queries, train)
    finally:
        torch.set_float32_matmul_precision(precision)
    assert np.array_equal(before.index, after.index)
    assert np.array_equal(before.distance, after.distance)


def test_nearest_cosine_equals_brute_force():
    generator = np.random.default_rng(0)
    queries, train = generator.normal(size=(40, 8)), generator.normal(size=(90, 8))
    cosines = queries @ train.T / np.outer(*(np.linalg.norm(x, axis=1) for x in (queries, train)))
    index, cosine = nearest_cosine(torch.tensor(queries), torch.tensor(train))
    assert np.array_equal(index, cosines.argmax(1))
    np.testing.assert_allclose(cosine, cosines.max(1), rtol=1e-12)
    np.testing.assert_allclose(nearest_similarity(5 * train, train), 1, rtol=1e-14)
    assert nearest_similarity(np.zeros((1, 8)), train)[0] == 0


def test_copies_of_the_subset_are_all_found(digits):
    train = to_float(digits.train.images)
    assert memorized_fraction(train, train).value == 1
    assert similarity_share(nearest_similarity(train, train), 0.999).value == 1
    assert memorized_fraction(digits.train.images, digits.train.images).low > 0.98


def test_heldout_digits_are_not_copies(digits):
    estimate = memorized_fraction(to_float(digits.heldout.images), to_float(digits.train.images))
    assert estimate.value < 0.01
    assert estimate.high < 0.02


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_planted_share_lies_in_its_interval(digits, share):
    planted = int(share * 300)
    samples = np.concatenate([digits.train.images[:planted], digits.heldout.images[: 300 - planted]])
    estimate = memorized_fraction(samples, digits.train.images)
    assert estimate.low <= share <= estimate.high


def test_copies_with_pixel_noise_are_seen(digits):
    noise = 8 * np.random.default_rng(0).normal(size=digits.train.images.shape)
    noisy = np.clip(digits.train.images + noise, 0, 255).astype(np.uint8)
    assert memorized_fraction(noisy, digits.train.images).value > 0.99


def test_flipped_copies_are_found_only_if_mirrors_count(digits):
    train = digits.train.images
    flipped = np.ascontiguousarray(train[:, :, ::-1])
    unlike_their_mirror = np.abs(train.astype(int) - flipped).mean(axis=(1, 2, 3)) > 30
    flipped = flipped[unlike_their_mirror]
    assert len(flipped) > 100
    assert memorized_fraction(flipped, train).value < 0.02
    assert memorized_fraction(flipped, train, mirror=True).value == 1
    # The same with float images [N,C,H,W].
    assert memorized_fraction(to_float(flipped), to_float(train), mirror=True).value == 1


def test_an_image_like_its_own_mirror_hides_no_copy():
    generator = np.random.default_rng(0)
    half = generator.integers(0, 256, size=(40, 8, 4, 1), dtype=np.uint8)
    symmetric = np.concatenate([half, half[:, :, ::-1]], axis=2)
    found = two_nearest(symmetric, symmetric, mirror=True)
    assert (found.index[:, 0] != found.index[:, 1]).all()  # an image and its mirror are one neighbour, not two
    assert memorized_fraction(symmetric, symmetric, mirror=True).value == 1


@pytest.mark.parametrize("mirror", [False, True])
def test_moved_copies_are_found_only_if_shifts_count(digits, mirror):
    train = digits.train.images
    moved = np.roll(train, (1, -2), axis=(1, 2))
    moved = np.ascontiguousarray(moved[:, :, ::-1]) if mirror else moved
    assert memorized_fraction(moved, train).value < 0.02
    assert memorized_fraction(moved, train, shift=2, mirror=mirror).value == 1
    assert memorized_fraction(to_float(moved), to_float(train), shift=2, mirror=mirror).value == 1
    assert memorized_fraction(moved, train, shift=1, mirror=mirror).value < 0.2


def test_two_nearest_of_moved_and_mirrored_images_equals_brute_force():
    generator = np.random.default_rng(3)
    train, queries = (generator.normal(size=(n, 1, 5, 5)).astype(np.float32) for n in (40, 25))
    every = [
        np.roll(side, (y, x), axis=(2, 3)) for side in (train, train[..., ::-1]) for y in (-1, 0, 1) for x in (-1, 0, 1)
    ]
    distance = np.min(
        [np.sqrt(((queries[:, None].astype(float) - v[None]) ** 2).sum(axis=(2, 3, 4))) for v in every], axis=0
    )
    found = two_nearest(queries, train, mirror=True, shift=1)
    np.testing.assert_array_equal(found.index, distance.argsort(axis=1)[:, :2])
    np.testing.assert_allclose(found.distance, np.sort(distance, axis=1)[:, :2], rtol=1e-6)


def test_an_exact_copy_counts_even_if_its_original_is_there_twice():
    train = np.random.default_rng(0).normal(size=(20, 5))
    doubled = np.concatenate([train, train])
    assert memorized_fraction(train, doubled).value == 1
    assert memorized_fraction(train + 1e-3, doubled).value == 0  # why duplicates are dropped beforehand


def test_ten_exact_duplicates_exceed_the_candidates_and_still_count():
    train = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 10, axis=0)
    assert (two_nearest(train, train).distance == 0).all()


def test_the_null_calibrates_tau():
    null = np.random.default_rng(0).permutation(np.arange(10_000) / 10_000)
    tau, quantile = calibrated_tau(null)
    assert quantile == 0.999
    assert 5 <= (null > tau).sum() <= 10
    tau, quantile = calibrated_tau(null[:50])
    assert tau == null[:50].max()
    assert quantile == pytest.approx(50 / 51)


@pytest.mark.parametrize(
    ("generated", "train", "options", "words"),
    [
        (np.zeros((3, 4)), np.zeros((1, 4)), {}, "at least 2"),
        (np.zeros((3, 4)), np.zeros((5, 3)), {}, "same extractor"),
        (np.zeros((3, 4), np.uint8), np.zeros((5, 4)), {}, "different scales"),
        (np.zeros((3, 4)), np.zeros((5, 4)), {"mirror": True}, "only images"),
        (np.zeros((3, 4, 4, 4)), np.zeros((5, 4, 4, 4)), {"mirror": True}, "where the channels are"),
        (np.zeros((3, 4)), np.zeros((5, 4)), {"k": 1.5}, "k must lie"),
        (np.zeros((0, 4)), np.ones((5, 4)), {}, "at least 1"),
        (np.full((3, 4), np.inf), np.ones((5, 4)), {}, "infinite"),
    ],
)
def test_refuses_what_cannot_be_compared(generated, train, options, words):
    with pytest.raises(UserError, match=words):
        memorized_fraction(generated, train, **options)
