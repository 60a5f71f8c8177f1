"""How much a search may spend: trials, hours, GPU hours; whichever is reached first."""

from collections.abc import Sequence
from dataclasses import dataclass

from .records import TrialRecord


@dataclass(frozen=True)
class Budget:
    """What a study may spend over its whole life, all processes that searched it together.

    A budget that is reached ends the asking for new trials. Trials that run are finished, and confirmation and report
    follow. For hours and GPU hours the time that confirmation will need is kept back, by the seconds that an image took
    in the trials so far.

    Attributes:
        trials: how many the study holds in the end, baselines included and replicas not; None: no bound.
        hours: of searching, on the wall clock.
        gpu_hours: GPUs that trials held, times hours.
        replica_images: training images that confirmation will need.
        gpus: of a trial, all its workers together.
        at_once: trials that run at the same time.
    """

    trials: int | None
    hours: float | None = None
    gpu_hours: float | None = None
    replica_images: int = 0
    gpus: float = 0.0
    at_once: int = 1

    def reached(self, trials: Sequence[TrialRecord], seconds: float) -> str:
        """Why no new trial is begun, as one clause; "" while there is some left.

        Args:
            trials: the study's, replicas included.
            seconds: for how long it has been searched so far.
        """
        own = sum(t.replica_of is None for t in trials)
        if self.trials is not None and own >= self.trials:
            return f"{own} of {self.trials} trials have been begun"
        if self.hours is None and self.gpu_hours is None:
            return ""
        kept_back = self.replica_images * seconds_per_image(trials) if self.replica_images else 0.0
        if self.hours is not None and seconds + kept_back / self.at_once >= 3600 * self.hours:
            return self._say("hours", seconds / 3600, self.hours, kept_back / self.at_once / 3600)
        held = self.gpus * sum(rung.seconds for t in trials for rung in t.rungs) / 3600
        kept_back = self.gpus * kept_back / 3600
        if self.gpu_hours is not None and held + kept_back >= self.gpu_hours:
            return self._say("GPU hours", held, self.gpu_hours, kept_back)
        return ""

    def _say(self, unit: str, spent: float, most: float, kept_back: float) -> str:
        kept = f", {kept_back:.2g} of them kept back for confirmation" if self.replica_images else ""
        return f"{spent:.2g} of {most:g} {unit} are spent{kept}"


def seconds_per_image(trials: Sequence[TrialRecord]) -> float:
    """Mean wall seconds a training image over all scored rungs, scoring included; 0 before the first."""
    seconds = sum(rung.seconds for trial in trials for rung in trial.rungs)
    images = sum(trial.rungs[-1].images_seen for trial in trials if trial.rungs)
    return seconds / images if images else 0.0
