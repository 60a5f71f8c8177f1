"""The nearest are exactly those, where a float32 product alone cannot tell them, in little memory."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ambient_ray.evaluation import FeatureShapeError, memorized_fraction, nearest_cosine, neighbours, two_nearest


def exactly(queries, train):
    """Indices and distances of the two nearest, in float64, one pair after the other."""
    distance = np.array([np.linalg.norm(train - query, axis=1) for query in queries.astype(np.float64)])
    order = np.argsort(distance, axis=1)[:, :2]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("spread", [1.0, 1e-4, 1e-6])
def test_near_ties_are_told_apart(dtype, mean, spread):
    """All training images lie on a shell around a common centre, so distances differ in their last digits alone."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(200, 24))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    train = (mean + direction * (1 + spread * rng.random((200, 1)))).astype(dtype)
    queries = (mean + 1e-3 * rng.normal(size=(40, 24))).astype(dtype)
    index, distance = exactly(queries, train.astype(np.float64))
    found = two_nearest(queries, train)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)
    np.testing.assert_array_equal(found.index, index)


def test_many_candidates_are_looked_at_where_few_do_not_do(monkeypatch):
    """Twelve training images nearly as near as the second: the pass with more candidates, or float64, knows."""
    rng, calls = np.random.default_rng(1), []
    train = rng.normal(size=(300, 16)).astype(np.float32)
    query = train[:1] + np.float32(0.5)
    train[100:112] = query + (train[:1] - query) * np.float32(1 + 1e-7)
    search = neighbours._search

    def spied(rows, target, variants, dtype, kept):
        calls.append((len(rows), dtype, kept))
        return search(rows, target, variants, dtype, kept)

    monkeypatch.setattr(neighbours, "_search", spied)
    found = two_nearest(np.concatenate([query, train[200:210]]), train)
    _, distance = exactly(np.concatenate([query, train[200:210]]), train.astype(np.float64))
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)
    assert [(rows, kept) for rows, _, kept in calls[:2]] == [(11, 4), (1, 16)]


def cosines(queries, train):
    a, b = (x.astype(np.float64) for x in (queries, train))
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("near", [1e-5, 1e-7])
def test_a_copy_among_near_copies_has_cosine_1(near):
    rng = np.random.default_rng(2)
    train = rng.normal(size=(400, 64))
    train[100:103] = train[:1] + near * rng.normal(size=(3, 64))  # in float32 1e-7 is nothing
    index, cosine = nearest_cosine(3 * train[:40], train)
    assert np.array_equal(index, np.arange(40))
    assert np.abs(cosine - 1).max() <= 1e-15


def test_the_cosine_to_an_image_or_its_mirror_equals_brute_force():
    rng = np.random.default_rng(3)
    queries, train, mirrored = (rng.normal(size=(n, 12)).astype(np.float32) for n in (50, 90, 90))
    both = np.maximum(cosines(queries, train), cosines(queries, mirrored))
    index, cosine = nearest_cosine(queries, train, mirrored=mirrored)
    np.testing.assert_array_equal(index, both.argmax(axis=1))
    np.testing.assert_allclose(cosine, both.max(axis=1), rtol=1e-12)
    assert (cosine > nearest_cosine(queries, train)[1] + 0.01).any()
    copies = np.concatenate([mirrored[:20], train[20:40]])
    index, cosine = nearest_cosine(copies, train, mirrored=mirrored)
    assert np.array_equal(index, np.arange(40)) and np.abs(cosine - 1).max() <= 1e-15


def test_mirrored_features_of_other_images_are_refused():
    train = np.ones((5, 3), dtype=np.float32)
    with pytest.raises(FeatureShapeError, match="There are 4 mirrored training features for 5 training images"):
        nearest_cosine(train, train, mirrored=train[:4])


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    queries, train = (rng.integers(0, 256, size=(n, 5, 5, 3), dtype=np.uint8) for n in (70, 90))
    features, keys, mirrored = (rng.normal(size=(n, 20)) for n in (70, 90, 90))
    whole = two_nearest(queries, train, mirror=True, shift=1)
    similar = nearest_cosine(features, keys, mirrored=mirrored)
    monkeypatch.setattr(neighbours, "_KEYS", 7)
    monkeypatch.setattr(neighbours, "_BLOCK_VALUES", 5000)
    found = two_nearest(queries, train, mirror=True, shift=1)
    assert np.array_equal(found.index, whole.index) and np.array_equal(found.distance, whole.distance)
    index, cosine = nearest_cosine(features, keys, mirrored=mirrored)
    assert np.array_equal(index, similar[0])
    np.testing.assert_allclose(cosine, similar[1], rtol=1e-14)


def test_bytes_are_compared_as_numbers():
    rng = np.random.default_rng(5)
    queries, train = (rng.integers(0, 256, size=(n, 4, 4, 1), dtype=np.uint8) for n in (60, 80))
    _, distance = exactly(queries.reshape(60, -1), train.reshape(80, -1).astype(np.float64))
    found = two_nearest(queries, train)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)
    assert memorized_fraction(np.concatenate([train, queries]), train).value == pytest.approx(80 / 140, abs=0.02)


def test_read_only_and_reversed_arrays_are_searched_as_they_are():
    rng = np.random.default_rng(6)
    train = rng.normal(size=(80, 9)).astype(np.float32)
    turned = train[::-1, ::-1]
    for values in (train, turned):
        values.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (two_nearest(train, train).distance[:, 0] == 0).all()
        assert np.array_equal(two_nearest(turned, turned).index[:, 0], np.arange(80))
        assert np.array_equal(nearest_cosine(turned, turned)[0], np.arange(80))


class Waits(TorchDispatchMode):
    """Counts the operators whose result or shape the host must know before it goes on."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "masked_select")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("block", [1 << 22, 3000])
def test_the_device_waits_for_the_host_once_a_search_and_not_once_a_block(block, monkeypatch):
    rng, fetched = np.random.default_rng(7), []
    queries, train, mirrored = (rng.normal(size=(n, 5, 5, 3)).astype(np.float32) for n in (300, 200, 200))
    monkeypatch.setattr(neighbours, "_BLOCK_VALUES", block)
    fetch = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: fetched.append(len(self)) or fetch(self))
    with Waits() as seen:
        nearest_cosine(queries, train, mirrored=mirrored)
    assert seen.count == 0 and fetched == [300, 300]
    fetched.clear()
    with Waits() as seen:
        two_nearest(queries, train, mirror=True)
    assert fetched == [300, 300, 300]  # index, distance, certain
    assert seen.count <= 2  # the rows that are still open, of which there are none


GROWTH = """
import json, sys
import numpy as np
from ambient_ray.evaluation import nearest_cosine, two_nearest

def kib(name):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

def features(n, seed):
    values = np.random.default_rng(seed).random((n, 1536), dtype=np.float32)
    values.flags.writeable = False
    return values

find = {"two_nearest": two_nearest, "nearest_cosine": nearest_cosine}[sys.argv[1]]
find(features(300, 0), features(300, 1))
queries, train = features(int(sys.argv[2]), 2), features(int(sys.argv[3]), 3)
before = kib("VmRSS")
find(queries, train)
print(json.dumps((kib("VmHWM") - before) / 1024))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("find", ["two_nearest", "nearest_cosine"])
@pytest.mark.parametrize(("n", "m"), [(700, 16000), (12000, 500)])
def test_memory_is_one_copy_of_the_training_set_and_blocks(find, n, m):
    """The inputs are read-only and 4 and 94, or 70 and 3, MiB: no copy of the queries, one of the training set."""
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, find, str(n), str(m)], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(run.stdout) < m * 1536 * 4 / 2**20 + 150


def test_the_whole_search_is_done_with_the_extractors_device():
    from ambient_ray.evaluation.extractors import PixelExtractor, device_of

    class Elsewhere(PixelExtractor):
        device = "cuda:1"

    assert device_of(PixelExtractor()) == torch.device("cpu")
    assert device_of(Elsewhere()) == torch.device("cuda", 1)
    Elsewhere.device = torch.device("mps")  # without float64
    assert device_of(Elsewhere()) == torch.device("cpu")
