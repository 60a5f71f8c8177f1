"""Ray Tune's view of a study: it asks for configurations, and hands on what trials report.

Ray's own OptunaSearch cannot hold two objectives: a missing score leaves its trial RUNNING for ever, and a trial
that stopped early counts as complete. Here the study is the truth, and this adapter only translates.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher

from ambient_ray.clock import now

from ..faults import Fault
from ..listener import Listener
from ..opening import SpaceExhaustedError
from ..records import RungRecord, TrialRecord
from ..space import Space
from ..study import Study
from .roster import Roster

_REMEMBERED_EVERY = 10.0  # seconds


class StudySearcher(Searcher):
    """Ask and tell between Ray Tune and a `Study`.

    Args:
        study: where trials come from and go to.
        space: what is searched.
        shared: handed to every trial with its own settings (see `drive_trial`).
        rungs: training length at each rung, in images.
        waiting: trials that were begun, by a dead search or as replicas: taken up before new ones are asked for.
        listeners: who is told.
        slots: where trials run, one each (`TrialEnd`): as many as trials at once, or a roster of them that changes.
        spent: says why no new trial is to be begun, or "" while one may; asked with the seconds that the study has been
            searched. Default: new ones for ever, so that Tune's own bound holds.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        shared: Mapping[str, Any],
        rungs: Sequence[int],
        waiting: Sequence[TrialRecord] = (),
        listeners: Sequence[Listener] = (),
        slots: Sequence[Any] | Roster = (),
        spent: Callable[[float], str] = lambda seconds: "",
    ) -> None:
        super().__init__()
        self._study, self._space, self._rungs = study, space, tuple(rungs)
        self._shared, self._waiting, self._listeners = shared, list(waiting), tuple(listeners)
        self._spent, self._free = spent, slots if isinstance(slots, Roster) else Roster(slots)
        self._slots: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}
        self._ticked = -_REMEMBERED_EVERY
        study.begin_counting()
        self.ended_because = ""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration, as its driver takes it; FINISHED when there is none, None without a slot."""
        slot = self._free.take()
        if slot is None:
            return None
        config = self._next(trial_id, slot)
        if not isinstance(config, dict):
            self._free.give(slot)
        return config

    def _next(self, trial_id: str, slot: Any) -> dict[str, Any] | str:
        """The next trial's configuration in this slot, or FINISHED."""
        resumed = bool(self._waiting)
        if resumed:
            trial = self._waiting.pop(0)
        else:
            seconds = self._tick()
            self.ended_because = self.ended_because or self._spent(seconds)
            if self.ended_because:
                return str(Searcher.FINISHED)
            try:
                trial = self._study.ask(self._space)
            except SpaceExhaustedError as error:
                self.ended_because = str(error)
                return str(Searcher.FINISHED)
        self._numbers[trial_id], self._slots[trial_id] = trial.number, slot
        for listener in self._listeners:
            listener.trial_started(trial, resumed)
        return {
            "number": trial.number,
            "arm": trial.arm if trial.replica_of is None else "replica",
            "replica_of": trial.replica_of,
            "settings": dict(trial.settings),
            "kept": [rung.checkpoint for rung in trial.rungs],
            "slot": slot,
            "shared": self._shared,
        }

    def _tick(self) -> float:
        """Seconds for which the study has been searched; remembered, so that a continued search goes on counting.

        Remembered every ten seconds at the most: the storage may wait for a disk.
        """
        seconds, ticks = self._study.elapsed(), time.monotonic()
        if ticks - self._ticked >= _REMEMBERED_EVERY:
            self._ticked = ticks
            self._study.searched(seconds)
        return seconds

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A rung, a note, or the end of a trial."""
        number = self._numbers[trial_id]
        for told in result.get("told", ()):  # a list: Tune flattens dicts
            for listener in self._listeners:
                listener.trial_told(self._study.trial(number), told)
        if "note" in result:
            self._study.note(number, str(result["note"]))
            for listener in self._listeners:
                listener.trial_noted(self._study.trial(number), str(result["note"]))
        for rung in result.get("rungs", ()):
            record = replace(RungRecord(**rung), at=now())
            known = next((r for r in self._study.trial(number).rungs if r.rung == record.rung), None)
            if known is None:
                self._study.record_rung(number, record)
                self._tell_rung(number, record)
                self._tick()
            elif record.digest not in ("", known.digest):  # trained again, as its checkpoint was damaged
                again = replace(known, checkpoint=record.checkpoint, digest=record.digest)
                self._study.record_rung(number, again)
        for fault in result.get("faults", ()):  # lists, as Tune flattens mappings
            self._survived(number, fault)
        if "state" in result:
            self._end(number, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune has seen the last of a trial. One that never said how it ended has failed."""
        number = self._numbers.pop(trial_id)
        self._free.give(self._slots.pop(trial_id))
        if self._study.trial(number).state == "running":
            reason = "its driver ended without a word; see Ray's logs" if error else "it ended without reporting how"
            self._end(number, {"state": "failed", "reason": reason, "cause": "driver died"})

    def driver_died(self, trial_id: str) -> None:
        """A trial's driver is gone, and Tune starts it again: its slot still has the trial."""
        number = self._numbers[trial_id]
        if self._study.trial(number).state == "running":
            fault = {"cause": "driver died", "reason": "its driver in Ray Tune died", "key": secrets.token_hex(4)}
            self._survived(number, fault)

    def _survived(self, number: int, told: Mapping[str, Any]) -> None:
        trial = self._study.trial(number)
        seen = trial.rungs[-1].images_seen if trial.rungs else 0
        fault = Fault(**told, images_seen=seen, at=now())
        if trial.state == "running" and self._study.survived(number, fault):
            for listener in self._listeners:
                listener.trial_survived(self._study.trial(number), fault)

    def _tell_rung(self, number: int, record: RungRecord) -> None:
        for listener in self._listeners:
            listener.rung_scored(self._study.trial(number), record)

    def _end(self, number: int, result: Mapping[str, Any]) -> None:
        if self._study.trial(number).state != "running":
            return
        rungs = self._study.trial(number).rungs
        seen = rungs[-1].images_seen if rungs else 0
        reason = result.get("reason", "")
        if result["state"] == "stopped":
            reason = f"dominated at rung {len(rungs)} of {len(self._rungs)}"
        cause = result.get("cause", "") if result["state"] == "failed" else ""
        self._study.finish(number, result["state"], reason, rungs_left=1 - seen / self._rungs[-1], cause=cause)
        self._tick()
        for listener in self._listeners:
            listener.trial_ended(self._study.trial(number))

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher beside the experiment, which nothing here reads."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's storage is the truth, not Ray's experiment state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, for the same reason."""


class DriverDeaths(Callback):
    """Tells a searcher of drivers that Tune starts again, which Tune itself tells its callbacks only."""

    def __init__(self, searcher: StudySearcher) -> None:
        self._searcher = searcher

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's driver died and is started again."""
        self._searcher.driver_died(trial.trial_id)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks beside the experiment, which nothing here reads."""
        return {}
