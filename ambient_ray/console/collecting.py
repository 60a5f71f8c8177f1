"""Deleting checkpoints that nothing needs while the search runs: after MLflow has drawn them, in its own thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ambient_ray.storage import DamagedCheckpointError, Location, collect, locate, removable, trouble
from ambient_ray.tuning.kept import needless
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import Objectives, TrialRecord


@dataclass(frozen=True)
class Collected:
    """What was deleted: checkpoints, files and bytes of them; problems: what could not be, one sentence each."""

    checkpoints: int = 0
    files: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()


class Collector(Listener):
    """A listener that has the checkpoints of trials which ended cleared of what nothing needs (`needless`).

    Nothing is deleted before `after` says so, which is when MLflow's writer has drawn what came before, and nothing of
    a trial that runs. What could not be deleted is tried again when the study is continued.

    Args:
        objectives: the names of the two scores.
        after: calls what it is given when all that was recorded so far is written (`StudyRecorder.afterwards`).
    """

    def __init__(self, objectives: Objectives, after: Callable[[Callable[[], None]], None]) -> None:
        self._objectives, self._after = objectives, after
        self._queue: queue.SimpleQueue[TrialRecord | None] = queue.SimpleQueue()
        self._done = Collected()
        self._thread = threading.Thread(target=self._work, name="collector", daemon=True)
        self._thread.start()

    def trial_ended(self, trial: TrialRecord) -> None:
        """Its checkpoints are cleared once they are drawn."""
        self._after(lambda: self._queue.put(trial))

    def close(self, seconds: float = 120.0) -> Collected:
        """Delete what may go by now, for at most so many seconds, and say what was deleted in all."""
        self._queue.put(None)
        self._thread.join(seconds)
        return self._done

    def _work(self) -> None:
        while (trial := self._queue.get()) is not None:
            for folder, wanted in self._wanted(trial).items():
                self._clear(trial, folder, wanted)

    def _wanted(self, trial: TrialRecord) -> dict[Location, dict[str, frozenset[str]]]:
        """What may go, by the folder that it is in: those of one trial may lie in several."""
        found: dict[Location, dict[str, frozenset[str]]] = {}
        go = needless(trial, self._objectives)
        for rung in trial.rungs:
            if rung.rung in go:
                place = locate(rung.checkpoint)
                found.setdefault(place.parent, {})[place.name] = go[rung.rung]
        return found

    def _clear(self, trial: TrialRecord, folder: Location, wanted: Mapping[str, frozenset[str]]) -> None:
        try:
            for name, (files, size) in removable(folder, wanted).items():
                collect(folder / name, wanted[name])
                self._add(Collected(1, len(files), size))
        except DamagedCheckpointError as error:
            self._add(Collected(problems=(f"trial {trial.number}: nothing of it was deleted: {error}",)))
        except OSError as error:
            self._add(
                Collected(problems=(f"trial {trial.number}: not all of it was deleted: {trouble(error, folder)}",))
            )

    def _add(self, more: Collected) -> None:
        done = self._done
        self._done = Collected(
            done.checkpoints + more.checkpoints,
            done.files + more.files,
            done.bytes + more.bytes,
            (*done.problems, *more.problems),
        )
