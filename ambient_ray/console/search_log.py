"""A search's events as lines of JSON that a program can ask: `outputs/STUDY/search.log`.

    jq -c 'select(.event == "trial ended" and .state == "failed") | {trial, reason}' outputs/faces/search.log

Beside time, level, logger, message and study, an event's line has `event` and, where it is about one, `trial`, `rung`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ambient_ray.logs import about
from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import RungRecord, TrialRecord

from .standing import cause_of

FILE = "search.log"

_log = logging.getLogger(__name__)


class EventLog(Listener):
    """A listener that writes a line an event."""

    def said(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say`, whose lines go into the log as well: MLflow away and back, why no more trials are begun, ..."""

        def both(text: str) -> None:
            _log.info("%s", text, extra={"event": "said"})
            say(text)

        return both

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial is handed to Tune."""
        again = bool(resumed and (trial.rungs or trial.replica_of is None))
        event = "trial taken up again" if again else "trial started"
        images = trial.rungs[-1].images_seen if trial.rungs else 0
        self._say(
            trial, event, f"{event}: {trial.label}", arm=trial.arm, settings=dict(trial.settings), images=images,
            replica_of=trial.replica_of,
        )  # fmt: skip

    def trial_told(self, trial: TrialRecord, told: Mapping[str, Any]) -> None:
        """Where it runs; what the judge said."""
        if place := told.get("place"):
            self._say(trial, "worker up", f"a worker is up on {place.get('host')}", **{"place": place})
        if judged := told.get("judged"):
            answer = "goes on" if judged["goes_on"] else "stops"
            self._say(trial, "judged", f"the judge: {answer}", **judged)

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores are known."""
        message = f"rung {rung.rung} scored at {rung.images_seen:,} images"
        self._say(
            trial, "rung scored", message, rung=rung.rung, images=rung.images_seen, seconds=rung.seconds,
            scores=dict(rung.scores), checkpoint=rung.checkpoint,
        )  # fmt: skip

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """A trial waits for a disk or store, goes on, or got over something."""
        event = "waits" if text.startswith("waits") else "noted"
        self._say(trial, event, f"trial {trial.number} {text}", level=logging.WARNING)

    def trial_survived(self, trial: TrialRecord, fault: Fault) -> None:
        """A trial survived a failure, and is taken up from a checkpoint."""
        self._say(
            trial, "survived", fault.sentence, level=logging.WARNING, cause=fault.cause, reason=fault.reason,
            images=fault.images_seen,
        )  # fmt: skip

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended; a failed one is a warning with its cause."""
        failed = trial.state == "failed"
        why = f": {trial.reason}" if trial.reason else ""
        more = {"cause": cause_of(trial)} if failed else {}
        level = logging.WARNING if failed else logging.INFO
        self._say(
            trial, "trial ended", f"trial {trial.state}{why}", level=level, state=trial.state, reason=trial.reason,
            rungs=len(trial.rungs), **more,
        )  # fmt: skip

    def search_began(self, **facts: Any) -> None:
        """The search begins; what it is to do."""
        _log.info("the search begins", extra={"event": "search began", **facts})

    def search_ended(self, how: str) -> None:
        """The search has ended."""
        _log.info("the search has ended: %s", how, extra={"event": "search ended", "how": how})

    def _say(self, trial: TrialRecord, event: str, message: str, *, level: int = logging.INFO, **more: Any) -> None:
        with about(trial=trial.number):
            _log.log(level, "%s", message, extra={"event": event, **more})
