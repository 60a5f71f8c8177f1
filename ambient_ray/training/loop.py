"""The life of a trial: train to a rung, sample, score, keep the checkpoint, ask whether to go on.

Alone (`run_trial`), or with others of the same network in one process (`run_packed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from ambient_ray.storage import (
    DamagedCheckpointError,
    Location,
    Patience,
)

from .checkpoint import (
    CheckpointMismatchError,
)
from .life import Life, Trial
from .packed import PackedState
from .pulse import PULSE
from .scoring import (
    Scorer,
)
from .settings import TrainSettings
from .state import TrainState
from .trial import Outcome, Reporter, TrainingData, TrialInputError, World


def run_trial(
    settings: TrainSettings,
    data: TrainingData,
    world: World,
    reporter: Reporter,
    *,
    workdir: Location,
    resume: Location | None = None,
    score: Scorer | None = None,
    patience: Patience = Patience(),  # noqa: B008  # frozen
) -> Outcome:
    """Train a model through the settings' rungs, as one of world.size ranks that all call this.

    workdir: where rank 0 keeps a checkpoint a rung, `rung-00-000016000` and so on; where the workers have to leave
    between rungs, also `pause-000012800`, until the next rung's stands.
    resume: a checkpoint to continue from, readable by every rank; bit for bit what an uninterrupted
    run does on one CPU. Its rung is reported once more (resumed=True), in case the answer was never heard.
    score: what a rung measures, by default `study_scorer`; given on all ranks or on none, called on rank 0.
    patience: how long a disk that is full, or a store that is away, is waited for; the reporter is told.

    Returns Outcome: `finished`, `stopped` by the reporter, `failed` when training diverged, ranks came apart or a
    checkpoint could not be kept, or `paused` when the reporter said, on any rank, that it has to leave: then the newest
    checkpoint has all so far.
    Raises TrialInputError, DamagedCheckpointError or CheckpointMismatchError before the first step.
    """
    with _own_rng(world):
        with PULSE.unseen():
            trial = Trial(settings, data, world, reporter, workdir, score, patience)
        life = trial.life(resume)
        try:
            with PULSE.unseen():  # reads a checkpoint, and compiles
                next(life)
                step = trial.state.step()
            while True:
                life.send(step)
                step = trial.state.step()
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


class PackedTrial(NamedTuple):
    """One of the trials of `run_packed`; each field is `run_trial`'s argument of that name."""

    settings: TrainSettings
    reporter: Reporter
    workdir: Location
    resume: Location | None = None


def run_packed(
    trials: Sequence[PackedTrial],
    data: TrainingData,
    world: World,
    *,
    score: Scorer | None = None,
    patience: Patience = Patience(),  # noqa: B008  # frozen
) -> list[Outcome]:
    """Train several models of one network in this process, each as `run_trial` would: the outcomes, in order.

    Steps are taken together (`PackedState`); rungs, samples, scores, checkpoints and reports are each trial's own, so
    the trials may differ in all settings but `packed.SHARED`. A trial that ends, also by diverging, leaves the others
    as they are. While one is scored the others wait, which counts in their rungs' `seconds`. A reporter that raises
    ends all: the exception passes through.

    A trial whose checkpoint is damaged or another's has the outcome `failed`, with that reason, and the others run.
    Raises TrialInputError, before the first step, where a trial's settings do not fit the data, the trials cannot be
    packed, or the world has several workers.
    """
    if world.size > 1:
        raise TrialInputError(f"packed trials run in one worker, but the world has {world.size}")
    with _own_rng(world):
        lives: dict[int, Life] = {}
        states: dict[int, TrainState] = {}
        outcomes: dict[int, Outcome] = {}
        for number, (settings, reporter, workdir, resume) in enumerate(trials):
            with PULSE.unseen():
                trial = Trial(settings, data, world, reporter, workdir, score, patience)
            life = trial.life(resume)
            try:
                with PULSE.unseen():
                    next(life)
            except StopIteration as end:
                outcomes[number] = end.value
            except (CheckpointMismatchError, DamagedCheckpointError) as error:
                outcomes[number] = trial.outcome("failed", str(error), "storage")
            else:
                lives[number], states[number] = life, trial.state
        packed = PackedState(list(states.values())) if states else None
        while packed is not None and lives:
            for number, step in zip(list(lives), packed.step(), strict=True):
                try:
                    lives[number].send(step)
                except StopIteration as end:
                    outcomes[number] = end.value
                    del lives[number]
                    packed.leave(states.pop(number))
        return [outcomes[number] for number in range(len(trials))]


def _own_rng(world: World) -> AbstractContextManager[None]:
    """Dropout is seeded anew each step: leave the caller's random numbers alone."""
    return torch.random.fork_rng(devices=[world.device] if world.device.type == "cuda" else [])
