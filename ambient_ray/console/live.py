"""What a running search knows of itself, written down every few seconds for `ambient-status`.

The study's storage holds what is known for good; this is the rest: where each trial runs, how far it is, how fast, and
when it was last heard. It goes into one file that is replaced whole, and, where the study is in a database, which a
reader elsewhere may share without sharing the folder, into an attribute of the study too.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ambient_ray.tuning.lease import Holder
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import RungRecord, TrialRecord

#: The file in the study's folder, and the study's attribute.
FILE, ATTRIBUTE = "status.json", "live"
EVERY = 10.0  # seconds between two writings at the most
_SOON = 1.0  # and at the least, when something happens
_REMEMBERED = 30  # heartbeats from which a trial's speed is taken

_log = logging.getLogger(__name__)


@dataclass
class _Heard:
    """What was heard of a running trial, times being this process's monotonic seconds."""

    at: float
    began: float
    places: dict[int, dict[str, Any]] = field(default_factory=dict)  # by rank
    starts: int = 0
    images: int = 0
    loss: float = float("nan")
    steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    speed_of_rung: float | None = None
    waits: str = ""

    def speed(self) -> float | None:
        """Training images a second over the last heartbeats; before there are two, of the last rung; None: no rung."""
        if len(self.steps) < 2:
            return self.speed_of_rung
        (first, least), (last, most) = self.steps[0], self.steps[-1]
        return (most - least) / (last - first) if last > first else self.speed_of_rung


class Live(Listener):
    """A listener that keeps and writes the state of a running search; use it as a context manager around the search.

    Args:
        study: the study's name.
        folder: the study's.
        plan: what the search is to do, as `Standing` reads it: trials, hours, gpu_hours, replicas, at_once.
        mlflow: gives how many events wait for MLflow and for how many seconds it has been away, None where it is not.
        publish: writes the state into the study's storage, too; None: the file is all.
        on_tick: called after each writing with the state.
        every: seconds between two writings.
    """

    def __init__(
        self,
        study: str,
        folder: Path,
        plan: Mapping[str, Any],
        mlflow: Callable[[], tuple[int, float | None]] = lambda: (0, None),
        publish: Callable[[Mapping[str, Any]], None] | None = None,
        on_tick: Callable[[Mapping[str, Any]], None] = lambda state: None,
        every: float = EVERY,
    ) -> None:
        self._study, self._file, self._plan, self._mlflow = study, folder / FILE, dict(plan), mlflow
        self._publish, self._on_tick, self._every = publish, on_tick, every
        self._driver, self._began = asdict(Holder.me()), time.time()
        self._trials: dict[int, _Heard] = {}
        self._count, self._unwritten, self._phase = 0, 0, ""
        self._lock = threading.RLock()
        self._quit, self._changed = threading.Event(), threading.Event()
        self._published = -every
        self._thread = threading.Thread(target=self._keep_writing, name="live", daemon=True)
        self.ended = ""

    def __enter__(self) -> Live:
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._quit.set()
        self._changed.set()
        self._thread.join(timeout=5)
        if error is not None:
            self.ended = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        self.ended = self.ended or "finished"
        self._write()

    def phase(self, text: str) -> None:
        """What the search as a whole is doing, in a few words."""
        self._phase = text

    def planned(self, **more: Any) -> None:
        """What is known of the plan only now, such as how many trials run at once."""
        with self._lock:
            self._plan.update(more)

    def heard(self, beats: Mapping[int, tuple[int, float]]) -> None:
        """What the trials' heartbeats say now (`Judge.beats`)."""
        with self._lock:
            for number, (images, loss, *_) in beats.items():
                self._beat(number, images, loss)

    # -- Listener ---------------------------------------------------------------------------------------------

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial waits for its workers now."""
        now = time.monotonic()
        seen = trial.rungs[-1].images_seen if trial.rungs else 0
        with self._lock:
            self._trials[trial.number] = _Heard(now, now, images=seen)
        self._changed.set()

    def trial_told(self, trial: TrialRecord, told: Mapping[str, Any]) -> None:
        """Where it runs."""
        with self._lock:
            heard = self._heard(trial.number)
            if place := told.get("place"):
                rank = int(place.get("rank", 0))
                heard.starts += rank == 0
                if rank == 0:
                    heard.places.clear()  # other ranks may be fewer than before
                heard.places[rank] = dict(place)

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung is done; speed is measured anew, as scoring is no training."""
        with self._lock:
            heard = self._heard(trial.number)
            heard.images = max(heard.images, rung.images_seen)
            heard.waits = ""
            heard.speed_of_rung = rung.scores.get("images_per_second")
            heard.steps.clear()

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """It waits for a disk or store, or does so no longer."""
        with self._lock:
            self._heard(trial.number).waits = text if text.startswith("waits") else ""

    def trial_ended(self, trial: TrialRecord) -> None:
        """Nothing more is heard of it."""
        with self._lock:
            self._trials.pop(trial.number, None)
        self._changed.set()

    # -- inside -----------------------------------------------------------------------------------------------

    def _heard(self, number: int) -> _Heard:
        """What is known of a trial, which has just been heard."""
        now = time.monotonic()
        heard = self._trials.setdefault(number, _Heard(now, now))
        heard.at = now
        self._changed.set()
        return heard

    def _beat(self, number: int, images: int, loss: float) -> None:
        known = self._trials.get(number)
        if known is None or (images == known.images and known.steps and loss == known.loss):
            return  # ended, or nothing new
        if not images and not known.images:
            return  # its worker is up, which its place has told
        heard = self._heard(number)
        if heard.steps and images < heard.steps[-1][1]:
            heard.steps.clear()  # taken up again from a checkpoint
        heard.images, heard.loss = images, loss
        heard.steps.append((heard.at, images))

    def state(self) -> dict[str, Any]:
        """What would be written now."""
        now = time.monotonic()
        queued, away = self._mlflow()
        with self._lock:
            trials = {
                str(number): {
                    "places": [heard.places[rank] for rank in sorted(heard.places)], "starts": heard.starts,
                    "images": heard.images, "loss": heard.loss if heard.loss == heard.loss else None,
                    "images_per_second": heard.speed(), "waits": heard.waits,
                    "silent_seconds": now - heard.at, "seconds": now - heard.began,
                }
                for number, heard in sorted(self._trials.items())
            }  # fmt: skip
            return {
                "format": 1, "study": self._study, "driver": self._driver, "count": self._count,
                "at": time.time(), "every": self._every, "began": self._began, "ended": self.ended,
                "phase": self._phase, "plan": dict(self._plan), "trials": trials,
                "mlflow": {"queued": queued, "away_seconds": away}, "unwritten": self._unwritten,
            }  # fmt: skip

    def _keep_writing(self) -> None:
        """Write every so often, and soon after something happened; into a database only every so often."""
        while not self._quit.is_set():
            self._changed.wait(self._every)
            self._changed.clear()
            if not self._quit.is_set():
                self._write()
            self._quit.wait(min(_SOON, self._every))

    def _write(self) -> None:
        """Replace the file, and the attribute where it is due; what cannot be written is counted, and told once."""
        self._count += 1
        state = self.state()
        try:
            new = self._file.with_name(f".{self._file.name}.new")
            new.write_text(json.dumps(state, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(new, self._file)
        except OSError as error:
            self._missed(error)
        due = self.ended or time.monotonic() - self._published >= self._every
        if self._publish is not None and due:
            self._published = time.monotonic()
            try:
                self._publish(state)
            except Exception as error:  # a database that is away: the search's own writing is what tells of it
                self._missed(error)
        self._on_tick(state)

    def _missed(self, error: Exception) -> None:
        self._unwritten += 1
        if self._unwritten == 1:
            _log.warning("what ambient-status shows cannot be written: %s", error)


def read_live(folder: Path, attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state that a driver wrote last, from its file or the study's attributes, whichever is the later.

    Args:
        folder: the study's.
        attrs: the study's (`StoredStudy.attrs`).
    """
    found = [attrs[ATTRIBUTE]] if isinstance(attrs.get(ATTRIBUTE), Mapping) else []
    try:
        found.append(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read: %s", folder / FILE, error)
    usable = [dict(state) for state in found if state.get("format") == 1]
    return max(usable, key=lambda state: float(state["at"]), default=None)
