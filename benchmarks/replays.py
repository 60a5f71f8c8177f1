"""What benchmarks/search.py simulates with: worlds, methods, one simulated search, and intervals over seeds."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one simulation a process, one thread each

import multiprocessing as mp
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rivals

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.simulation import Curves, Front, StudySearch, replay
from ambient_ray.tuning.judge import FEWEST, RungPolicy, usual_rung_values
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Space, load_space
from ambient_ray.tuning.study import Study

DATA = Path(__file__).resolve().parent / "data"
_CONFIGURATION = validate(load("search"))
_TRAINING = _CONFIGURATION.training
SHIPPED = _CONFIGURATION.trial
DELTA = _CONFIGURATION.evaluation.delta
PRIOR_WEIGHT = _CONFIGURATION.prior.weight


@dataclass(frozen=True)
class Place:
    """Where searches are compared.

    Attributes:
        folder: of the recorded curves.
        name: of the world.
        mode: how the space between recorded configurations is filled (`Curves`).
        delta: the reference point is (1 + delta) times DDPM's best fidelity.
        baselines: whether plain DDPM's own candidates count in the hypervolume.
    """

    folder: Path
    name: str
    mode: str = "surrogate"
    delta: float = DELTA
    baselines: bool = False


@dataclass(frozen=True)
class Method:
    """A search: whose sampler, and what stops its trials.

    Attributes:
        name: in the tables.
        sampler: a key of the configuration's group `sampler`, or "moasha" for Syne Tune's.
        values: which scores count at each rung; None: as shipped.
        reduction_factor: None: no trial is stopped.
        within: the order within a front.
        fewest: configurations at a rung before any is stopped there.
        lesson: what the sampler is told of a stopped trial; None: as shipped.
        prior_weight: how far the space's beliefs are listened to; 0: not at all.
        beliefs: (parameter, belief) instead of those that ship with the space.
        even_start: how many configurations precede the sampler's model as a Sobol sequence; None: as shipped.
        whole_front: whether the sampler is told all rungs on the front; None: as shipped.
    """

    name: str
    sampler: str = "tpe"
    values: tuple[tuple[str, ...], ...] | None = None
    reduction_factor: float | None = SHIPPED.reduction_factor
    within: str = SHIPPED.within
    fewest: int = FEWEST
    lesson: str | None = None
    prior_weight: float = 0.0
    beliefs: tuple[tuple[str, Any], ...] | None = None
    even_start: int | None = None
    whole_front: bool | None = None


@dataclass(frozen=True)
class Job:
    """One simulated search: until so many training images are spent; `measured`: with the driver's own time."""

    place: Place
    method: Method
    seed: int
    images: float
    workers: int = 4
    measured: bool = False


@dataclass(frozen=True)
class Run:
    """What became of it: arrays over its scored rungs, and totals."""

    images: np.ndarray
    true: np.ndarray
    seen: np.ndarray
    begun: np.ndarray
    box: float
    baseline: float
    trials: int
    stopped: int
    busy: float
    driver: float
    wall: float

    def to_reach(self, target: float, limit: float, *, seen: bool = False) -> tuple[float, bool]:
        """(training images until so much was dominated, whether it ever was); the limit where not."""
        there = np.flatnonzero((self.seen if seen else self.true) >= target - 1e-12)
        if len(there) and self.images[there[0]] <= limit:
            return float(self.images[there[0]]), True
        return limit, False

    def begun_by(self, images: float) -> int:
        """How many trials had been begun when so many images had been spent."""
        return int(self.begun[max(int((self.images <= images + 1e-6).sum()) - 1, 0)])

    def at(self, images: float, *, seen: bool = False) -> float:
        """What was dominated when so many images had been spent, as a share of the reference's box."""
        before = np.flatnonzero(self.images <= images + 1e-6)
        return float((self.seen if seen else self.true)[before[-1]]) / self.box if len(before) else 0.0


@cache
def world(place: Place) -> Curves:
    """A world, with its surrogate fitted."""
    curves = Curves.load(place.folder / f"{place.name}.parquet", mode=place.mode)
    curves.draw(curves.recordings.settings[0], 0)
    return curves


@cache
def space_of(place: Place) -> Space:
    """The recorded space with the beliefs that ship with it, as long as it is still the same space."""
    recorded = world(place).space
    names = {*recorded.parameters, *recorded.fixed, *(key for b in recorded.baselines for key in b)}
    made = world(place).recordings.made_with.get("training", {})  # without what the space varies: that is as shipped
    shipped = load_space(recorded.name, settings=frozenset(names), configured={**_TRAINING, **made})
    same = shipped.describe()["parameters"] == recorded.describe()["parameters"]  # beliefs are no part of it
    return shipped if same else recorded


@cache
def _sampler(key: str, place: Place) -> Any:
    return choose_sampler(shipped_sampler(key), world(place).space)


def policy(method: Method, curves: Curves) -> RungPolicy:
    """The method's rung policy; "fd" stands for the world's fidelity, as in the configuration."""
    rungs = len(curves.rungs)
    values = method.values or SHIPPED.rung_values or usual_rung_values(rungs, curves.objectives)
    counted = [[curves.objectives.fidelity if key == "fd" else key for key in keys] for keys in values]
    return RungPolicy(rungs, method.reduction_factor, counted, within=method.within, fewest=method.fewest)


def run(job: Job) -> Run:
    """Simulate one search."""
    place, method = job.place, job.method
    curves, began = world(place), time.perf_counter()
    reference = curves.reference(place.delta)
    limits: dict[str, Any] = {"workers": job.workers, "images": job.images, "seed": job.seed}
    limits |= {"measured": job.measured, "reference": reference, "baselines": place.baselines}
    if method.sampler == "moasha":
        assert method.reduction_factor is not None
        search = rivals.SyneTuneMoasha(curves.space, curves, method.reduction_factor, job.seed)
        result = replay(search, curves, **limits)
    else:
        options: dict[str, Any] = {"lesson": method.lesson} if method.lesson else {}
        options |= {} if method.even_start is None else {"even_start": method.even_start}
        options |= {} if method.whole_front is None else {"whole_front": method.whole_front}
        proposer = _sampler(method.sampler, place).proposer(seed=job.seed, prior_weight=method.prior_weight, **options)
        study = Study("simulated", "memory:", curves.objectives, proposer, delta=place.delta)
        ours = StudySearch(study, _believing(place, method), curves, policy(method, curves))
        result = replay(ours, curves, **limits)
    moments = result.moments
    return Run(
        images=np.array([m.images for m in moments]),
        true=np.array([m.hypervolume for m in moments]),
        seen=np.array([m.observed for m in moments]),
        begun=np.array([m.trials for m in moments]),
        box=reference[0] * reference[1],
        baseline=_baseline(curves, reference, job.seed) if place.baselines else 0.0,
        trials=moments[-1].trials,
        stopped=result.stopped,
        busy=result.busy,
        driver=result.driver_seconds,
        wall=time.perf_counter() - began,
    )


def _believing(place: Place, method: Method) -> Space:
    space = space_of(place)
    if method.beliefs is None:
        return space
    beliefs = dict(method.beliefs)
    return replace(
        space, parameters={name: replace(p, prior=beliefs.get(name)) for name, p in space.parameters.items()}
    )


def _baseline(curves: Curves, reference: tuple[float, float], seed: int) -> float:
    """What this seed's DDPM run dominates on its own, by its true quality."""
    front = Front(reference)
    for baseline in curves.space.baselines:
        for scores in curves.curve({**curves.space.fixed, **baseline}, seed).truth:
            front.add(curves.objectives.of(scores))
    return front.hypervolume


class Simulations:
    """Simulated searches, spread over processes that share the fitted worlds.

    Args:
        processes: how many.
        places: the worlds, loaded before the processes start.
    """

    def __init__(self, processes: int, places: Iterable[Place]) -> None:
        for place in places:
            space_of(place)
        self._pool = mp.get_context("fork").Pool(processes) if processes > 1 else None

    def __call__(self, jobs: Sequence[Job]) -> list[Run]:
        """Their runs, in order."""
        return self._pool.map(run, jobs, chunksize=1) if self._pool else [run(job) for job in jobs]


Figure = tuple[float, float, float]


def interval(values: Sequence[float], statistic: Callable[[np.ndarray], np.ndarray]) -> Figure:
    """(statistic, low, high): its 95 % bootstrap interval over the values."""
    given = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).integers(len(given), size=(4000, len(given)))
    low, high = np.percentile(statistic(given[draws]), [2.5, 97.5])
    return float(statistic(given[None])[0]), float(low), float(high)


def geometric(values: Sequence[float]) -> Figure:
    """Geometric mean and its interval."""
    return interval(values, lambda v: np.exp(np.log(v).mean(axis=-1)))


def mean(values: Sequence[float]) -> Figure:
    """Mean and its interval."""
    return interval(values, lambda v: v.mean(axis=-1))


def shown(figure: Figure, digits: int = 2) -> str:
    """A figure as text."""
    return f"{figure[0]:.{digits}f} [{figure[1]:.{digits}f}, {figure[2]:.{digits}f}]"
