"""When to stop a trial that is judged by several objectives at once.

Asynchronous successive halving (Li et al. 2020, ASHA) with the scalar rank replaced by a rank that is right for
several objectives: non-dominated front first, then the place within the front. A non-dominated trial is never
stopped, whatever the fraction asked for. Pure: no clock, no randomness, no Ray.
"""

import enum
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .pareto import ROUNDING, crowding_distance, epsilon_net_order, front_ranks

Within = Literal["crowding", "epsilon_net"]


class Decision(enum.Enum):
    """What a trial does after a rung."""

    CONTINUE = "continue"
    STOP = "stop"


class ParetoPruner:
    """Decides at each rung whether a trial goes on.

    A trial goes on when fewer than 1/reduction_factor of the configurations seen at this rung (its own included) are
    strictly better: on an earlier front, or on the same front and in an earlier place there. It also goes on when
    nothing dominates it, when fewer configurations than `reduction_factor` or `fewest` have reached the rung, and at
    the last rung (there is nothing left to save). Ties go to the trial.

    Trials of one configuration are replicas: their configuration stands at the mean of their values and takes one
    place however many they are. A replica goes on when its configuration does, or when no trial dominates its own
    values. Without `configuration` every trial is a configuration of its own.

    Args:
        rungs: the rungs in order of training length, as the caller names them (indices, steps or images seen).
        reduction_factor: eta > 1; about one in eta dominated trials survives a rung. math.inf or None: none is ever
            stopped.
        rung_values: {rung: keys}: which of the given values count at that rung. Rungs it does not name use
            every value given. Early rungs carry almost no memorization signal, so the default configuration
            names other values there.
        within: the order on one front. "crowding": by crowding distance (Deb et al. 2002, NSGA-II), the ends and the
            lonely first. "epsilon_net": by a greedy epsilon-net (Schmucker et al. 2021), which covers the front about
            evenly; it begins at the best trial in the first of the rung's values (of `rung_values`, else by name).
        fewest: configurations at a rung, its own included, before one is stopped there; at least 1.

    Raises:
        ValueError: rungs not strictly increasing, reduction_factor <= 1, rung_values for an unknown rung, an unknown
            `within`, fewest < 1.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: float | None,
        rung_values: Mapping[int, Sequence[str]] | None = None,
        *,
        within: Within = "crowding",
        fewest: int = 1,
    ) -> None:
        self.rungs = tuple(rungs)
        if not self.rungs or any(b <= a for a, b in zip(self.rungs, self.rungs[1:], strict=False)):
            raise ValueError(f"rungs must be one or more, strictly increasing: got {list(rungs)}")
        self.reduction_factor = math.inf if reduction_factor is None else float(reduction_factor)
        if not self.reduction_factor > 1:
            raise ValueError(f"reduction_factor must be above 1, or None to stop nobody: got {reduction_factor}")
        self.rung_values = {rung: tuple(dict.fromkeys(keys)) for rung, keys in (rung_values or {}).items()}
        unknown = sorted(set(self.rung_values) - set(self.rungs))
        if unknown or not all(self.rung_values.values()):
            raise ValueError(
                f"rung_values must name rungs of {list(self.rungs)} and a value for each: got {rung_values}"
            )
        if within not in get_args(Within):
            raise ValueError(f"within must be one of {list(get_args(Within))}: got {within!r}")
        if fewest < 1:
            raise ValueError(f"fewest must be at least 1: got {fewest}")
        self.within: Within = within
        self._fewest = max(self.reduction_factor, fewest)
        self._seen = {rung: _Seen(self.rung_values.get(rung)) for rung in self.rungs}

    def decide(
        self, trial: Hashable, rung: int, values: Mapping[str, float], *, configuration: Hashable | None = None
    ) -> Decision:
        """Record the trial's values at a rung and say whether it goes on.

        Asking again for the same trial and rung replaces its values, so a trial that is resumed may ask twice.

        Args:
            trial: the trial's name; anything hashable.
            rung: one of `rungs`.
            values: name -> value, all minimised, all finite; the same names at a rung for every trial.
            configuration: what the trial is a replica of; anything hashable. None: the trial itself, by its name, so
                replicas of trial 3 and trial 3 are one configuration when the replicas name 3.

        Raises:
            ValueError: unknown rung; a value missing or not finite; other names than the rung's earlier trials had;
                another configuration than the trial had at this rung. Nothing is recorded then.
        """
        self.record(trial, rung, values, configuration=configuration)
        seen = self._seen[rung]
        if rung == self.rungs[-1] or len(seen.configurations) < self._fewest or seen.undominated(trial):
            return Decision.CONTINUE
        points, place = seen.configurations.standing(seen.configuration_of[trial])
        keeps = _keeps_place(points, place, len(points) / self.reduction_factor, self.within)
        return Decision.CONTINUE if keeps else Decision.STOP

    def record(
        self, trial: Hashable, rung: int, values: Mapping[str, float], *, configuration: Hashable | None = None
    ) -> None:
        """Take in a trial's values without deciding: what a restarted judge is told of the past.

        Args and errors as for `decide`.
        """
        if rung not in self._seen:
            raise ValueError(f"trial {trial}: rung {rung} is not one of {list(self.rungs)}")
        self._seen[rung].take(trial, trial if configuration is None else configuration, values, rung)


class _Seen:
    """What has reached one rung: the trials' own values, and the configurations' means of them."""

    def __init__(self, keys: Sequence[str] | None) -> None:
        self._named = keys is not None
        self._keys = tuple(keys or ())
        self._replicas: dict[Hashable, dict[Hashable, tuple[float, ...]]] = {}
        self.configuration_of: dict[Hashable, Hashable] = {}
        self.trials, self.configurations = _Table(), _Table()

    def take(self, trial: Hashable, configuration: Hashable, values: Mapping[str, float], rung: int) -> None:
        keys = self._keys if self._named else tuple(sorted(values))
        missing = [key for key in keys if key not in values]
        if missing or not values:
            raise ValueError(f"trial {trial} gave no value for {missing or 'anything'} at rung {rung}")
        bad = {key: values[key] for key in keys if not _is_finite(values[key])}
        if bad:
            raise ValueError(f"trial {trial} gave values that are not finite at rung {rung}: {bad}")
        if self.configuration_of and keys != self._keys:
            raise ValueError(
                f"trial {trial} gave {list(keys)} at rung {rung}, where earlier trials gave {list(self._keys)}"
            )
        if self.configuration_of.get(trial, configuration) != configuration:
            raise ValueError(
                f"trial {trial} is of configuration {configuration} at rung {rung}, where it was of"
                f" {self.configuration_of[trial]} before"
            )
        row = tuple(float(values[key]) + 0.0 for key in keys)  # + 0.0: -0.0 is 0.0
        replicas = {**self._replicas.get(configuration, {}), trial: row}
        # Exact sums, so that the mean depends on nobody's order and the mean of equal values is that value.
        mean = row if len(replicas) == 1 else tuple(map(statistics.mean, zip(*replicas.values(), strict=True)))
        self._keys = keys
        self._replicas[configuration] = replicas
        self.configuration_of[trial] = configuration
        self.trials.put(trial, row)
        self.configurations.put(configuration, mean)

    def undominated(self, trial: Hashable) -> bool:
        """Whether no trial dominates this one."""
        points, place = self.trials.standing(trial)
        return not bool(_dominating(points, points[place]).any())


class _Table:
    """Rows of one length by name, in an array that grows by doubling."""

    def __init__(self) -> None:
        self._place: dict[Hashable, int] = {}
        self._rows = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._place)

    def put(self, name: Hashable, row: Sequence[float]) -> None:
        place = self._place.setdefault(name, len(self._place))
        if place == len(self._rows):
            grown = np.empty((max(16, 2 * place), len(row)))
            if place:
                grown[:place] = self._rows
            self._rows = grown
        self._rows[place] = row

    def standing(self, name: Hashable) -> tuple[NDArray[np.float64], int]:
        """All rows [N, M], and which of them is this name's."""
        return self._rows[: len(self._place)], self._place[name]


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # not a number, or one that no float can hold
        return False


def _dominating(points: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points [N, M] dominate this one [M]."""
    return np.asarray((points <= own).all(axis=1) & (points < own).any(axis=1))


def _keeps_place(points: NDArray[np.float64], index: int, places: float, within: Within) -> bool:
    """Whether points[index] is non-dominated, or fewer than `places` points rank strictly before it."""
    own = points[index]
    better = int(_dominating(points, own).sum())
    # A point's dominators are on earlier fronts, so where they fill the places nobody needs to sort the fronts. Those
    # that it dominates are on later ones and matter to no front up to its own: they are left out.
    if better == 0 or better >= places:
        return better == 0
    matter = ~_dominating(-points, -own)
    points, index = points[matter], int(matter[:index].sum())
    if len(points) - 1 < places:
        return True
    ranks = front_ranks(points)
    before, same = int((ranks < ranks[index]).sum()), np.flatnonzero(ranks == ranks[index])
    if before >= places or before + len(same) - 1 < places:  # whatever its place on its front
        return before < places
    place = int(np.searchsorted(same, index))
    if within == "epsilon_net":
        order = epsilon_net_order(points[same])
        before += int((order < order[place]).sum())
    else:
        crowding = crowding_distance(points[same])
        before += int((crowding > crowding[place] + ROUNDING).sum())
    return before < places
