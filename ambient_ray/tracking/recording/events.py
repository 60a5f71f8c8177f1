"""What happens in a study, as the recorder's queue holds it: plain values, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.storage import Location

from ..models.promotion import Evidence
from ..models.registry import Registration


@dataclass(frozen=True)
class DatasetFacts:
    """The training data: name, SHA-256 of its content, where it came from, and what else is worth telling.

    shape: (C, H, W) of an image; profile: counts such as n_train, n_heldout, num_classes, skipped,
    duplicates.
    """

    name: str
    content_hash: str
    source: str
    shape: tuple[int, int, int] | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RungScores:
    """One rung of one trial.

    rung: from 0; images_seen: the x-axis of every metric; scores: flat, intervals as `<name>_low`,
    `<name>_high`; facts: how they were taken (extractor, weight_hash, n, reference, seeds); checkpoint: its
    place, or None; digest: SHA-256 of its description, "" where it is not known; seconds: what training and scoring it
    took; at: when it was scored, in seconds since 1970 (0: now).
    """

    rung: int
    images_seen: int
    scores: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Location | None = None
    seconds: float = 0.0
    at: float = 0.0
    digest: str = ""


@dataclass(frozen=True)
class StudyStarted:
    """The search begins or goes on. train_images uint8 [N,H,W,C]: for the galleries; None draws none.

    objectives: the names of the scores of fidelity and memorization; None: no view of them is saved. searched: the
    parameters that vary and that every trial has; conditional: those that exist in some trials only.
    """

    study: str
    params: Mapping[str, Any]
    tags: Mapping[str, Any]
    dataset: DatasetFacts | None
    train_images: NDArray[np.uint8] | None
    objectives: tuple[str, str] | None = None
    searched: tuple[str, ...] = ()
    conditional: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or is taken up again. parent: the trial that it replicates, or None."""

    number: int
    arm: str
    params: Mapping[str, Any]
    parent: int | None = None


@dataclass(frozen=True)
class RungScored:
    """A trial was scored at a rung."""

    number: int
    scored: RungScores


@dataclass(frozen=True)
class TrialNoted:
    """Something of a trial that is worth a line: what it waits for, goes on with, or got over."""

    number: int
    text: str


@dataclass(frozen=True)
class TrialEnded:
    """A trial ended. state: finished, stopped (by the judge), failed, or killed."""

    number: int
    state: str
    reason: str = ""


@dataclass(frozen=True)
class TrialReplayed:
    """A trial that an earlier life of the search ended; written only as far as it is not written yet."""

    started: TrialStarted
    rungs: tuple[RungScores, ...]
    ended: TrialEnded


@dataclass(frozen=True)
class Measured:
    """Metrics of a trial that are not a rung's own, at a training length: what its replicas say of it."""

    number: int
    images_seen: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FileLogged:
    """A file for the study's run, or a trial's."""

    path: Path
    folder: str
    number: int | None


@dataclass(frozen=True)
class TextLogged:
    """A text file for the study's run: `name` is its path among the artifacts."""

    text: str
    name: str


@dataclass(frozen=True)
class FiguresDue:
    """Pictures of the whole study are to be drawn: `draw` writes them into a folder and returns metrics of the study.

    Not for the disk: pictures that could not be shown are out of date, and the next are drawn anyway.
    """

    draw: Callable[[Path], Mapping[str, float]]
    images_seen: int


@dataclass(frozen=True)
class Afterwards:
    """Something to be done when all before is written. Not for the disk: whoever starts the study again asks again."""

    action: Callable[[], None]


@dataclass(frozen=True)
class FoundModel:
    """A checkpoint of a trial to register: why, as what (aliases), with which tags, and what trains it again."""

    number: int
    scored: RungScores
    evidence: Evidence
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)
    retrain: str = ""


@dataclass(frozen=True)
class ModelsFound:
    """Checkpoints to register as versions of `model`; what became of them goes to `registration`.

    command: the search's, kept with each version.
    """

    model: str
    models: tuple[FoundModel, ...]
    command: str
    registration: Future[Registration]


@dataclass(frozen=True)
class StudyFinished:
    """The search ended. state: finished, failed, or killed (Ctrl-C). note: shown on the run's page.

    images_seen: the training images that the study spent, at which the metrics stand.
    """

    metrics: Mapping[str, float]
    state: str
    note: str
    images_seen: int = 0


Event = (
    StudyStarted
    | TrialStarted
    | RungScored
    | TrialNoted
    | TrialEnded
    | TrialReplayed
    | Measured
    | FileLogged
    | TextLogged
    | FiguresDue
    | Afterwards
    | ModelsFound
    | StudyFinished
)
