"""What the pictures of a study are drawn from: its records, and what is read off them once for all pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ambient_ray.tuning.pareto import pareto_front
from ambient_ray.tuning.records import Candidate, Objectives, TrialRecord, best_rung


@dataclass(frozen=True)
class StudyView:
    """A study as it stands.

    Attributes:
        name: the study's.
        trials: all of them, replicas included.
        objectives: the names of the two scores.
        reference: what bounds the hypervolume; None: not known yet.
        rungs: training length at each rung, in images.
        searched: names of the searched parameters, those that matter most first.
        champion: (trial number, rung index).
        running: whether more is to come.
    """

    name: str
    trials: Sequence[TrialRecord]
    objectives: Objectives
    reference: tuple[float, float] | None
    rungs: tuple[int, ...]
    searched: tuple[str, ...]
    champion: tuple[int, int] | None = None
    running: bool = False

    @cached_property
    def own(self) -> tuple[TrialRecord, ...]:
        """The search's trials, without replicas."""
        return tuple(trial for trial in self.trials if trial.replica_of is None)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every rung of the search's trials whose two objectives are finite."""
        return finite_candidates(self.own, self.objectives)

    @cached_property
    def front(self) -> tuple[Candidate, ...]:
        """The candidates that no other dominates, best fidelity first."""
        keep = pareto_front(np.array([c.point for c in self.candidates]).reshape(-1, 2))
        chosen = [c for c, kept in zip(self.candidates, keep, strict=True) if kept]
        return tuple(sorted(chosen, key=lambda c: (c.point, key_of(c))))

    @cached_property
    def best(self) -> tuple[Candidate, ...]:
        """The rung that stands for each trial (`best_rung`), by number."""
        rungs: dict[int, list[Candidate]] = {}
        for candidate in self.candidates:
            rungs.setdefault(candidate.trial.number, []).append(candidate)
        found = (best_rung(some, self.reference) for _, some in sorted(rungs.items()))
        return tuple(candidate for candidate in found if candidate is not None)

    @cached_property
    def ddpm(self) -> tuple[Candidate, ...]:
        """The first plain DDPM's stops, in the order of training."""
        plain = [c for c in self.candidates if c.trial.arm == "ddpm"]
        first = min((c.trial.number for c in plain), default=None)
        return tuple(sorted((c for c in plain if c.trial.number == first), key=lambda c: c.rung.rung))

    @property
    def unfinished(self) -> str:
        """What a title adds while more is to come."""
        return f" (still running, {len(self.own)} trials so far)" if self.running else ""


def key_of(candidate: Candidate) -> tuple[int, int]:
    """(trial number, rung index): which candidate it is."""
    return candidate.trial.number, candidate.rung.rung


def finite_candidates(trials: Sequence[TrialRecord], objectives: Objectives) -> tuple[Candidate, ...]:
    """Every rung whose two objectives were measured and are finite: a model that diverged is no candidate."""
    nan = math.nan
    found = [
        Candidate(
            trial,
            rung,
            rung.scores.get(objectives.fidelity, nan),
            rung.scores.get(objectives.memorization, nan),
        )
        for trial in trials
        for rung in trial.rungs
    ]
    return tuple(c for c in found if math.isfinite(c.fidelity) and math.isfinite(c.memorization))
