"""Published subsets: the drawn images, nested, in their classes' shares, whatever the order; no change goes unseen."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.data import ImageSet, SubsetError, TooFewImagesError, UnreadableFileError, load_images, split
from ambient_ray.data.split import quotas
from ambient_ray.data.subsets import index_list, published_lists, read_list, split_by, write_list


def image_set(sizes, *, labelled=True, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = rng.integers(0, 256, (len(labels), 4, 4, 1), dtype=np.uint8)
    return ImageSet(images, labels if labelled else None, [f"{i:04d}" for i in range(len(labels))], name="toy")


def drawn(whole, n, seed=0):
    return index_list(whole, split(whole, n, seed=seed), seed=seed)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 25), min_size=1, max_size=6), seed=st.integers(0, 2**40), data=st.data())
def test_lists_are_nested_stratified_and_those_of_the_split(sizes, seed, data):
    whole = image_set([*sizes, 4])
    wanted = data.draw(st.lists(st.integers(1, len(whole) - 2), min_size=1, max_size=4))
    lists = published_lists(whole, wanted, seed=seed)
    assert [listed.n for listed in lists] == sorted(set(wanted))
    for small, large in pairwise(lists):
        assert large.ids[: small.n] == small.ids
        assert large.positions[: small.n] == small.positions
    for listed in lists:
        parts = split(whole, listed.n, seed=seed)
        assert sorted(listed.ids) == parts.train.ids
        assert [whole.ids[position] for position in listed.positions] == list(listed.ids)
        assert listed == index_list(whole, parts, seed=seed)
        share = listed.n * np.array([*sizes, 4]) / len(whole)
        assert np.all(np.abs(np.bincount(parts.train.labels, minlength=len(share)) - share) < 1)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(30)), seed=st.integers(0, 9))
def test_the_order_of_files_changes_positions_alone(order, seed):
    whole = image_set([10, 13, 7])
    one, two = drawn(whole, 9, seed), drawn(whole.subset(order), 9, seed)
    assert one.ids == two.ids
    assert [order[position] for position in two.positions] == list(one.positions)


@settings(deadline=None, max_examples=30)
@given(labelled=st.booleans(), seed=st.integers(0, 99), n=st.integers(1, 20), heldout=st.sampled_from([None, 5]))
def test_a_list_gives_the_split_that_it_was_made_of(labelled, seed, n, heldout):
    whole = image_set([12, 9, 9], labelled=labelled)
    made = split(whole, n, seed=seed, heldout=heldout)
    again = split_by(drawn(whole, n, seed), whole, where="x", heldout=heldout)
    for side in ("train", "heldout"):
        assert getattr(again, side).ids == getattr(made, side).ids
        assert getattr(again, side).content_hash == getattr(made, side).content_hash
    np.testing.assert_array_equal(again.nested, made.nested)
    assert (again.duplicates, again.unused) == (made.duplicates, made.unused)


def test_the_three_published_sizes_of_a_set_come_back_from_their_files(tmp_path):
    digits = load_images("digits")
    lists = published_lists(digits, [300, 1000, 30], seed=0)
    paths = [write_list(listed, tmp_path / "digits") for listed in lists]
    assert [path.name for path in paths] == [f"subset-n{n}-seed0.json" for n in (30, 300, 1000)]
    assert [read_list(path) for path in paths] == lists
    assert (
        np.bincount(digits.labels[list(lists[1].positions)]).tolist()
        == quotas(np.bincount(digits.labels).tolist(), 300).tolist()
    )
    assert lists[1].sha256 == "6b5c2a4af2b556be6ed019fa6da39af11e6332ec94f3e741de71d5f282f91243"


@pytest.fixture
def written(tmp_path):
    """A set, and the file of a list of six of its images."""
    whole = image_set([12, 9, 9])
    return whole, write_list(drawn(whole, 6), tmp_path)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "key, value",
    [
        ("name", "other"),
        ("content_hash", "00"),
        ("seed", 1),
        ("positions", [0, 1, 2, 3, 4, 5]),
        ("ids", [f"{i:04d}" for i in range(6)]),
        ("sha256", "00"),
    ],
)
def test_any_change_is_seen(written, key, value):
    _, path = written
    change(path, **{key: value})
    with pytest.raises(
        SubsetError, match=r"n6-seed0\.json was changed since it was written: its sha256 is [0-9a-f]{64}"
    ):
        read_list(path)


def test_a_changed_order_is_seen(written):
    _, path = written
    content = json.loads(path.read_text())
    change(path, ids=content["ids"][::-1], positions=content["positions"][::-1])
    with pytest.raises(SubsetError, match="was changed since it was written"):
        read_list(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "another"},
        {"n": 7},
        {"n": True},
        {"ids": ["0001"] * 6},
        {"ids": [1, 2, 3, 4, 5, 6]},
        {"positions": ["0"] * 6},
        {"more": 1},
    ],
)
def test_what_is_no_list_is_refused(written, changes):
    _, path = written
    change(path, **changes)
    with pytest.raises(SubsetError, match=r"is no list of a subset: give a file as a study's folder holds one"):
        read_list(path)


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"[1, 2]", b"\xff\xfe\x00", b"images"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(SubsetError, match="is no list of a subset"):
            read_list(tmp_path / "x.json")
    with pytest.raises(UnreadableFileError, match=r"dataset\.subset=.*missing\.json cannot be read: No such file"):
        read_list(tmp_path / "missing.json")


def test_a_list_of_another_set_is_refused(written):
    whole, path = written
    listed = read_list(path)
    other = image_set([12, 9, 9], seed=1)
    with pytest.raises(
        SubsetError, match=r"dataset\.subset=mine is of toy with content \w{12}, and these images are toy .*resolution"
    ):
        split_by(listed, other, where="mine")
    renamed = ImageSet(whole.images, whole.labels, [f"img{image_id}" for image_id in whole.ids], name="toy")
    with pytest.raises(SubsetError, match=r"lists \d{4} at position \d+, where these images have img\d{4}: name the"):
        split_by(listed, renamed, where="mine")
    with pytest.raises(SubsetError, match=r"at position 99, where these images have none"):
        split_by(replace(listed, positions=(99, *listed.positions[1:])), whole, where="mine")


def test_a_listed_duplicate_and_a_list_of_everything_are_refused():
    plain = image_set([12, 9, 9])
    images = plain.images.copy()
    images[5] = images[2]
    whole = ImageSet(images, plain.labels, plain.ids)
    listed = drawn(whole, 6)
    positions = (5, *[position for position in listed.positions if position not in (2, 5)][:5])
    twice = replace(listed, positions=positions, ids=tuple(whole.ids[position] for position in positions))
    with pytest.raises(SubsetError, match="lists 0005, an exact duplicate of another image"):
        split_by(replace(twice, n=len(positions)), whole, where="mine")
    everything = replace(drawn(plain, 28), n=29)
    rest = next(position for position in range(30) if position not in everything.positions)
    everything = replace(everything, positions=(*everything.positions, rest), ids=(*everything.ids, plain.ids[rest]))
    with pytest.raises(TooFewImagesError, match="1 images are left to hold out"):
        split_by(everything, plain, where="mine")


def test_a_list_nested_too_deep_is_none(tmp_path):
    (tmp_path / "list.json").write_text("[" * 100_000)
    with pytest.raises(SubsetError, match="is no list of a subset"):
        read_list(tmp_path / "list.json")


def test_a_list_of_endless_names_gives_a_short_sentence(tmp_path):
    content = {
        "format": "ambient-ray subset 1", "name": "set", "content_hash": "c", "n": 1, "seed": 0, "ids": ["x" * 5000],
        "positions": [0], "sha256": "y" * 5000,
    }  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(SubsetError, match="was changed since it was written") as told:
        read_list(tmp_path / "list.json")
    assert len(str(told.value)) < 600
