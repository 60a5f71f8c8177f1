"""What a study remembers of a trial: plain values, the same in the storage, the judge, the tracking and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .pareto import hypervolume, pareto_front

State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Objectives:
    """The two scores that a search minimises, by their names among a rung's scores."""

    fidelity: str
    memorization: str

    def of(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """(fidelity, memorization) of one rung's scores."""
        return scores[self.fidelity], scores[self.memorization]


@dataclass(frozen=True)
class RungRecord:
    """One trained, sampled and scored rung: a candidate of the search.

    Attributes:
        rung: index, from 0.
        images_seen: training length so far, in images.
        scores: name -> value, with `<name>_low` and `<name>_high` for 95 % intervals.
        facts: what the scores depend on (extractor, weight hash, N, reference, seeds, ...).
        checkpoint: the folder of the rung's checkpoint.
        seconds: wall time of the rung, training and scoring.
    """

    rung: int
    images_seen: int
    scores: Mapping[str, float]
    facts: Mapping[str, Any]
    checkpoint: str
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "scores": dict(self.scores), "facts": dict(self.facts)}


@dataclass(frozen=True)
class TrialRecord:
    """One configuration and what became of it.

    Attributes:
        number: the trial's number in the study, from 0.
        arm: "ddpm" (sigma_tn = 0) or "ambient".
        settings: the training settings that this trial sets, searched and fixed ones.
        state: running | finished | stopped (by the judge) | failed.
        rungs: those scored so far, in order.
        reason: why it was stopped or has failed.
    """

    number: int
    arm: str
    settings: Mapping[str, Any]
    state: State = "running"
    rungs: tuple[RungRecord, ...] = ()
    reason: str = ""

    @property
    def label(self) -> str:
        """A short name for tables and figures: "DDPM" or the noise level and ratio."""
        if self.arm == "ddpm":
            return "DDPM"
        parts = [f"sigma_tn {self.settings['sigma_tn']:.3g}"] if "sigma_tn" in self.settings else []
        if "noisy_ratio" in self.settings:
            parts.append(f"ratio {self.settings['noisy_ratio']:.2f}")
        return ", ".join(parts) or f"trial {self.number}"

    def with_rung(self, record: RungRecord) -> "TrialRecord":
        """The same trial with a rung added, or replaced if it was there."""
        others = [r for r in self.rungs if r.rung != record.rung]
        return replace(self, rungs=tuple(sorted([*others, record], key=lambda r: r.rung)))


@dataclass(frozen=True)
class Candidate:
    """A rung of a trial as a point in the plane of the two objectives."""

    trial: TrialRecord
    rung: RungRecord
    fidelity: float
    memorization: float

    @property
    def point(self) -> tuple[float, float]:
        """(fidelity, memorization), both minimised."""
        return self.fidelity, self.memorization


@dataclass(frozen=True)
class Landscape:
    """All candidates of a study, its front, and the point that bounds its hypervolume."""

    candidates: tuple[Candidate, ...]
    reference: tuple[float, float] | None = field(default=None)

    @classmethod
    def of(cls, trials: Sequence[TrialRecord], objectives: Objectives) -> "Landscape":
        """Every scored rung of every trial is a candidate, also of trials that were stopped or failed later.

        The reference point is (DDPM's fidelity at its first rung, memorization 1): worse than that on either
        count nobody wants, and it is known once and for all when the first baseline has reached its first rung.
        """
        candidates = tuple(
            Candidate(trial, rung, *objectives.of(rung.scores)) for trial in trials for rung in trial.rungs
        )
        first = [c for c in candidates if c.rung.rung == 0]
        ddpm = [c for c in first if c.trial.arm == "ddpm"] or first
        return cls(candidates, (max(c.fidelity for c in ddpm), 1.0) if ddpm else None)

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The non-dominated candidates, best fidelity first."""
        on_front = pareto_front(np.array([c.point for c in self.candidates]).reshape(-1, 2))
        chosen = [c for c, keep in zip(self.candidates, on_front, strict=True) if keep]
        return tuple(sorted(chosen, key=lambda c: (c.point, c.trial.number, c.rung.rung)))

    @property
    def hypervolume(self) -> float:
        """Volume that the front dominates below the reference point; 0 before there is one."""
        return hypervolume([c.point for c in self.candidates], self.reference) if self.reference else 0.0

    def best_of(self, trial: TrialRecord) -> Candidate | None:
        """The rung at which a trial dominates the largest volume; its last one if it never beats the reference.

        This is what the sampler learns of a trial: training length is not a dimension of the search, so a
        configuration is as good as its best stop.
        """
        own = [c for c in self.candidates if c.trial.number == trial.number]
        if not own or self.reference is None:
            return own[-1] if own else None
        volumes = [hypervolume([c.point], self.reference) for c in own]
        return own[int(np.argmax(volumes))] if max(volumes) > 0 else own[-1]
