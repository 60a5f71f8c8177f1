"""Another study's trials as knowledge that fades: where a search of other data, or of another n_train, starts from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, create_trial

from ambient_ray.errors import UserError

from .pareto import front_ranks
from .points import distribution, values_in
from .records import Objectives, TrialRecord, best_rung, candidates_of, violations
from .space import Space

# Own trials over which knowledge from elsewhere fades by half: another study's trials, and the user's beliefs.
FADES_OVER = 10
_MOST = 40


class WarmStartError(UserError):
    """A study whose trials cannot be prior knowledge of this one."""


@dataclass(frozen=True)
class Transfer:
    """What another study found, in a form that a sampler can be told.

    Its trials are told to the sampler as observations beside the study's own, with fidelity in units of each study's
    own limit (`Study.reference`), so that another data set's scale does not matter. They are discounted by their
    number: at most 40 at the start, half as many for every 10 own trials more, so what the study sees for itself
    outweighs them and in the end none is left.

    Attributes:
        points: (values, fidelity / limit, memorization, stopped) of each trial.
    """

    points: tuple[tuple[Mapping[str, Any], float, float, bool], ...]

    @classmethod
    def of(
        cls,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
        defaults: Mapping[str, Any],
        space: Space,
    ) -> "Transfer":
        """From another study.

        Args:
            trials: its trials.
            objectives: its objectives.
            reference: its reference; without one there is no scale to compare on.
            defaults: settings that it did not vary, for parameters that only this study searches.
            space: what this study searches.

        Raises:
            WarmStartError: nothing of it lies within this space.
        """
        points = []
        for trial in trials:
            best = best_rung(candidates_of([trial], objectives), reference)
            values = values_in(space, {**defaults, **trial.settings})
            if trial.replica_of is None and trial.ended and best is not None and values is not None and reference:
                points.append((values, best.fidelity / _scale(reference), best.memorization, trial.state == "stopped"))
        if not points:
            raise WarmStartError(
                f"none of its {len(trials)} trials lies within the search space {space.name!r}"
                f" ({', '.join(space.parameters)}), so nothing can be learnt from it"
            )
        return cls(tuple(points))

    def kept(self, ended: int) -> int:
        """How many of its trials still count when the study has `ended` trials of its own."""
        start = min(_MOST, len(self.points))
        return start >> (ended // FADES_OVER)

    def trials(self, space: Space, reference: tuple[float, float] | None, count: int) -> list[FrozenTrial]:
        """The `count` trials that tell most, half of them the best, as Optuna's.

        Args:
            space: what this study searches.
            reference: this study's, by which fidelities are scaled; None: 1 is the limit.
            count: from `kept`.
        """
        if count == 0:
            return []
        ranks = front_ranks(np.array([[fidelity, copies] for _, fidelity, copies, _ in self.points]))
        stopped = np.array([was for *_, was in self.points])
        order = np.lexsort((ranks, stopped))
        good, rest = order[: math.ceil(count / 2)], order[math.ceil(count / 2) :]
        even = rest[np.linspace(0, len(rest) - 1, min(count - len(good), len(rest))).astype(int)] if len(rest) else rest
        limit = _scale(reference)
        found = []
        for i in (*good, *even):
            values, fidelity, copies, was = self.points[i]
            point = (fidelity * limit, copies)
            found.append(
                create_trial(
                    params=dict(values),
                    distributions={name: distribution(space.parameters[name]) for name in values},
                    values=list(point),
                    constraints=violations(point, (limit, 1.0), 0.5 if was else 0.0),
                )
            )
        return found


def _scale(reference: tuple[float, float] | None) -> float:
    """The unit of fidelity: a study's own limit, where it is one (a KID's may be below 0)."""
    return reference[0] if reference is not None and reference[0] > 0 else 1.0
