"""Pareto front, hypervolume, and the order by which trials are compared. All objectives are minimised.

moocore does the geometry (exact hypervolume in any dimension, Fonseca et al. 2006; non-dominated sorting).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Distances on a front, scaled to its range, that differ by less than this differ by rounding: they count as equal.
ROUNDING = 1e-9


def pareto_front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another when it is no worse in every objective and better in one, so equal points are on
    the front together.

    Args:
        points: [N, M], N points with M objectives each, all minimised. N may be 0.

    Returns:
        bool [N].

    Raises:
        ValueError: not two-dimensional, or a value that is not finite.
    """
    values = _finite(points, "points")
    if len(values) == 0:
        return np.zeros(0, dtype=bool)
    import moocore

    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume that the points dominate, bounded by the reference point: larger is better.

    Args:
        points: [N, M], all objectives minimised. Points that do not beat the reference in every objective add nothing.
        reference: [M], a point that is worse than all that matter.

    Returns:
        The volume, in the product of the objectives' units; 0 for no points.

    Raises:
        ValueError: shapes that do not fit, or a value that is not finite.
    """
    values = _finite(points, "points")
    bound = np.asarray(reference, dtype=np.float64)
    if bound.ndim != 1 or not np.isfinite(bound).all():
        raise ValueError(f"reference must be a finite vector [M], got shape {bound.shape}")
    if len(values) == 0:
        return 0.0
    if values.shape[1] != len(bound):
        raise ValueError(f"points have {values.shape[1]} objectives, the reference has {len(bound)}")
    import moocore

    return float(moocore.hypervolume(values, ref=bound))


def front_ranks(points: ArrayLike) -> NDArray[np.int64]:
    """The front that each point belongs to: 0 for the non-dominated, 1 for those left after removing them, ...

    (Non-dominated sorting, Deb et al. 2002, NSGA-II, section III-A.)

    Args:
        points: [N, M], all objectives minimised. N may be 0.

    Returns:
        int64 [N]; equal points have equal ranks.

    Raises:
        ValueError: not two-dimensional, or a value that is not finite.
    """
    values = _finite(points, "points")
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    if values.shape[1] == 1:  # a front a value, where peeling front after front would be quadratic
        return np.asarray(np.unique(values[:, 0], return_inverse=True)[1].reshape(-1), dtype=np.int64)
    import moocore

    return np.asarray(moocore.pareto_rank(values), dtype=np.int64)


def crowding_distance(points: ArrayLike) -> NDArray[np.float64]:
    """How alone each point stands among the points of its own front: larger is more alone, infinite at the ends.

    The sum over objectives of the gap between a point's neighbours, each objective scaled to its range over
    these points (Deb et al. 2002, NSGA-II, section III-B). Equal points share the place of one: they get equal
    distances, so that no answer depends on the order in which trials arrive.

    Args:
        points: [N, M], one front.

    Returns:
        float64 [N].
    """
    values, place = _distinct(points)
    distance = np.zeros(len(values))
    for column, share in zip(values.T, _over_their_range(values).T, strict=True):
        order = np.argsort(column, kind="stable")
        if column[order[0]] == column[order[-1]]:
            continue
        # Every point at an extreme value is an end, however many share it.
        distance[(column == column[order[0]]) | (column == column[order[-1]])] = np.inf
        distance[order[1:-1]] += share[order[2:]] - share[order[:-2]]
    if len(values) == 1:
        distance[:] = np.inf
    return np.asarray(distance[place])


def epsilon_net_order(points: ArrayLike) -> NDArray[np.int64]:
    """Each point's place in a greedy epsilon-net over its own front: 0 for the one that is kept longest.

    First comes the point that is best in the first objective, then always the point that is farthest from all that
    are placed, so the first k places cover the front about evenly for every k (Schmucker et al. 2021,
    Multi-objective Asynchronous Successive Halving; the order is Clarkson's 2006 greedy permutation). Distances are
    Euclidean with each objective scaled to its range over these points, so units do not matter. Equal points share
    the place of one; equal distances go to the point that is better in the first objective, then in the second, and
    so on, so that no answer depends on the order in which trials arrive.

    Args:
        points: [N, M], one front. N may be 0.

    Returns:
        int64 [N], in [0, number of distinct points).

    Raises:
        ValueError: not two-dimensional, or a value that is not finite.
    """
    values, place = _distinct(points)
    shares = np.ascontiguousarray(_over_their_range(values).T)
    order = np.zeros(len(values), dtype=np.int64)
    # Squared distances to the nearest point placed so far, -1 for those placed; np.unique has sorted the points.
    nearest = np.full(len(values), np.inf)
    for turn in range(len(values)):
        chosen = int(np.argmax(nearest >= nearest.max() * (1 - ROUNDING)))
        order[chosen] = turn
        apart = shares - shares[:, chosen, None]
        np.minimum(nearest, np.einsum("mn,mn->n", apart, apart), out=nearest)
        nearest[chosen] = -1.0
    return np.asarray(order[place])


def _distinct(points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The distinct points in lexicographic order, and for each point which of them it is."""
    values, place = np.unique(_finite(points, "points"), axis=0, return_inverse=True)
    return values, place.reshape(-1)


def _over_their_range(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column as a share of its range, in [0, 1]; 0 where a column is constant."""
    if len(values) == 0:
        return values
    low, high = values.min(axis=0), values.max(axis=0)
    with np.errstate(over="ignore"):
        huge = np.isinf(high - low)
    scale = np.where(huge, 0.5, 1.0)  # a range beyond the largest float, whose half is not
    spread = high * scale - low * scale
    return np.asarray((values * scale - low * scale) / np.where(spread > 0, spread, 1.0))


def _finite(points: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(points, dtype=np.float64)
    if values.ndim == 1 and values.size == 0:
        values = values.reshape(0, 1)
    if values.ndim != 2:
        raise ValueError(f"{name} must have shape [N, objectives], got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} hold a value that is not finite: such a trial has failed and is not compared")
    return values
