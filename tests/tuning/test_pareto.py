"""Front and hypervolume against definitions that fit on one line."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ambient_ray.tuning import hypervolume, pareto_front
from ambient_ray.tuning.pareto import crowding_distance, epsilon_net_order, front_ranks

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")

grid = st.integers(0, 5).map(float)
clouds = st.lists(st.tuples(grid, grid), min_size=1, max_size=20)
deep_clouds = st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[grid] * m), min_size=1, max_size=20))


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(clouds)
def test_the_front_is_what_nothing_dominates(points):
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert pareto_front(points).tolist() == expected


@given(deep_clouds)
def test_a_rank_is_the_longest_chain_of_points_that_each_dominate_the_next(points):
    def rank(p):
        return max((rank(q) + 1 for q in set(points) if dominates(q, p)), default=0)

    assert front_ranks(points).tolist() == [rank(p) for p in points]


def test_thousands_of_fronts_are_ranked_at_once():
    """As many fronts as points: peeling one after the other would take seconds."""
    chain = np.arange(5000.0)[::-1]
    for points in (chain[:, None], np.stack([chain, chain], axis=1)):
        assert (front_ranks(points) == chain).all()
    assert front_ranks(np.zeros((0, 3))).shape == (0,)


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


@given(deep_clouds)
def test_an_epsilon_net_places_the_farthest_of_the_rest_next(points):
    points = np.array(points)
    order = epsilon_net_order(points)
    distinct = np.unique(points, axis=0)
    assert sorted(set(order.tolist())) == list(range(len(distinct)))
    span = np.ptp(points, axis=0)
    placed = [points[order == k][0] / np.where(span > 0, span, 1) for k in range(len(distinct))]
    assert points[order == 0][0, 0] == points[:, 0].min()
    for k in range(1, len(placed)):
        nearest = [min(np.linalg.norm(p - q) for q in placed[:k]) for p in placed[k:]]
        assert nearest[0] == pytest.approx(max(nearest))


@given(deep_clouds, st.randoms())
def test_a_place_depends_on_the_point_and_not_on_when_it_came(points, rng):
    shuffled = points.copy()
    rng.shuffle(shuffled)
    for place in (epsilon_net_order, crowding_distance):
        at = dict(zip(points, place(points), strict=True))
        assert [at[p] for p in shuffled] == place(shuffled).tolist()


def test_a_net_covers_the_front_where_crowding_keeps_a_lonely_pair():
    """Of a cluster at each end and a pair in the middle, the first three places take one of each."""
    x = np.array([0.0, 0.01, 0.02, 0.5, 0.51, 0.98, 0.99, 1.0])
    order = epsilon_net_order(np.stack([x, 1 - x], axis=1))
    assert sorted(x[order < 3]) == [0.0, 0.5, 1.0]
    assert epsilon_net_order(np.zeros((0, 2))).shape == (0,)


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("offset", [0.0, 0.1, 17.3])
def test_equal_distances_stay_equal_in_units_that_round(scale, offset):
    x = np.arange(12.0)
    front, moved = (np.stack([a * x + b, -a * x + b], axis=1) for a, b in ((1, 0), (scale, offset)))
    assert (epsilon_net_order(moved) == epsilon_net_order(front)).all()


@given(st.lists(st.tuples(*[st.floats(-1.7e308, 1.7e308)] * 2), min_size=1, max_size=8))
@example([(-1.7e308, 1.7e308), (0.0, 0.0), (1.7e308, -1.7e308)])  # the range is no float
@example([(0.0, 0.0), (1e-200, 1e-200), (1.0, 1.0)])  # the square of a distance is no float
def test_no_finite_value_is_too_large_or_too_small(points):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert not np.isnan(crowding_distance(points)).any()
        order = epsilon_net_order(points)
    assert sorted(set(order.tolist())) == list(range(len({(a + 0.0, b + 0.0) for a, b in points})))
    assert order[points.index(min(points))] == 0


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1.0, float("nan")]]])
def test_malformed_points_are_refused(bad):
    with pytest.raises(ValueError, match="points"):
        pareto_front(bad)


def test_a_reference_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="objectives"):
        hypervolume([[1.0, 2.0]], [1.0, 2.0, 3.0])
