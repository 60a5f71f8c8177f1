"""The split: exact, stratified, nested, indifferent to order, and free of duplicates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.data import ImageSet, TooFewImagesError, split
from ambient_ray.data.split import quotas
from ambient_ray.errors import UserError

sizes_lists = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def image_set(sizes, *, labelled=True, seed=0):
    """Different random images, `sizes[c]` of class c, in shuffled order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = rng.integers(0, 256, (len(labels), 4, 4, 1), dtype=np.uint8)
    ids = [f"{index:04d}" for index in range(len(labels))]
    return ImageSet(images, labels if labelled else None, ids)


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 15), min_size=1, max_size=8))
def test_quotas_are_exact_fair_and_monotone(sizes):
    total = sum(sizes)
    before = np.zeros(len(sizes), dtype=np.int64)
    for n in range(total + 1):
        given_now = quotas(sizes, n)
        share = n * np.asarray(sizes) / total
        assert given_now.sum() == n
        assert np.all(np.abs(given_now - share) < 1 - 1e-12)
        assert np.all(given_now >= before)
        assert np.all(given_now <= sizes)
        before = given_now


def test_quotas_of_equal_classes_are_equal():
    assert quotas([6000] * 10, 300).tolist() == [30] * 10


@settings(deadline=None, max_examples=50)
@given(sizes=sizes_lists, labelled=st.booleans(), seed=st.integers(), data=st.data())
def test_divides_the_set_and_nests(sizes, labelled, seed, data):
    whole = image_set([*sizes, 4], labelled=labelled)
    small, large = sorted(data.draw(st.lists(st.integers(1, len(whole) - 2), min_size=2, max_size=2)))
    one, two = split(whole, small, seed=seed), split(whole, large, seed=seed)
    assert len(one.train) == small
    assert sorted(one.train.ids + one.heldout.ids) == sorted(whole.ids)
    assert one.train.ids == sorted(one.train.ids)
    assert set(one.train.ids) <= set(two.train.ids)
    assert one.duplicates == ()
    for side in (one.train, one.heldout):
        assert side.num_classes == whole.num_classes
        for index, image_id in enumerate(side.ids):
            np.testing.assert_array_equal(side.images[index], whole.images[whole.ids.index(image_id)])


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(30)), seed=st.integers(0, 5))
def test_order_of_the_input_changes_nothing(order, seed):
    whole = image_set([10, 13, 7])
    copied = whole.images.copy()
    copied[4] = copied[17]
    whole = ImageSet(copied, whole.labels, whole.ids)
    plain, shuffled = split(whole, 9, seed=seed), split(whole.subset(order), 9, seed=seed)
    assert plain.train.ids == shuffled.train.ids
    assert plain.train.content_hash == shuffled.train.content_hash
    assert plain.heldout.content_hash == shuffled.heldout.content_hash
    assert plain.duplicates == shuffled.duplicates == (("0004", "0017"),)


def test_seeds_draw_different_images():
    whole = image_set([50, 50])
    drawn = {tuple(split(whole, 20, seed=seed).train.ids) for seed in range(20)}
    assert len(drawn) == 20


def test_every_image_is_equally_likely():
    whole = image_set([20, 20], labelled=True)
    counts = dict.fromkeys(whole.ids, 0)
    for seed in range(400):
        for image_id in split(whole, 10, seed=seed).train.ids:
            counts[image_id] += 1
    # binomial with p = 1/4: mean 100, deviation 8.7
    assert min(counts.values()) > 65
    assert max(counts.values()) < 135


def test_exact_duplicates_are_reported_and_dropped_from_both_sides():
    images = np.zeros((9, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = [1, 2, 1, 3, 1, 4, 3, 5, 6]
    found = split(ImageSet(images, None, list("abcdefghi")), 3, seed=0)
    assert found.duplicates == (("a", "c", "e"), ("d", "g"))
    assert found.dropped == 3
    assert sorted(found.train.ids + found.heldout.ids) == ["a", "b", "d", "f", "h", "i"]
    assert found.describe() == "images: 3 for training, 3 held out, 3 exact duplicates dropped"


def test_duplicates_in_different_classes_keep_the_first():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).copy()
    images[5] = images[0]
    found = split(ImageSet(images, np.array([0, 0, 0, 1, 1, 1]), list("abcdef")), 2, seed=0)
    assert found.duplicates == (("a", "f"),)
    assert "f" not in found.train.ids + found.heldout.ids


@pytest.mark.parametrize("n_train", [0, -3, 9, 10, 1000])
def test_too_large_or_small_a_subset_is_one_sentence(n_train):
    with pytest.raises(TooFewImagesError) as caught:
        split(image_set([5, 5]), n_train, seed=0)
    assert isinstance(caught.value, UserError)
    why = "the set has 10 images, of which at least 2 must be held out; choose 1 to 8"
    assert str(caught.value) == f"dataset.n_train={n_train}: {why}"


def test_the_error_counts_after_duplicates():
    images = np.zeros((6, 2, 2, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = [1, 1, 1, 2, 3, 4]
    whole = ImageSet(images, None, list("abcdef"))
    with pytest.raises(TooFewImagesError, match=r"4 images after 2 exact duplicates are dropped.*choose 1 to 2$"):
        split(whole, 3, seed=0)
    assert len(split(whole, 2, seed=0).heldout) == 2
    with pytest.raises(TooFewImagesError, match=r"has 1 image after 2 exact.*give more images"):
        split(whole.subset([0, 1, 2]), 1, seed=0)


@settings(deadline=None, max_examples=40)
@given(sizes=sizes_lists, labelled=st.booleans(), seed=st.integers(0, 9), data=st.data())
def test_the_nested_order_begins_with_every_smaller_split(sizes, labelled, seed, data):
    whole = image_set([*sizes, 4], labelled=labelled)
    small, large = sorted(data.draw(st.lists(st.integers(1, len(whole) - 2), min_size=2, max_size=2)))
    one, two = split(whole, small, seed=seed), split(whole, large, seed=seed)
    assert sorted(two.nested.tolist()) == list(range(large))
    part = two.train.subset(np.sort(two.nested[:small]))
    assert part.ids == one.train.ids
    assert part.content_hash == one.train.content_hash
