"""A search while it runs: a live table on a terminal, one line an event elsewhere."""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.pareto import hypervolume, pareto_front
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord
from ambient_ray.tuning.study import Study

Beats = Callable[[], Mapping[int, tuple[int, float]]]
_SHOWN = 14


class Progress(Listener):
    """Listens to a search and shows it.

    Use as a context manager around the search; `watch` gives it the judge's heartbeats once there is a judge.

    Args:
        study: for the front and hypervolume.
        trials: how many the study shall hold, replicas not counted; None where hours bound it.
        rungs: training length at each rung, in images.
        objectives: the two scores to show.
        console: where to write; a terminal gets the live table.
    """

    def __init__(
        self,
        study: Study,
        trials: int | None,
        rungs: tuple[int, ...],
        objectives: Objectives,
        console: Console | None = None,
    ) -> None:
        self._study, self._trials, self._rungs, self._objectives = study, trials, rungs, objectives
        self.console = console or Console()
        self._shown: dict[int, TrialRecord] = {}
        self._ended: set[int] = set()  # replicas not counted
        self._front: dict[tuple[int, int], tuple[float, float]] = {}  # (trial, rung) -> point
        self._beats: Mapping[int, tuple[int, float]] = {}
        self._heard: set[int] = set()
        self._began = psutil.Process().create_time() - time.time() + time.monotonic()  # with the imports
        self._images_before = 0
        self._lock = threading.RLock()
        self._quit = threading.Event()
        self._summary = ""
        self._live = Live(console=self.console, refresh_per_second=2, get_renderable=self._render, transient=True)
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> "Progress":
        for trial in self._study.trials():
            self._take(trial)
        self._front = {(c.trial.number, c.rung.rung): c.point for c in self._study.landscape().front}
        self._images_before = self._images()
        self._summarise()
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._quit.set()
        if self._watcher is not None:
            self._watcher.join(timeout=5)
        if self._live.is_started:
            self._live.stop()

    def watch(self, beats: Beats) -> None:
        """Ask for heartbeats every second, in a thread of its own."""
        self._watcher = threading.Thread(target=self._listen, args=(beats,), name="progress", daemon=True)
        self._watcher.start()

    def say(self, text: str) -> None:
        """One line, above the live table if there is one."""
        self.console.print(Text(f"[{time.monotonic() - self._began:5.0f} s] {text}"), soft_wrap=True, highlight=False)

    # -- Listener ---------------------------------------------------------------------------------------------

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial is handed to Tune."""
        with self._lock:
            self._take(trial)
        seen = "" if trial.replica_of is not None else ", taken up again"  # replicas are begun before they are run
        if trial.rungs:
            seen = f", taken up after {trial.rungs[-1].images_seen:,} images"
        self.say(f"trial {trial.number} · {trial.label}{seen if resumed else ''}: starting")

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores are known."""
        with self._lock:
            self._take(trial)
            if trial.replica_of is None:
                self._front[(trial.number, rung.rung)] = self._objectives.of(rung.scores)
                on_front = pareto_front(list(self._front.values()))
                self._front = dict(itertools.compress(self._front.items(), on_front))
            self._summarise()
        self.say(
            f"trial {trial.number} · {trial.label} · rung {rung.rung + 1}/{len(self._rungs)}"
            f" · {rung.images_seen:,} images · {self._scores(rung)}"
        )

    def trial_survived(self, trial: TrialRecord, fault: Fault) -> None:
        """Something failed, and the trial goes on."""
        with self._lock:
            self._take(trial)
        self.say(f"trial {trial.number} · {trial.label}: {fault.sentence}")

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """A trial waits for a disk or store, goes on, or got over something."""
        with self._lock:
            self._take(trial)
        self.say(f"trial {trial.number} {text}")

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""
        with self._lock:
            self._take(trial)
            self._summarise()
        why = f": {trial.reason}" if trial.reason else ""
        self.say(f"trial {trial.number} · {trial.label} · {trial.state}{why} · {self._summary}")

    # -- inside -----------------------------------------------------------------------------------------------

    def _take(self, trial: TrialRecord) -> None:
        self._shown[trial.number] = trial
        if trial.ended and trial.replica_of is None:
            self._ended.add(trial.number)

    def _listen(self, beats: Beats) -> None:
        while not self._quit.wait(1.0):
            try:
                heard = beats()
            except Exception as error:  # a display must not end a search; trials report through Train all the same
                self.say(f"no more heartbeats: {error}")
                return
            with self._lock:
                self._beats = heard
            for number in sorted(set(heard) - self._heard):
                self._heard.add(number)
                images, loss = heard[number]
                doing = f"training: {images:,} images, loss {loss:.3f}" if images else "its worker is up"
                self.say(f"trial {number} · {self._shown[number].label} · {doing}")

    def _scores(self, rung: RungRecord) -> str:
        parts = []
        for key in (self._objectives.fidelity, self._objectives.memorization):
            low, high = rung.scores.get(f"{key}_low"), rung.scores.get(f"{key}_high")
            interval = f" [{_short(low)}, {_short(high)}]" if low is not None and high is not None else ""
            parts.append(f"{key} {_short(rung.scores[key])}{interval}")
        return " · ".join(parts)

    def _images(self) -> int:
        return sum(t.rungs[-1].images_seen for t in self._shown.values() if t.rungs)

    def _summarise(self) -> None:
        """The foot of the table, from what the front has become: reading the whole study at each rung would be slow."""
        most = f"/{self._trials}" if self._trials is not None else ""
        reference = self._study.reference
        volume = hypervolume(list(self._front.values()), reference) if reference else 0.0
        self._summary = (
            f"{len(self._ended)}{most} trials ended, front of {len(self._front)}, hypervolume {_short(volume)}"
        )

    def _time_left(self) -> str:
        """From the images that ended trials needed and the speed of this session; a guess, and shown as one."""
        if self._trials is None:
            return "until the hours are spent"
        own = [t for t in self._shown.values() if t.replica_of is None]
        done = [t.rungs[-1].images_seen for t in own if t.ended and t.rungs]
        elapsed = time.monotonic() - self._began
        images = self._images() - self._images_before
        if not done or images <= 0:
            return "time left: known after the first trial"
        expected = self._trials * sum(done) / len(done)
        replicas = [t for t in self._shown.values() if t.replica_of is not None]
        expected += sum(t.settings["rungs"][-1] for t in replicas)
        left = max(0.0, expected - self._images()) * elapsed / images
        return f"about {left / 60:.0f} min left"

    def _render(self) -> Group:
        with self._lock:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for column in ("trial", "configuration", "rung", "images", "loss", "scores", "state"):
                table.add_column(column, no_wrap=column != "scores")
            recent = sorted(self._shown.values(), key=lambda t: (t.state == "running", t.number))[-_SHOWN:]
            for trial in recent:
                images, loss = self._beats.get(trial.number, (0, float("nan")))
                last = trial.rungs[-1] if trial.rungs else None
                images = max(images, last.images_seen if last else 0)
                table.add_row(
                    str(trial.number), trial.label, f"{len(trial.rungs)}/{len(self._rungs)}", f"{images:,}",
                    f"{loss:.3f}" if loss == loss and trial.state == "running" else "",
                    self._scores(last) if last else "", "waits" if trial.waits else trial.state,
                )  # fmt: skip
            elapsed = f"{time.monotonic() - self._began:.0f} s"
            foot = f"{self._summary} · {elapsed} · {self._time_left()} · Ctrl-C keeps all finished work"
            return Group(table, Text(foot, style="dim"))


def _short(value: Any) -> str:
    number = float(value)
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"
