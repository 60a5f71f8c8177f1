"""The two nearest are exactly those, where a float32 product alone cannot tell them."""

import numpy as np
import pytest

from ambient_ray.evaluation import neighbours, two_nearest


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
