"""The study's pictures in MLflow, drawn again and again while the search runs, for a bounded share of its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ambient_ray.reporting.figures.study_figures import StudyView, draw_study, hypervolume_curve, samples_thumbnail
from ambient_ray.storage import SAMPLES, locate
from ambient_ray.tracking import StudyRecorder
from ambient_ray.tracking.checkpoint import CheckpointUnreadableError, local_checkpoint, read_samples
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import Candidate, RungRecord, TrialRecord

_SHARE = 0.004  # of the search's time, at the most, goes into pictures while it runs
_LEAST = 20.0  # seconds between two drawings
#: The pictures that the answer changes; the others are of the search's own trials alone.
LAST = ("front.html", "front.png", "hypervolume.png")
_SHOWN = 16  # samples in a thumbnail


def images_spent(trials: Iterable[TrialRecord]) -> int:
    """Training images of all the search's trials; its replicas are the confirmation's."""
    return sum(trial.rungs[-1].images_seen for trial in trials if trial.rungs and trial.replica_of is None)


class LiveFigures(Listener):
    """A listener that has the study's pictures drawn by MLflow's writer, whenever they have become affordable.

    A drawing that took c seconds is followed by the next after c / .004 seconds at the earliest. The first comes when
    the first trial has ended, others (`draw`) when all have and when there is an answer. Pictures are drawn by one
    thread, one after another, so what they keep needs no lock.

    Args:
        recorder: draws them, in its own thread.
        view: what the study is at the moment.
        clock: seconds, for the test.
    """

    def __init__(
        self, recorder: StudyRecorder, view: Callable[[], StudyView], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._recorder, self._view, self._clock = recorder, view, clock
        self._last = clock()
        self._thumbnails: dict[tuple[int, int], bytes | None] = {}
        self._any_ended = False

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores may move the front."""
        self._offer()

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial's end may settle what bounds the hypervolume."""
        self._any_ended = True
        self._offer()

    def _offer(self) -> None:
        took = self._recorder.refreshed
        if self._any_ended and took is not None and self._clock() - self._last >= max(_LEAST, took / _SHARE):
            self.draw(running=True)

    def draw(
        self, champion: Candidate | None = None, *, running: bool = False, only: Collection[str] | None = None
    ) -> None:
        """Queue a drawing of what the study is now.

        Args:
            champion: marked in the front.
            running: whether trials may still change it; the pictures say so.
            only: the names of the pictures to draw; None: all.
        """
        where = None if champion is None else (champion.trial.number, champion.rung.rung)
        view = replace(self._view(), champion=where, running=running)
        self._last = self._clock()
        self._recorder.refresh(lambda folder: self._drawn(view, folder, only), images_spent(view.trials))

    def _drawn(self, view: StudyView, folder: Path, only: Collection[str] | None) -> Mapping[str, float]:
        draw_study(view, folder, thumbnail=self._thumbnail, only=only)
        _, volumes = hypervolume_curve(view)
        return {"hypervolume": float(volumes[-1])} if len(volumes) else {}

    def _thumbnail(self, candidate: Candidate) -> bytes | None:
        key = candidate.trial.number, candidate.rung.rung
        if key not in self._thumbnails:
            self._thumbnails[key] = _samples(candidate.rung)
        return self._thumbnails[key]


def _samples(rung: RungRecord) -> bytes | None:
    """A thumbnail of a checkpoint's samples; None where they are gone, or broken, which its rung's pictures tell."""
    try:
        samples = read_samples(local_checkpoint(locate(rung.checkpoint), (SAMPLES,), rung.digest))
    except CheckpointUnreadableError:
        return None
    return None if samples is None else samples_thumbnail(samples.images[:_SHOWN])
