"""What flows in and out of a trial: data, its place among the workers, results, whom it reports to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ambient_ray.data import ImageSet
from ambient_ray.errors import UserError
from ambient_ray.storage import Location

Fact = str | int | float


class TrialInputError(UserError):
    """A trial's data, settings and workers do not fit together."""


@dataclass(frozen=True)
class TrainingData:
    """What a trial reads, the same for all trials of a study.

    train, heldout: the split's sides. noise_bank: float32 [N,draws,C,H,W] of unit variance, row i for
    train.ids[i]; None is allowed where no noise is used. extractor, references: what `evaluate` needs (None
    with a scorer of one's own). nested: int64 [N], the order in which images join as n_train grows (`Split.nested`);
    None is allowed where no trial has an n_train of its own. rows: int64 [n], which of the study's training images
    these are, where they are a part of them (`own_subset`); None: all.
    """

    train: ImageSet
    heldout: ImageSet
    noise_bank: npt.NDArray[np.float32] | None = None
    extractor: Any = None
    references: Any = None
    nested: npt.NDArray[np.int64] | None = None
    rows: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class World:
    """This process among the workers; with size > 1, torch.distributed must be initialised already."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def checkpoint_name(rung: int, images_seen: int) -> str:
    """The name of a rung's checkpoint folder; names sort in the order of training."""
    return f"rung-{rung:02d}-{images_seen:09d}"


def pause_name(images_seen: int) -> str:
    """The name of a checkpoint that was written between rungs, because the workers had to leave."""
    return f"pause-{images_seen:09d}"


def progress_of(name: str) -> tuple[int, bool] | None:
    """How far the checkpoint of this name is: (images seen, whether it is a rung's); None for other names.

    Checkpoints compare by it: of two that are as far, the rung's is the further one, as it is scored.
    """
    kind, _, rest = name.partition("-")
    images = rest.rpartition("-")[2]
    return (int(images), kind == "rung") if kind in ("rung", "pause") and images.isdigit() else None


@dataclass(frozen=True)
class RungResult:
    """A scored checkpoint.

    rung: index into the settings' rungs; images_seen: by all workers; scores: flat numbers by name; facts:
    how they were taken; checkpoint: where the complete one is (None on ranks other than 0); seconds: training and
    scoring since the last rung; digest: SHA-256 of the checkpoint's description, in hex, "" where it is not known;
    problem: why the checkpoint could not be kept, with which the trial has failed; scored_at: this process's monotonic
    seconds when it was scored, after which its checkpoint is kept.
    """

    scored_at: float = field(default_factory=time.monotonic, kw_only=True, compare=False, repr=False)
    rung: int
    images_seen: int
    scores: Mapping[str, float]
    facts: Mapping[str, Fact]
    checkpoint: Location | None
    seconds: float
    digest: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, without the checkpoint, whose place may change."""
        return {
            "rung": self.rung,
            "images_seen": self.images_seen,
            "scores": dict(self.scores),
            "facts": dict(self.facts),
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], checkpoint: Location | None = None, digest: str = "") -> RungResult:
        """The inverse of `to_dict`."""
        return cls(
            rung=int(values["rung"]),
            images_seen=int(values["images_seen"]),
            scores=dict(values["scores"]),
            facts=dict(values["facts"]),
            checkpoint=checkpoint,
            seconds=float(values["seconds"]),
            digest=digest,
        )


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, and why in one sentence: through all rungs, stopped by its reporter, failed, or paused.

    paused: its workers were told to leave; its newest checkpoint has all that it is, for others to go on from.
    results: of all rungs so far (on ranks other than 0, of those before a resume only). cause: of a failed one,
    diverged or storage.
    """

    state: Literal["finished", "stopped", "failed", "paused"]
    reason: str
    images_seen: int = 0
    results: tuple[RungResult, ...] = ()
    cause: str = ""


class Reporter(Protocol):
    """Whom a trial reports to: the loop knows this and not Ray."""

    def progress(self, images_seen: int, loss: float) -> None:
        """Every few seconds, on rank 0: how far training is, and the mean loss since the last call."""
        ...

    def rung(self, result: RungResult, *, resumed: bool = False) -> bool:
        """At a rung, on every rank: True to go on. All ranks must get the same answer.

        On ranks other than 0 the result has no scores and no checkpoint. resumed: the result comes from the
        checkpoint that training was taken up from; it was perhaps reported before, perhaps never.
        """
        ...

    def leaving(self) -> bool:
        """Between steps, on every rank: whether this process was told that it will be ended soon.

        Must not block. It is enough that one rank says so: all of them write a checkpoint and return, `paused`.
        """
        ...

    def noted(self, text: str) -> None:
        """On rank 0, something worth a line, as a clause without the trial's name: what it waits for, or goes on with.

        Nothing is called while nothing goes wrong.
        """
        ...
