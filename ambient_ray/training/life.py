"""The life of one trial as a generator of steps: train to a rung, sample, score, keep the checkpoint, ask."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ambient_ray.storage import (
    Location,
    Patience,
    StorageGivenUpError,
    discard,
    patiently,
    trouble,
)

from .agreement import Departure, differing, gathered
from .checkpoint import (
    Pause,
    check_continues,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from .meter import Meter, Progress, Reading
from .pulse import PULSE
from .scoring import (
    Features,
    Scored,
    Scorer,
    StudyScorer,
    draw_samples,
    sample_labels,
    samples_at_once,
    study_scorer,
)
from .settings import TrainSettings
from .state import TrainState
from .subset import own_subset
from .trial import Outcome, Reporter, RungResult, TrainingData, World, checkpoint_name, pause_name

# Steps between two looks at whether training is still finite, counted from the last rung: a look is collective, and its
# mean loss is a rung's, whatever pauses there were.
CHECK_EVERY = 100
PROGRESS_SECONDS = 2.0

Kept = TypeVar("Kept")
Step = tuple[Tensor, Tensor]  # loss and gradient norm, as `TrainState.step` gives them
Life = Generator[None, Step, Outcome]


class Trial:
    """One trial: the state, and the results so far."""

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        world: World,
        reporter: Reporter,
        workdir: Location,
        score: Scorer | None,
        patience: Patience,
    ) -> None:
        data = own_subset(settings, data, scored=score is None and world.rank == 0, device=world.device)
        self.settings, self.data, self.world, self.reporter, self.workdir = (
            settings,
            data,
            world,
            reporter,
            workdir,
        )
        self.state = TrainState(settings, data, world)
        self.at_once = samples_at_once(settings, self.state.ema.model, data.train, world.device)
        self.score: Scorer | StudyScorer | None = score
        self.patience = patience
        self.features: Features | None = None  # with several ranks, each computes those of its own samples
        if score is None and world.rank == 0:
            self.score = study_scorer(settings, data, self.state.sigma_data, world.device, self.at_once)
        if score is None and world.size > 1:
            self.features = Features(data, world.device)
        self.meter = Meter(world.device)
        self.history: list[RungResult] = []
        self.seconds = 0.0  # since the last rung, in a run that was paused

    def life(self, resume: Location | None) -> Life:
        """The whole trial, in the hands of whoever makes its steps: yields for a step, and returns the outcome."""
        if apart := differing(self.state.read, self.world):
            return self.outcome("failed", f"{apart}: a node's files or memory are not sound")
        if resume is not None and not self.take_up(resume):
            return self.outcome("stopped", "stopped at the rung that it was taken up from")
        for rung in range(len(self.history), len(self.settings.rungs)):
            began = time.monotonic() - self.seconds
            trained, problem = yield from self.train_to(rung)
            if trained is None:
                self.pause(rung, time.monotonic() - began)
                return self.outcome("paused", f"paused at image {self.state.images_seen}, as its workers had to leave")
            problem = problem or self.apart()
            if problem:
                return self.outcome("failed", problem, "diverged")
            seconds = time.monotonic() - began
            samples = draw_samples(self.settings, self.state.sampled, self.data.train, self.world, self.at_once)
            if samples is None:
                problem = f"samples became non-finite at image {self.state.images_seen}"
                return self.outcome("failed", problem, "diverged")
            with PULSE.unseen():
                result = self.finish_rung(rung, trained, samples, began, seconds)
            if result.problem and self.world.size == 1:  # else the reporter, which tells every rank
                return self.outcome("failed", result.problem, "storage")
            if not self.reporter.rung(result):
                return self.outcome("stopped", f"stopped at rung {rung}, image {self.state.images_seen}")
            self.seconds = 0.0
        return self.outcome("finished", f"finished all {len(self.settings.rungs)} rungs")

    def apart(self) -> str:
        """Whether the ranks' weights have come apart, and how; "" as they should be. A collective call."""
        problem = differing(self.state.held, self.world)
        return f"{problem} at image {self.state.images_seen}: they are not trained as one" if problem else ""

    def take_up(self, resume: Location) -> bool:
        """Continue from a checkpoint: whether its rung's answer is to go on."""
        checkpoint = self.patiently(lambda: read_checkpoint(resume), resume)
        check_continues(checkpoint, self.settings, self.data.train.content_hash)
        restore(self.state, checkpoint)
        self.history = list(checkpoint.history)
        goes_on = not self.history or self.reporter.rung(self.history[-1], resumed=True)
        if checkpoint.pause is None:
            return goes_on
        # The answer was to go on, and training did: what the judge would say by now is for the next rung.
        self.meter.go_on(checkpoint.pause.meter, self.world.rank, self.world.size)
        self.seconds = checkpoint.pause.seconds
        return True

    def pause(self, rung: int, seconds: float) -> None:
        """Keep all that was trained since the last rung, on rank 0, if it is anything. A collective call."""
        sums = self.meter.sums(self.world.size)
        if self.world.rank != 0 or self.state.images_seen == self.begin(rung):
            return
        place = self.workdir / pause_name(self.state.images_seen)
        try:
            save_checkpoint(
                place,
                self.state,
                tuple(self.history),
                content_hash=self.data.train.content_hash,
                pause=Pause(sums, seconds),
            )
        except OSError as error:  # there is no time to wait, and the last rung stands
            self.reporter.noted(f"could not keep what it was trained since its last rung: {trouble(error, place)}")

    def begin(self, rung: int) -> int:
        """Images seen where training for a rung begins."""
        return self.settings.rungs[rung - 1] if rung else 0

    def train_to(self, rung: int) -> Generator[None, Step, tuple[Reading | None, str]]:
        """Ask for steps until the rung: the last reading of the meter, None where all leave; what went wrong or ''."""
        state, world, goal, batch = self.state, self.world, self.settings.rungs[rung], self.settings.batch_size
        progress = Progress(self.reporter.progress, world.device, PROGRESS_SECONDS) if world.rank == 0 else None
        departure = Departure(self.reporter.leaving, world)
        steps = (state.images_seen - self.begin(rung)) // batch
        checked = self.begin(rung) + steps // CHECK_EVERY * CHECK_EVERY * batch
        while state.images_seen < goal:
            loss, norm = yield
            PULSE.beat()
            self.meter.add(loss, norm)
            if progress is not None:
                progress.add(loss if state.weight == 1 else loss / state.weight, state.images_seen)
            steps += 1
            done = state.images_seen >= goal
            if steps % CHECK_EVERY == 0 and not done:
                reading = self.meter.read(world.size)
                if not reading.finite:
                    return reading, _diverged(reading, checked, state.images_seen)
                checked = state.images_seen
            if departure.agreed(now=done):
                return None, ""
        reading = self.meter.read(world.size)
        return reading, "" if reading.finite else _diverged(reading, checked, state.images_seen)

    def finish_rung(
        self, rung: int, trained: Reading, samples: npt.NDArray[np.uint8], began: float, seconds: float
    ) -> RungResult:
        """Score and keep the checkpoint (rank 0); other ranks return the result without scores."""
        state = self.state
        features = None if self.features is None else gathered(self.features(samples), self.world)
        drawn = gathered(samples, self.world)
        if self.score is None or drawn is None:
            return RungResult(rung, state.images_seen, {}, {}, None, time.monotonic() - began)
        given = () if features is None else (features,)  # to the study's scorer alone
        scored = self.score(state.ema.model, drawn, *given)
        images = state.images_seen - self.begin(rung)
        speed = {"loss": trained.loss, "grad_norm": trained.grad_norm, "images_per_second": images / seconds}
        place = self.workdir / checkpoint_name(rung, state.images_seen)
        scores = dict(scored.scores) | speed
        result = RungResult(rung, state.images_seen, scores, scored.facts, place, time.monotonic() - began)
        arrays, history = self.arrays(scored, drawn), (*self.history, result)
        try:
            digest = self.patiently(
                lambda: save_checkpoint(
                    place, state, history, content_hash=self.data.train.content_hash, arrays=arrays
                ),
                place,
            )
            self.patiently(lambda: discard(self.workdir, "pause-"), self.workdir)  # this rung has all that they have
        except StorageGivenUpError as error:
            return dataclasses.replace(result, checkpoint=None, problem=str(error))
        self.history.append(dataclasses.replace(result, digest=digest))
        return self.history[-1]

    def patiently(self, action: Callable[[], Kept], place: Location) -> Kept:
        """Do what a full disk or a store may refuse for a while; the reporter hears of it, and that the trial lives."""
        reporter, seen = self.reporter, self.state.images_seen
        if self.world.rank != 0:
            return patiently(action, place, patience=self.patience, alive=PULSE.beat)

        def alive() -> None:
            PULSE.beat()  # it waits for somebody else's disk: that is no hang
            reporter.progress(seen, math.nan)

        return patiently(action, place, patience=self.patience, say=reporter.noted, alive=alive)

    def arrays(self, scored: Scored, samples: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """What is kept of a rung beside the weights: samples, their labels, and the scorer's."""
        labels = sample_labels(self.settings, self.data.train)
        kept: dict[str, npt.NDArray[np.generic]] = {"samples": samples, **scored.arrays}
        return kept if labels is None else kept | {"labels": labels}

    def outcome(self, state: str, reason: str, cause: str = "") -> Outcome:
        """How it ended, with the results so far."""
        return Outcome(state, reason, self.state.images_seen, tuple(self.history), cause)  # type: ignore[arg-type]


def _diverged(reading: Reading, checked: int, now: int) -> str:
    what = "gradient" if reading.loss == reading.loss and abs(reading.loss) != float("inf") else "loss"
    return f"the {what} became non-finite between image {checked} and image {now}; try a lower lr"
