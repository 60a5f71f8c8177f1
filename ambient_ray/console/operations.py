"""What a running search leaves for its operators: its log, its live state, and its numbers in Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ambient_ray.logs import logging_to
from ambient_ray.tracking import StudyRecorder
from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import RungRecord, TrialRecord

from .estimate import replicas_planned
from .live import Live
from .metrics import Metrics
from .preparation import Prepared
from .progress import Beats
from .search_log import FILE, EventLog

if TYPE_CHECKING:
    from ambient_ray.tuning.listener import Listener


class Operations(Listener):
    """A listener that hands on to the log, the live state and, once Ray runs, the metrics.

    Use it as a context manager around the whole search, and say how that ended (`ended`).

    Args:
        prepared: the search.
        recorder: asked how much waits for MLflow.
    """

    def __init__(self, prepared: Prepared, recorder: StudyRecorder) -> None:
        config, self._study = prepared.config, prepared.study
        self._log = EventLog()
        plan = {
            "trials": config.trials, "hours": config.hours, "gpu_hours": config.gpu_hours,
            "replicas": replicas_planned(config) if prepared.space.parameters else 0, "at_once": None,
        }  # fmt: skip
        database = not prepared.study.storage_url.startswith(("journal:", "memory:"))
        self._live = Live(
            config.study, config.folder, plan, lambda: (recorder.queued, recorder.away),
            prepared.study.show_live if database else None, self._tick,
        )  # fmt: skip
        self._file = logging_to(config.folder / FILE, study=config.study)
        self._plan, self._stack = plan, contextlib.ExitStack()
        self._parts: list[Listener] = [self._log, self._live]
        self._metrics: Metrics | None = None

    def __enter__(self) -> Operations:
        with contextlib.ExitStack() as opened:
            opened.enter_context(self._file)
            self._log.search_began(plan=self._plan, trials_known=len(self._study.trials()))
            opened.enter_context(self._live)
            self._stack = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._live.ended = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        self._log.search_ended(self._live.ended or "finished")
        self._stack.__exit__(kind, error, trace)

    def ended(self, code: int) -> int:
        """The search returns this exit code; the same."""
        self._live.ended = "finished" if code == 0 else "stopped, to be gone on with"
        return code

    def said(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, whose lines go into the log as well."""
        return self._log.said(say)

    def phase(self, text: str, *, at_once: int | None = None) -> None:
        """What the search as a whole does now, and how many trials at once, where that is known."""
        self._live.phase(text)
        if at_once is not None:
            self._live.planned(at_once=at_once)

    def ray_runs(self) -> None:
        """From now on there is a Ray to hand metrics to."""
        self._metrics = Metrics(self._study.name)
        self._metrics.known(self._study.trials())
        self._parts.append(self._metrics)

    def overhearing(self, beats: Beats) -> Beats:
        """`beats`, of which the live state hears, too. One asks for both, and ends before Ray does."""

        def both() -> Mapping[int, tuple[int, float]]:
            found = beats()
            self._live.heard(found)
            return found

        return both

    def _tick(self, state: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.tick(state)

    # -- Listener ---------------------------------------------------------------------------------------------

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial is handed to Tune."""
        for part in self._parts:
            part.trial_started(trial, resumed)

    def trial_told(self, trial: TrialRecord, told: Mapping[str, Any]) -> None:
        """What its workers tell."""
        for part in self._parts:
            part.trial_told(trial, told)

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores are known."""
        for part in self._parts:
            part.rung_scored(trial, rung)

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """A trial waits for a disk or store, goes on, or got over something."""
        for part in (self._log, self._live):
            part.trial_noted(trial, text)

    def trial_survived(self, trial: TrialRecord, fault: Fault) -> None:
        """A trial survived a failure."""
        self._log.trial_survived(trial, fault)
        if self._metrics is not None:
            self._metrics.trial_survived(trial, fault)

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""
        for part in self._parts:
            part.trial_ended(trial)
