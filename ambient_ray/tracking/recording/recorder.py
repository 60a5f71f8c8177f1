"""The study's one MLflow writer: a thread inside the search's driver, fed by a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..models.promotion import Evidence
from ..models.registry import Registration
from ..store import TrackingStore
from . import events
from .events import DatasetFacts, FoundModel, RungScores
from .writer import TrackingFailedError, Writer, sentence


class StudyRecorder:
    """Records a study into MLflow. Every method but `flush` and `close` only queues.

    With `start` its thread imports MLflow and creates the schema, seconds of work: call it when the search's own
    processes are starting. Problems while writing never reach the search: they are
    logged, kept in `problems`, and returned by `close`. A store that goes away is waited for: nothing is lost, and all
    is written in its order when it is back.

        with StudyRecorder(resolve_store(uri, output_dir)) as recorder:
            recorder.start("faces", params, dataset=facts)
            ...
            recorder.finish({"hypervolume": 1.2})

    Leaving the block without `finish` (Ctrl-C, an error) marks the open runs KILLED or FAILED; the same study
    started again takes them up.
    """

    def __init__(
        self,
        store: TrackingStore,
        *,
        spool: Path | None = None,
        on_state: Callable[[str], None] | None = None,
        backoff: tuple[float, float] = (0.25, 5.0),
    ) -> None:
        """Nothing is done before `start`.

        store: from `resolve_store`, checked with `check_tracking`. spool: the folder that keeps on disk what waits
        for a store that is away; `start` uploads first what an earlier life left there. None: what is not written at
        the end is lost, and told. on_state: called from the writer's thread with one line when the store goes away
        and one when it is back (default: a warning in the log). backoff: seconds between tries, first and longest.
        """
        self._writer = Writer(store, spool, backoff=backoff)
        self._writer.on_state = on_state
        self._started = self._finished = self._closed = False

    def tell_state(self, on_state: Callable[[str], None] | None) -> None:
        """Say from now on to `on_state` when the store goes away and when it is back."""
        self._writer.on_state = on_state

    # -- what happens, in order

    def start(
        self,
        study: str,
        params: Mapping[str, Any],
        *,
        tags: Mapping[str, Any] | None = None,
        dataset: DatasetFacts | None = None,
        train_images: NDArray[np.uint8] | None = None,
        objectives: tuple[str, str] | None = None,
        searched: Sequence[str] = (),
        conditional: Sequence[str] = (),
    ) -> None:
        """Begin the study, or go on with it: its runs are found by tag, never made twice.

        params: the resolved configuration, nested as it likes. train_images uint8 [N,H,W,C]: S, for the
        galleries of nearest training images; kept by reference. objectives: the names of the scores of fidelity
        and memorization, for the saved view; searched: the parameters that vary, the most telling first, and
        conditional: those of them that some trials lack.
        """
        if not self._started:
            self._writer.start()
        self._started = True
        asked = (objectives, tuple(searched), tuple(conditional))
        self._put(events.StudyStarted(study, dict(params), dict(tags or {}), dataset, train_images, *asked))

    def replay(
        self,
        number: int,
        arm: str,
        params: Mapping[str, Any],
        rungs: Iterable[RungScores],
        state: str,
        reason: str = "",
        *,
        parent: int | None = None,
    ) -> None:
        """A trial that an earlier life of the search ended. Nothing happens where MLflow has it already.

        After a SIGKILL the study's storage may know more than MLflow: call this for every ended trial on a
        resume.
        """
        started = events.TrialStarted(number, arm, dict(params), parent)
        self._put(events.TrialReplayed(started, tuple(rungs), events.TrialEnded(number, state, reason)))

    def trial_started(self, number: int, arm: str, params: Mapping[str, Any], *, parent: int | None = None) -> None:
        """A trial begins or is taken up again. arm: ddpm, ambient, ...; parent: the trial it replicates."""
        self._put(events.TrialStarted(number, arm, dict(params), parent))

    def rung_scored(self, number: int, scored: RungScores) -> None:
        """A trial was scored; pictures are drawn of the samples.npz in its checkpoint's folder.

        Of a folder that is gone when it is read the pictures are missing, which is told, and nothing else. A rung that
        MLflow has already is left alone.
        """
        self._put(events.RungScored(number, scored))

    def trial_noted(self, number: int, text: str) -> None:
        """Something worth a line, as a clause without the trial's name; the last few stand in a tag of its run."""
        self._put(events.TrialNoted(number, text))

    def trial_ended(self, number: int, state: str, reason: str = "") -> None:
        """A trial ended. state: finished, stopped (by the judge), failed, killed; reason: one sentence."""
        self._put(events.TrialEnded(number, state, reason))

    def measured(self, number: int, images_seen: int, metrics: Mapping[str, float]) -> None:
        """Metrics of a trial at a training length, besides its rungs' own: the means over its replicas.

        The trial may have ended. A value that MLflow has already is not written again.
        """
        self._put(events.Measured(number, images_seen, dict(metrics)))

    def log_file(self, path: Path, folder: str = "", *, number: int | None = None) -> None:
        """A file among the artifacts of the study's run, or of trial `number`; the same name is replaced."""
        self._put(events.FileLogged(Path(path), folder, number))

    def log_text(self, text: str, name: str) -> None:
        """A text file among the artifacts of the study's run, at the path `name`."""
        self._put(events.TextLogged(text, name))

    def register_models(
        self, models: Iterable[FoundModel], *, model: str = "", command: str = ""
    ) -> Future[Registration]:
        """Register checkpoints as versions of `model` (by default the study's name) and move aliases (`registry`).

        command: of the search, kept with each version. The future raises what the registry raised; the same call again
        registers what is missing. It raises WaitingError where MLflow has been away for 15 s, or is when the recorder
        is closed: they are registered when it is back.
        """
        registration: Future[Registration] = Future()
        self._put(events.ModelsFound(model, tuple(models), command, registration))
        return registration

    def register_champion(
        self, number: int, scored: RungScores, evidence: Evidence, *, model: str = ""
    ) -> Future[Registration]:
        """`register_models` for one checkpoint, of trial `number`, that is to be the champion if it may."""
        return self.register_models([FoundModel(number, scored, evidence, ("champion",))], model=model)

    def refresh(self, draw: Callable[[Path], Mapping[str, float]], images_seen: int) -> None:
        """Have pictures of the whole study drawn and replaced among its artifacts, in the folder `figures`.

        draw: writes them into the folder that it is given, in the writer's thread, and returns metrics of the study at
        `images_seen`, the training images spent so far.
        """
        self._writer.refreshed = None
        self._put(events.FiguresDue(draw, images_seen))

    def afterwards(self, action: Callable[[], None]) -> None:
        """Have `action` called, in the writer's thread, when all that was queued before is written; it returns at once.

        It is not called in this life of the search where the store stays away to its end.
        """
        self._put(events.Afterwards(action))

    def finish(
        self,
        metrics: Mapping[str, float] | None = None,
        *,
        state: str = "finished",
        note: str = "",
        images_seen: int = 0,
    ) -> None:
        """End the study: summary metrics, a note (Markdown) for its page. Trials still open become KILLED.

        images_seen: the training images that the study spent, at which the metrics stand.
        """
        self._finished = True
        self._put(events.StudyFinished(dict(metrics or {}), state, note, images_seen))

    # -- how it went

    @property
    def refreshed(self) -> float | None:
        """Seconds that the last drawing of the study's pictures took; None while one is waiting."""
        return self._writer.refreshed

    @property
    def queued(self) -> int:
        """How many events are not written yet."""
        return self._writer.queued

    @property
    def away(self) -> float | None:
        """For how many seconds the store has not answered; None while it does."""
        return self._writer.away

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the writer's thread has spent so far."""
        return self._writer.cpu_seconds

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be written so far, one sentence each."""
        return self._writer.problems

    def check(self) -> None:
        """Raise TrackingFailedError if the store could not be opened, so that nothing will be recorded."""
        fatal = self._writer.fatal
        if fatal is not None:
            raise TrackingFailedError(f"MLflow cannot record this study: {sentence(fatal)}") from fatal

    def flush(self, timeout: float = 60.0) -> bool:
        """Wait until everything so far is written; False if it takes longer than `timeout` seconds."""
        return self._writer.flush(timeout)

    def close(self, timeout: float = 60.0, *, state: str = "killed") -> tuple[str, ...]:
        """Write what is queued, for at most `timeout` seconds, and return what could not be written.

        What is left then goes into the spool, if there is one; a store that is away is then waited for 10 s at the
        most. Without an earlier `finish` the open runs end with `state`. May be called twice.
        """
        if not self._closed:
            if self._started and not self._finished:
                self.finish(state=state)
            self._closed = True
        return self._writer.close(timeout)

    def __enter__(self) -> Self:
        """The recorder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; open runs become FAILED after an error, KILLED after Ctrl-C or without a `finish`."""
        self.close(state="failed" if isinstance(error, Exception) else "killed")

    def _put(self, event: events.Event) -> None:
        self._writer.put(event)
