"""Pareto front, hypervolume, and the order by which trials are compared. All objectives are minimised.

moocore does the geometry (exact hypervolume in any dimension, Fonseca et al. 2006; non-dominated sorting).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
        points: [N, M], all objectives minimised.

    Returns:
        int64 [N]; equal points have equal ranks.
    """
    values = _finite(points, "points")
    ranks = np.full(len(values), -1, dtype=np.int64)
    left, rank = np.arange(len(values)), 0
    while len(left):
        first = pareto_front(values[left])
        ranks[left[first]] = rank
        left, rank = left[~first], rank + 1
    return ranks


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
    values, place = np.unique(_finite(points, "points"), axis=0, return_inverse=True)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        spread = column[order[-1]] - column[order[0]]
        if spread == 0:
            continue
        # Every point at an extreme value is an end, however many share it.
        distance[(column == column[order[0]]) | (column == column[order[-1]])] = np.inf
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    if len(values) == 1:
        distance[:] = np.inf
    return np.asarray(distance[place.reshape(-1)])


def _finite(points: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(points, dtype=np.float64)
    if values.ndim == 1 and values.size == 0:
        values = values.reshape(0, 1)
    if values.ndim != 2:
        raise ValueError(f"{name} must have shape [N, objectives], got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} hold a value that is not finite: such a trial has failed and is not compared")
    return values
