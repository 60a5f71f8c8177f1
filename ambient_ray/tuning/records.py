"""What a study remembers of a trial: plain values, the same in the storage, the judge, the tracking and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .faults import Fault
from .pareto import hypervolume, pareto_front

# Settings that a plain DDPM's label need not repeat.
_NOT_SAID = frozenset({"sigma_tn", "noisy_ratio", "mixing"})

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
        checkpoint: the path or URL of the rung's checkpoint.
        seconds: wall time of the rung, training and scoring.
        at: when the search heard of it, in seconds since 1970; 0 where nobody noted it.
        turn: its place in the study's history (`TrialRecord.begun`).
        digest: SHA-256 of the checkpoint's description as its trial wrote it; "" where it is not known.
    """

    rung: int
    images_seen: int
    scores: Mapping[str, float]
    facts: Mapping[str, Any]
    checkpoint: str
    seconds: float = 0.0
    at: float = 0.0
    turn: int = 0
    digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "scores": dict(self.scores), "facts": dict(self.facts)}


@dataclass(frozen=True)
class TrialRecord:
    """One configuration and what became of it.

    Attributes:
        number: the trial's number in the study, from 0.
        arm: "ddpm" (the baseline, sigma_tn = 0), "rival" (sigma_tn = 0 too, but with other settings searched: weight
            decay, dropout, ...), or "ambient".
        settings: the training settings that this trial sets, searched and fixed ones.
        state: running | finished | stopped (by the judge) | failed.
        rungs: those scored so far, in order.
        reason: why it was stopped or has failed.
        replica_of: the trial whose configuration this one repeats on a fresh training seed; None for a trial of the
            search itself.
        source: who chose the configuration: baseline | enqueued | prior | sampler | replica.
        spared: for a stopped trial, the share of its training length that it did not have to run.
        noted: what the sampler noted about it.
        begun: its place in the study's history, in which every start, rung and end of a trial has its own, from 1 on;
            0 where nobody noted it.
        over: the place of its end, likewise.
        cause: why it has failed, one of `faults.CAUSES`; "" for trials that have not, and in older studies.
        faults: failures that it survived, in order.
        notes: what went wrong and was got over, in order: what it waited for, which checkpoint was damaged.
    """

    number: int
    arm: str
    settings: Mapping[str, Any]
    state: State = "running"
    rungs: tuple[RungRecord, ...] = ()
    reason: str = ""
    replica_of: int | None = None
    source: str = "sampler"
    spared: float = 0.0
    noted: Mapping[str, Any] = field(default_factory=dict)
    begun: int = 0
    over: int = 0
    cause: str = ""
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def waits(self) -> str:
        """What it waits for at the moment, as its last note says; "" while it does not."""
        last = self.notes[-1] if self.notes and not self.ended else ""
        return last if last.startswith("waits") else ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state != "running"

    @property
    def label(self) -> str:
        """A short name for tables and figures: "DDPM" or the noise level and ratio; a replica's names its seed."""
        if self.replica_of is not None:
            again = {key: value for key, value in self.settings.items() if key not in {"seed", "rungs"}}
            return f"{replace(self, settings=again, replica_of=None).label}, seed {self.settings['seed']}"
        if self.arm == "ddpm":
            return "DDPM"
        if self.arm == "rival":
            varied = [f"{key} {_short(value)}" for key, value in self.settings.items() if key not in _NOT_SAID]
            return ", ".join(["DDPM", *varied])
        parts = [f"sigma_tn {self.settings['sigma_tn']:.3g}"] if "sigma_tn" in self.settings else []
        if "noisy_ratio" in self.settings:
            parts.append(f"ratio {self.settings['noisy_ratio']:.2f}")
        others = [f"{key} {_short(value)}" for key, value in self.settings.items() if key not in _NOT_SAID]
        return ", ".join([*parts, *(others if len(others) <= 3 else [])]) or f"trial {self.number}"

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
    def of(
        cls,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None = None,
    ) -> "Landscape":
        """Every scored rung of every trial is a candidate, also of trials that were stopped or failed later.

        Replicas are not: they are the evidence about candidates, and choosing among them would be choosing luck.

        Args:
            trials: all trials of a study.
            objectives: the names of the two scores.
            reference: (fidelity limit, memorization limit), the study's (`Study.reference`); None before there is one.
        """
        own = [trial for trial in trials if trial.replica_of is None]
        return cls(candidates_of(own, objectives), reference)

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
        """The rung that stands for a trial: see `best_rung`."""
        return best_rung([c for c in self.candidates if c.trial.number == trial.number], self.reference)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def candidates_of(trials: Sequence[TrialRecord], objectives: Objectives) -> tuple[Candidate, ...]:
    """Every scored rung of the trials, in their order."""
    return tuple(Candidate(trial, rung, *objectives.of(rung.scores)) for trial in trials for rung in trial.rungs)


def best_rung(candidates: Sequence[Candidate], reference: tuple[float, float] | None) -> Candidate | None:
    """The rung at which a trial dominates the largest volume below the reference; its last if it never beats it.

    This is what the sampler learns of a trial: training length is not a dimension of the search, so a configuration
    is as good as its best stop.

    Args:
        candidates: one trial's rungs, in order.
        reference: the point that bounds the volume; None: not known yet, so the last rung it is.
    """
    if not candidates or reference is None:
        return candidates[-1] if candidates else None
    fidelity, memorization = reference
    volumes = [max(fidelity - c.fidelity, 0.0) * max(memorization - c.memorization, 0.0) for c in candidates]
    return candidates[int(np.argmax(volumes))] if max(volumes) > 0 else candidates[-1]


def settled_reference(
    trials: Sequence[TrialRecord], objectives: Objectives, delta: float
) -> tuple[float, float] | None:
    """(fidelity limit, 1), which bounds the hypervolume: (1 + delta) times DDPM's best fidelity over its rungs.

    DDPM is the first baseline that was scored or may yet be; where there is none, the first trial that ended stands in.
    None until it has ended.

    Args:
        trials: all of a study's, by number.
        objectives: the names of the two scores.
        delta: of the study (`Study.delta`).
    """
    own = [t for t in trials if t.replica_of is None]
    baselines = [t for t in own if t.arm == "ddpm" and (t.rungs or not t.ended)]
    first = next(iter(baselines or [t for t in own if t.rungs and t.ended]), None)
    if first is None or not first.ended or not first.rungs:
        return None
    best = min(objectives.of(rung.scores)[0] for rung in first.rungs)
    return best + delta * abs(best), 1.0  # a KID may be below 0


def violations(point: tuple[float, float], reference: tuple[float, float] | None, spared: float) -> dict[str, float]:
    """How far a trial is from being of use, 0 or less being feasible: by its fidelity, and by having been stopped.

    Args:
        point: its best rung.
        reference: the study's; None: no limit is known yet.
        spared: the share of its training length that it was spared by being stopped, in [0, 1].
    """
    excess = (point[0] - reference[0]) / (abs(reference[0]) or 1.0) if reference is not None else 0.0
    return {"fidelity": excess / (1 + excess) if excess > 0 else 0.0, "stopped": spared}
