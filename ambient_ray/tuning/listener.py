"""Whom a search tells what happens to its trials."""

from collections.abc import Mapping
from typing import Any

from .faults import Fault
from .records import RungRecord, TrialRecord


class Listener:
    """Whoever wants to know what happens to trials: the tracking, the display. Called in the driver, in order.

    Whoever inherits says what it wants to hear; of the rest nothing comes.
    """

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial is handed to Tune: a new one, or one that a dead search left."""

    def trial_told(self, trial: TrialRecord, told: Mapping[str, Any]) -> None:
        """What its workers tell besides rungs and its end: place (where one runs), judged (an answer), saved."""

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores are in the study."""

    def trial_survived(self, trial: TrialRecord, fault: Fault) -> None:
        """Something failed, and the trial is taken up again."""

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """A trial waits for a disk or store, goes on, or got over something; a clause without its name."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial is finished, stopped or failed."""
