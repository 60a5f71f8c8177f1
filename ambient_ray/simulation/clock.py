"""A search on a simulated clock: real study, proposer and judge, recorded training.

A discrete-event simulation in the manner of Syne Tune's backend: every worker trains a rung for as long as the
recording took, its scores go to the same `Study` and `RungJudge` as in a real search, and a worker that is free asks
at once. One driver answers, one question after the other.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ambient_ray.tuning.records import State

from .curves import Curve, Curves
from .front import Front
from .searches import Search

T = TypeVar("T")


@dataclass(frozen=True)
class Moment:
    """The state of a search when a rung was scored.

    Attributes:
        images: training images spent so far by all workers, those of unfinished rungs included.
        seconds: simulated time.
        trials: how many were begun.
        hypervolume: of all rungs scored so far, by their true quality (`Curve.truth`).
        observed: the same by the scores that the search has seen.
    """

    images: float
    seconds: float
    trials: int
    hypervolume: float
    observed: float


@dataclass(frozen=True)
class Replay:
    """What became of a simulated search.

    Attributes:
        moments: one a scored rung, in order.
        front: the true front [(fidelity, memorization)], best fidelity first.
        reference: the point that bounds the hypervolumes.
        busy: the workers' time spent training, as a share of all their time until the search ended.
        stopped: trials that the judge ended.
        driver_seconds: the driver's processor time for its answers.
    """

    moments: tuple[Moment, ...]
    front: tuple[tuple[float, float], ...]
    reference: tuple[float, float]
    busy: float
    stopped: int
    driver_seconds: float

    def images_to_reach(self, hypervolume: float, *, observed: bool = False) -> float | None:
        """Training images spent when the front first dominated so much; None if it never did."""
        for moment in self.moments:
            if (moment.observed if observed else moment.hypervolume) >= hypervolume - 1e-12:
                return moment.images
        return None

    def hypervolume_at(self, images: float, *, observed: bool = False) -> float:
        """What the front dominated when so many training images had been spent."""
        before = [m for m in self.moments if m.images <= images + 1e-9]
        return (before[-1].observed if observed else before[-1].hypervolume) if before else 0.0


def replay(
    search: Search,
    curves: Curves,
    *,
    workers: int,
    trials: int | None = None,
    images: float | None = None,
    seed: int = 0,
    reference: tuple[float, float] | None = None,
    baselines: bool = True,
    measured: bool = False,
) -> Replay:
    """Run a search on the simulated clock.

    Args:
        search: what asks and decides.
        curves: the world.
        workers: trials that train at once.
        trials: begin so many, and let them end.
        images: go on until so many training images are spent; what runs then is left where it is.
        seed: of the training runs: the same configuration under the same seed has the same curve in every search.
        reference: bounds the hypervolumes; default: the world's (`Curves.reference`).
        baselines: whether plain DDPM's candidates count in the hypervolume, which is then never below theirs.
        measured: the driver's processor time goes on the clock (so that whatever else runs on this machine does
            not); otherwise it answers in no time.

    Raises:
        ValueError: no worker, or neither or both of trials and images.
    """
    if workers < 1 or (trials is None) == (images is None):
        raise ValueError(f"give one or more workers, and either trials or images; got {workers}, {trials}, {images}")
    limits = (trials if trials is not None else 10**12, images if images is not None else float("inf"))
    return _Clock(search, curves, workers, limits, seed, reference or curves.reference(), baselines, measured).run()


@dataclass(frozen=True)
class _Training:
    """A rung that a worker is at."""

    number: int
    curve: Curve
    counts: bool
    rung: int
    begins: float


class _Clock:
    def __init__(
        self,
        search: Search,
        curves: Curves,
        workers: int,
        limits: tuple[int, float],
        seed: int,
        reference: tuple[float, float],
        baselines: bool,
        measured: bool,
    ) -> None:
        self._search, self._curves, self._workers, self._limits = search, curves, workers, limits
        self._seed, self._reference, self._baselines, self._measured = seed, reference, baselines, measured
        self._images = [b - a for a, b in itertools.pairwise((0, *curves.rungs))]
        self._true, self._observed = Front(reference), Front(reference)
        self._running: dict[int, _Training] = {}  # by worker
        self._queue: list[tuple[float, int, int]] = []  # (time, order, worker)
        self._order = itertools.count()
        self._driver_free = self._driver_seconds = 0.0
        self._begun = self._stopped = 0
        self._done_images = self._done_seconds = 0.0
        self._moments: list[Moment] = []

    def run(self) -> Replay:
        now = 0.0
        for worker in range(self._workers):
            self._next_trial(worker, now)
        while self._queue:
            now, _, worker = heapq.heappop(self._queue)
            self._end_rung(worker, now)
            if self._moments and self._moments[-1].images >= self._limits[1]:
                break
        end = now
        trained = self._done_seconds + sum(self._partial(t, end)[1] for t in self._running.values())
        busy = trained / (self._workers * end) if end else 0.0
        front = tuple(self._true.points)
        return Replay(tuple(self._moments), front, self._reference, busy, self._stopped, self._driver_seconds)

    def _answer(self, now: float, question: Callable[[], T]) -> tuple[T, float]:
        """(the driver's answer, the time at which it is there); one question after the other."""
        began = time.process_time()
        answer = question()
        took = time.process_time() - began
        self._driver_seconds += took
        if not self._measured:
            return answer, now
        self._driver_free = max(now, self._driver_free) + took
        return answer, self._driver_free

    def _next_trial(self, worker: int, now: float) -> None:
        if self._begun >= self._limits[0]:
            return
        self._begun += 1
        (number, settings), begins = self._answer(now, self._search.ask)
        counts = self._baselines or settings.get("sigma_tn") != 0
        self._train(worker, _Training(number, self._curves.curve(settings, self._seed), counts, 0, begins))

    def _train(self, worker: int, training: _Training) -> None:
        self._running[worker] = training
        ends = training.begins + self._curves.seconds[training.rung]
        heapq.heappush(self._queue, (ends, next(self._order), worker))

    def _partial(self, training: _Training, now: float) -> tuple[float, float]:
        """(images, seconds) of a rung that is not finished."""
        whole = self._curves.seconds[training.rung]
        seconds = min(max(now - training.begins, 0.0), whole)
        return self._images[training.rung] * seconds / whole, seconds

    def _end_rung(self, worker: int, now: float) -> None:
        training = self._running.pop(worker)
        number, rung, curve = training.number, training.rung, training.curve
        self._done_images += self._images[rung]
        self._done_seconds += self._curves.seconds[rung]
        state: State = "failed"
        goes_on = False
        if rung < len(curve.observed):
            goes_on, now = self._answer(now, lambda: self._search.scored(number, rung, curve.observed[rung]))
            self._remember(now, training)
            last = rung == len(self._curves.rungs) - 1
            goes_on, state = goes_on and not last, "finished" if last else "stopped"
        if goes_on:
            self._train(worker, replace(training, rung=rung + 1, begins=now))
            return
        self._stopped += state == "stopped"
        _, now = self._answer(now, lambda: self._search.ended(number, state))
        self._next_trial(worker, now)

    def _remember(self, now: float, training: _Training) -> None:
        if training.counts:
            objectives, rung = self._curves.objectives, training.rung
            self._true.add(objectives.of(training.curve.truth[rung]))
            self._observed.add(objectives.of(training.curve.observed[rung]))
        images = self._done_images + sum(self._partial(t, now)[0] for t in self._running.values())
        self._moments.append(Moment(images, now, self._begun, self._true.hypervolume, self._observed.hypervolume))
