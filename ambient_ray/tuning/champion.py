"""The champion rule: which of many points in the plane of the two objectives one would take. Both are minimised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from .pareto import pareto_front

RuleName = Literal["matched", "knee", "max_memorization"]


class Scored(Protocol):
    """A point in the plane: a candidate of the search, or the mean of its replicas."""

    @property
    def fidelity(self) -> float:
        """Lower is better."""

    @property
    def memorization(self) -> float:
        """Lower is better."""


Point = TypeVar("Point", bound=Scored)


@dataclass(frozen=True)
class Rule:
    """How the champion is chosen.

    Attributes:
        name: "matched": the lowest memorization whose fidelity is within the tolerance of DDPM's best. "knee": the
            point of the front farthest below the chord between the front's ends. "max_memorization": the best
            fidelity with memorization of at most `max_memorization`.
        tolerance: "matched" and "within" mean fidelity <= (1 + tolerance) * DDPM's best.
        max_memorization: for the rule of that name.

    Raises:
        ValueError: the rule "max_memorization" without its bound, or a bound outside [0, 1].
    """

    name: RuleName = "matched"
    tolerance: float = 0.05
    max_memorization: float | None = None

    def __post_init__(self) -> None:
        """Check the bound."""
        bound = self.max_memorization
        if self.name == "max_memorization" and (bound is None or not 0 <= bound <= 1):
            raise ValueError(f"the rule max_memorization needs a bound from 0 to 1, got {bound}")

    def limit(self, best: float) -> float:
        """The worst fidelity that counts as matched, given DDPM's best (which may be below 0, as a KID can)."""
        return best + self.tolerance * abs(best)

    def order(
        self, points: Sequence[Point], best: float, useful: float | None = None
    ) -> tuple[list[Point], list[Point]]:
        """The points that the rule admits, the first choice first, and the others, nearest to being admitted first.

        Args:
            points: any number.
            best: DDPM's best fidelity.
            useful: for the knee, worse fidelity than this is of no use to anybody (`Study.reference`), so that the
                chord does not end at an untrained model that copies nothing. Ignored where no point is better.
        """
        if self.name == "matched":
            limit = self.limit(best)
            inside = [p for p in points if p.fidelity <= limit]
            outside = [p for p in points if p.fidelity > limit]
            return sorted(inside, key=_least_copying), sorted(outside, key=lambda p: (p.fidelity, p.memorization))
        if self.name == "max_memorization":
            bound = self.max_memorization or 0.0
            inside = [p for p in points if p.memorization <= bound]
            outside = [p for p in points if p.memorization > bound]
            return sorted(inside, key=lambda p: (p.fidelity, p.memorization)), sorted(outside, key=_least_copying)
        good = [p for p in points if useful is None or p.fidelity <= useful] or list(points)
        depth = dict(zip(map(id, good), knee_depth(good), strict=True))
        on_front = pareto_front(np.array([(p.fidelity, p.memorization) for p in good]).reshape(-1, 2))
        front = [p for p, keep in zip(good, on_front, strict=True) if keep]
        known = set(map(id, front))
        rest = [p for p in points if id(p) not in known]
        deepest = sorted(front, key=lambda p: (-depth[id(p)], p.fidelity))
        return deepest, sorted(rest, key=lambda p: (-depth.get(id(p), -np.inf), p.fidelity))


def knee_depth(points: Sequence[Scored]) -> list[float]:
    """How far each point lies below the chord between the ends of the points' front; negative above it.

    Both objectives are scaled to the front's range, so the chord runs from (0, 1) to (1, 0) (Das 1999, "On
    characterizing the knee of the Pareto curve"). A front of one point has no chord: all depths are 0.

    Args:
        points: [N].

    Returns:
        [N], in units of the scaled plane: at most 1/sqrt(2) for a point of the front.
    """
    plane = np.array([(p.fidelity, p.memorization) for p in points], dtype=np.float64).reshape(-1, 2)
    if len(plane) == 0:
        return []
    front = plane[pareto_front(plane)]
    low, span = front.min(axis=0), np.ptp(front, axis=0)
    if not (span > 0).all():
        return [0.0] * len(plane)
    return [float(d) for d in (1 - ((plane - low) / span).sum(axis=1)) / np.sqrt(2)]


def _least_copying(point: Scored) -> tuple[float, float]:
    return point.memorization, point.fidelity
