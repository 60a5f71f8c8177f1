"""Trials without training: configurations are scored by a formula, and a search of any size runs in its driver alone.

What is driven is real: `StudySearcher` over `Study`, `Proposer` and the storage, the display, `RungJudge`. The clock is
simulated: a rung takes its share of one whole trial's time, so trials that run at once end in a mixed order.
"""

import heapq
import io
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.console.progress import Progress
from ambient_ray.simulation.coordinates import unit_coordinates
from ambient_ray.tuning.budget import Budget
from ambient_ray.tuning.judge import RungPolicy, usual_rung_values
from ambient_ray.tuning.points import distribution, uniform
from ambient_ray.tuning.proposer import Proposal, Proposer
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord
from ambient_ray.tuning.running.searcher import StudySearcher
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Space, load_space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
RUNGS = (38_400, 76_800, 153_600, 307_200)
POLICY = RungPolicy(len(RUNGS), 2.0, usual_rung_values(len(RUNGS), OBJECTIVES))
_OTHERS = 40  # scores that a rung reports besides the objectives


def wide_space() -> Space:
    """The ten dimensions of `ambient_wide`."""
    training = validate(load("search")).training
    configured = {**training, "dropout": 0.0}
    return load_space("ambient_wide", settings=frozenset(configured), configured=configured)


def rung_of(space: Space, number: int, settings: Mapping[str, Any], rung: int) -> RungRecord:
    """What a trial scores at a rung: the better, the nearer to a point of the space; copying grows with training."""
    point = unit_coordinates(space, settings) if settings.get("sigma_tn") else np.full(1, 0.9)
    noise = np.random.default_rng([number, rung])
    apart = float(np.square(point - 0.4).mean())
    fidelity = (5 + 60 * apart + 40 / (1 + rung) ** 2) * math.exp(0.05 * noise.standard_normal())
    copied = min(1.0, (1 + rung) / len(RUNGS) * (0.2 + 0.6 * float(point[0])) * noise.uniform(0.5, 1.0))
    scores = {"fd": fidelity, "f_mem": copied, **{f"other_{i}": float(v) for i, v in enumerate(noise.random(_OTHERS))}}
    facts = {"extractor": "classifier", "weight_hash": "0" * 16, "n": 500, "reference": "heldout", "seed": 0}
    return RungRecord(rung, RUNGS[rung], scores, facts, f"/trials/{number:05d}/rung-{rung}", 60.0)


class _Draws:
    def propose(self, space: Space, trials: Sequence[TrialRecord], *_: Any) -> Proposal:
        values = uniform(np.random.default_rng([1, len(trials)]), space)
        return Proposal(values, "sampler", {name: distribution(space.parameters[name]) for name in values})


def proposer(sampler: str, space: Space) -> Proposer:
    """As a search makes it, by the key of the configuration's group `sampler`."""
    return choose_sampler(shipped_sampler(sampler), space).proposer(seed=0)


class Drive:
    """A search's driver with so many synthetic trials at once.

    Args:
        sampler: a key of the configuration's group `sampler`, or "draws" for independent draws at no cost.
        storage: of the study.
        at_once: trials that run at the same time.
    """

    def __init__(self, sampler: str, storage: str, at_once: int) -> None:
        self.space, self._at_once = wide_space(), at_once
        self.proposer = _Draws() if sampler == "draws" else proposer(sampler, self.space)
        self.study = Study("scale", storage, OBJECTIVES, self)
        progress = Progress(self.study, 10_000, RUNGS, OBJECTIVES, Console(file=io.StringIO(), width=140))
        budget = Budget(1_000_000)
        self.searcher = StudySearcher(
            self.study, self.space, {}, RUNGS, listeners=(progress,), slots=range(at_once),
            spent=lambda seconds: budget.reached(self.study.trials(), seconds),
        )  # fmt: skip
        self.judge = POLICY.judge()
        self.begun = 0
        self.seconds: dict[str, list[tuple[int, float]]] = {"ask": [], "rung": [], "judge": [], "end": []}
        self._running: dict[int, dict[str, Any]] = {}
        self._queue: list[tuple[float, int, int, int]] = []  # (time, order, trial, rung)
        self._order = itertools.count()

    def until(self, trials: int) -> None:
        """Go on until so many trials have been begun; what runs then is left running."""
        now = self._queue[0][0] if self._queue else 0.0
        while self.begun < trials:
            if len(self._running) < self._at_once:
                self._begin(now)
            else:
                now, _, number, rung = heapq.heappop(self._queue)
                self._score(now, number, rung)

    def hand_over(self, sampler: str) -> None:
        """Let another sampler choose from now on; its first suggestion reads the whole study, as after a restart."""
        self.proposer = proposer(sampler, self.space)

    def propose(self, *arguments: Any) -> Proposal:
        """The proposer's part in a study."""
        return self.proposer.propose(*arguments)

    def _timed(self, kind: str, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        answer = call()
        self.seconds[kind].append((self.begun, time.process_time() - began))
        return answer

    def _begin(self, now: float) -> None:
        config = self._timed("ask", lambda: self.searcher.suggest(f"t{self.begun}"))
        self.begun += 1
        self._running[config["number"]] = config
        self._train(now, config["number"], 0)

    def _train(self, now: float, number: int, rung: int) -> None:
        share = (RUNGS[rung] - (RUNGS[rung - 1] if rung else 0)) / RUNGS[-1]
        speed = 0.9 + 0.2 * float(np.random.default_rng([number, 7]).random())
        heapq.heappush(self._queue, (now + share * speed, next(self._order), number, rung))

    def _score(self, now: float, number: int, rung: int) -> None:
        config, name = self._running[number], f"t{number}"
        record = rung_of(self.space, number, config["settings"], rung)
        report = {"rungs": [record.to_dict()]}
        goes_on = self._timed("judge", lambda: self.judge.decide(number, config["arm"], rung, record.scores))
        self._timed("rung", lambda: self.searcher.on_trial_result(name, report))
        if goes_on and rung < len(RUNGS) - 1:
            self._train(now, number, rung + 1)
            return
        state = "finished" if goes_on else "stopped"
        self._timed("end", lambda: self.searcher.on_trial_result(name, {"state": state}))
        self.searcher.on_trial_complete(name)
        del self._running[number]

    def ms(self, kind: str, after: int, before: int | None = None) -> float:
        """Mean milliseconds of an event while the study held so many trials."""
        most = before if before is not None else self.begun + 1
        found = [seconds for begun, seconds in self.seconds[kind] if after <= begun < most]
        return 1e3 * float(np.mean(found)) if found else math.nan

    def per_trial(self, after: int, before: int | None = None) -> float:
        """Milliseconds of the driver a trial begun, all its events together, while the study held so many trials."""
        most = before if before is not None else self.begun
        spent = sum(s for kind in ("ask", "rung", "end") for b, s in self.seconds[kind] if after <= b < most)
        return 1e3 * spent / (most - after)
