"""Front and hypervolume against definitions that fit on one line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.tuning import hypervolume, pareto_front
from ambient_ray.tuning.pareto import crowding_distance, front_ranks

grid = st.integers(0, 5).map(float)
clouds = st.lists(st.tuples(grid, grid), min_size=1, max_size=20)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(clouds)
def test_the_front_is_what_nothing_dominates(points):
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert pareto_front(points).tolist() == expected


@given(clouds)
def test_every_later_front_is_dominated_by_the_one_before(points):
    ranks = front_ranks(points)
    for p, rank in zip(points, ranks, strict=True):
        before = [q for q, r in zip(points, ranks, strict=True) if r == rank - 1]
        assert rank == 0 or any(dominates(q, p) for q in before)


@given(clouds)
def test_hypervolume_counts_the_unit_cells_that_are_dominated(points):
    """On an integer grid the dominated volume is a count of unit squares."""
    cells = sum(any(a <= x and b <= y for a, b in points) for x in range(6) for y in range(6))
    assert hypervolume(points, [6.0, 6.0]) == pytest.approx(cells)


def test_points_beyond_the_reference_add_nothing():
    assert hypervolume([[2.0, 2.0]], [1.0, 1.0]) == 0.0
    assert hypervolume(np.zeros((0, 2)), [1.0, 1.0]) == 0.0


def test_crowding_is_infinite_at_the_ends_and_equal_for_equal_points():
    points = [[0.0, 4.0], [1.0, 2.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]
    distance = crowding_distance(points)
    assert np.isinf(distance[[0, 4]]).all()
    assert distance[1] == distance[2] == pytest.approx(3 / 4 + 3 / 4)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1.0, float("nan")]]])
def test_malformed_points_are_refused(bad):
    with pytest.raises(ValueError, match="points"):
        pareto_front(bad)


def test_a_reference_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="objectives"):
        hypervolume([[1.0, 2.0]], [1.0, 2.0, 3.0])
