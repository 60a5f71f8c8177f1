"""Who asks and decides in a simulated search."""

from collections.abc import Mapping
from typing import Any, Protocol

from ambient_ray.tuning.judge import RungPolicy
from ambient_ray.tuning.records import RungRecord, State
from ambient_ray.tuning.space import Space
from ambient_ray.tuning.study import Study

from .curves import Curves


class Search(Protocol):
    """What the clock drives: a `StudySearch`, or another tool's scheduler behind the same three calls."""

    def ask(self) -> tuple[int, Mapping[str, Any]]:
        """(number, settings) of the next trial."""
        ...

    def scored(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """A rung's scores; whether the trial goes on. It ends at its last rung, whatever is said."""
        ...

    def ended(self, number: int, state: State) -> None:
        """The trial is finished, stopped or failed."""
        ...


class StudySearch:
    """This project's search: its study asks and learns, its judge decides.

    Args:
        study: in memory ("memory:").
        space: what is searched.
        curves: the world, for its rungs.
        policy: what counts at each rung.
    """

    def __init__(self, study: Study, space: Space, curves: Curves, policy: RungPolicy) -> None:
        self.study, self._space, self._curves, self._judge = study, space, curves, policy.judge()
        self._arms: dict[int, str] = {}

    def ask(self) -> tuple[int, Mapping[str, Any]]:
        """The study's next trial."""
        trial = self.study.ask(self._space)
        self._arms[trial.number] = trial.arm
        return trial.number, trial.settings

    def scored(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """Remembered by the study, decided by the judge."""
        images, seconds = self._curves.rungs[rung], self._curves.seconds[rung]
        self.study.record_rung(number, RungRecord(rung, images, scores, {}, "", seconds))
        return self._judge.decide(number, self._arms[number], rung, scores)

    def ended(self, number: int, state: State) -> None:
        """Told to the study as a real search tells it."""
        rungs = self.study.trial(number).rungs
        seen = rungs[-1].images_seen if rungs else 0
        reason = {"stopped": f"dominated at rung {len(rungs)}", "failed": "the recorded run failed"}.get(state, "")
        self.study.finish(number, state, reason, rungs_left=1 - seen / self._curves.rungs[-1])
