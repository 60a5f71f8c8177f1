"""When to stop a trial that is judged by several objectives at once.

Asynchronous successive halving (Li et al. 2020, ASHA) with the scalar rank replaced by a rank that is right for
several objectives: non-dominated front first, crowding distance within a front. A non-dominated trial is never
stopped, whatever the fraction asked for. Pure: no clock, no randomness, no Ray.
"""

import enum
import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .pareto import crowding_distance, front_ranks


class Decision(enum.Enum):
    """What a trial does after a rung."""

    CONTINUE = "continue"
    STOP = "stop"


class ParetoPruner:
    """Decides at each rung whether a trial goes on.

    A trial goes on when fewer than 1/reduction_factor of the trials seen at this rung (itself included) are
    strictly better: on an earlier front, or on the same front and less crowded. It also goes on when nothing
    dominates it, when fewer than `reduction_factor` trials have reached the rung, and at the last rung (there
    is nothing left to save). Ties go to the trial.

    Args:
        rungs: the rungs in order of training length, as the caller names them (indices, steps or images seen).
        reduction_factor: eta > 1; about one in eta dominated trials survives a rung.
        rung_values: {rung: keys}: which of the given values count at that rung. Rungs it does not name use
            every value given. Early rungs carry almost no memorization signal, so the default configuration
            names other values there.

    Raises:
        ValueError: rungs not strictly increasing, reduction_factor <= 1, rung_values for an unknown rung.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: float,
        rung_values: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.rungs = tuple(rungs)
        if not self.rungs or any(b <= a for a, b in zip(self.rungs, self.rungs[1:], strict=False)):
            raise ValueError(f"rungs must be one or more, strictly increasing: got {list(rungs)}")
        if not (math.isfinite(reduction_factor) and reduction_factor > 1):
            raise ValueError(f"reduction_factor must be above 1, got {reduction_factor}")
        self.reduction_factor = float(reduction_factor)
        self.rung_values = {rung: tuple(keys) for rung, keys in (rung_values or {}).items()}
        unknown = sorted(set(self.rung_values) - set(self.rungs))
        if unknown or not all(self.rung_values.values()):
            raise ValueError(
                f"rung_values must name rungs of {list(self.rungs)} and a value for each: got {rung_values}"
            )
        self._seen: dict[int, dict[Hashable, dict[str, float]]] = {rung: {} for rung in self.rungs}

    def decide(self, trial: Hashable, rung: int, values: Mapping[str, float]) -> Decision:
        """Record the trial's values at a rung and say whether it goes on.

        Asking again for the same trial and rung replaces its values, so a trial that is resumed may ask twice.

        Args:
            trial: the trial's name; anything hashable.
            rung: one of `rungs`.
            values: name -> value, all minimised, all finite; the same names at a rung for every trial.

        Raises:
            ValueError: unknown rung, a value missing or not finite, or other names than the rung's earlier trials had.
        """
        self.record(trial, rung, values)
        if rung == self.rungs[-1]:
            return Decision.CONTINUE
        seen = self._seen[rung]
        keys = sorted(seen[trial])
        names = list(seen)
        points = np.array([[seen[name][key] for key in keys] for name in names])
        goes_on = len(names) < self.reduction_factor or _keeps_place(
            points, names.index(trial), len(names) / self.reduction_factor
        )
        return Decision.CONTINUE if goes_on else Decision.STOP

    def record(self, trial: Hashable, rung: int, values: Mapping[str, float]) -> None:
        """Take in a trial's values without deciding: what a restarted judge is told of the past."""
        if rung not in self._seen:
            raise ValueError(f"rung {rung} is not one of {list(self.rungs)}")
        missing = [key for key in self.rung_values.get(rung, ()) if key not in values]
        if missing or not values:
            raise ValueError(f"trial {trial} gave no value for {missing or 'anything'} at rung {rung}")
        counted = {key: float(values[key]) for key in self.rung_values.get(rung, tuple(values))}
        bad = {key: value for key, value in counted.items() if not math.isfinite(value)}
        if bad:
            raise ValueError(f"trial {trial} gave values that are not finite at rung {rung}: {bad}")
        for other in self._seen[rung].values():
            if other.keys() != counted.keys():
                raise ValueError(
                    f"trial {trial} gave {sorted(counted)} at rung {rung}, where earlier trials gave {sorted(other)}"
                )
            break
        self._seen[rung][trial] = counted


def _keeps_place(points: NDArray[np.float64], index: int, places: float) -> bool:
    """Whether points[index] is non-dominated, or fewer than `places` points rank strictly before it."""
    ranks = front_ranks(points)
    if ranks[index] == 0:
        return True
    same = np.flatnonzero(ranks == ranks[index])
    crowding = crowding_distance(points[same])
    less_crowded = crowding > crowding[np.flatnonzero(same == index)[0]]
    return bool((ranks < ranks[index]).sum() + less_crowded.sum() < places)
