"""Writes a study into MLflow: study run -> trial runs -> replicate runs. Lives in the recorder's thread.

Everything is found by tag before it is made, so the same study may be started any number of times.
"""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, field
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ambient_ray.clock import now
from ambient_ray.storage import SAMPLES

from ..checkpoint import CheckpointUnreadableError, local_checkpoint
from ..drawing.rung import draw_rung
from ..labels import (
    ARM,
    FIGURES,
    KIND,
    NOTES,
    OVER,
    REASON,
    REPLICA_OF,
    STATE,
    STATUS,
    STUDY,
    SYSTEM,
    TRIAL,
    finite,
    flat_params,
    question_tags,
    text_tags,
    trial_name,
)
from ..models.registry import register_models
from ..models.versions import warm_up
from ..schema import prepared_tables
from ..store import TrackingStore, open_client
from . import events
from .dataset import dataset_input
from .experiment import describe_experiment, log_new_params, open_experiment, runs_of
from .found import entry_of, told
from .outage import Fault, fault
from .rung_record import rung_metrics, write_rung
from .system import MachineLoad, machine_tags, source_tags
from .view import COLOR, NOTE, run_color

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

_LATE = 60.0  # seconds after which this machine's load says nothing of an event's
_NOTES = 10  # lines of a trial's tag
_BATCH = 100  # MLflow's limit of parameters or tags a call


@dataclass
class _TrialRun:
    """What is known of a trial's run, so that the store is asked once."""

    run_id: str
    params: dict[str, str]
    state: str | None
    steps: set[int] | None = None  # images seen of the rungs already written; None: not asked yet
    inputs: bool = False  # whether the dataset is logged
    facts: dict[str, str] = field(default_factory=dict)
    started: events.TrialStarted | None = None
    began: int = 0  # the run, in milliseconds since 1970
    notes: tuple[str, ...] = ()


class StudyRuns:
    """One study's runs in one store. `write` takes the events in order; not thread-safe."""

    def __init__(self, store: TrackingStore) -> None:
        """Open the store: imports MLflow and creates the schema if it is new, which takes seconds."""
        # MLflow's own progress is no news on a search's terminal.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # Tried again here, where what a lost answer may have written is looked for first; inside one call MLflow would
        # try for minutes, and make a run twice.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
        for name in ("mlflow.store", "mlflow.pyfunc", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._store = store
        with prepared_tables(store.uri):
            self.client = open_client(store.uri)
            self.ping()  # MLflow makes the tables that are missing when it is first asked
        self.at = 0.0  # when the event that is written happened, in seconds since 1970; 0: now
        self.last_try = False  # whether a fault that may be the server's is to be taken for the event's own
        self._trials: dict[int, _TrialRun] = {}
        self._creating: set[int] = set()  # trials whose run may have been made by a call that failed
        self._images: NDArray[np.uint8] | None = None
        self._dataset: DatasetInput | None = None
        self._started = events.StudyStarted("", {}, {}, None, None)
        self._warm = False  # for the models at the end
        self.study = ""
        self.run_id = ""
        self.experiment_id = ""
        self._source: dict[str, str] = {}
        self._link = ""
        self._began = 0.0  # the study's run, in seconds since 1970
        self._load = MachineLoad()

    def ping(self) -> None:
        """One cheap question to the store. Raises what it raises."""
        self.client.search_experiments(max_results=1)

    @singledispatchmethod
    def write(self, event: events.Event) -> None:
        """Write one event. Raises what the store raises, and KeyError for a trial never started.

        After a failure the same event may be written again, whatever of it the store has already.
        """
        raise TypeError(f"no such event: {event!r}")

    @write.register
    def _(self, event: events.StudyStarted) -> None:
        self.study, self._started = event.study, event
        self._images = event.train_images
        self._dataset = None if event.dataset is None else dataset_input(event.dataset)
        self.experiment_id = open_experiment(self.client, event.study, self._store.artifact_location)
        self._link = describe_experiment(self.client, self.experiment_id, event)
        own = text_tags(event.tags)  # with where it ran, when it comes from a spool
        own |= question_tags(event.objectives, [*event.searched, *event.conditional])
        self._source = {key: own.get(key, value) for key, value in source_tags().items()}
        tags = {STUDY: event.study, KIND: "study", STATE: "running", **machine_tags(), **self._source, **own}
        found = runs_of(self.client, self.experiment_id, event.study, "study")
        if self._link and not (found and NOTE in found[0].data.tags):
            tags[NOTE] = f"The answer will stand here when the search has ended.\n\n{self._link}"
        params = flat_params(event.params)
        if found:
            self.run_id = found[0].info.run_id
            self.client.update_run(self.run_id, status="RUNNING")
            log_new_params(self.client, self.run_id, params, dict(found[0].data.params), tags)
        else:
            self.run_id = self.client.create_run(
                self.experiment_id,
                start_time=self._now(),
                tags={KIND: "study", STUDY: event.study},
                run_name=event.study,
            ).info.run_id
            log_new_params(self.client, self.run_id, params, {}, tags)
        self._began = (found[0].info.start_time if found else self._now()) / 1000
        self._log_dataset(self.run_id, found[0] if found else None)
        self._adopt_trials()

    @write.register
    def _(self, event: events.TrialStarted) -> None:
        if event.number in self._creating:  # the answer was lost, the run perhaps not
            self._adopt_trials(only=event.number)
        trial = self._trials.get(event.number)
        if trial is None:
            trial = self._create_trial(event)
        else:
            self.client.update_run(trial.run_id, status="RUNNING")
        trial.state, trial.started = None, event
        color = run_color(event.arm, event.params)
        tags = {STATE: "running", ARM: event.arm, REASON: "", COLOR: color, **self._source}
        log_new_params(self.client, trial.run_id, flat_params(event.params), trial.params, tags)
        if not trial.inputs:
            self._log_dataset(trial.run_id, None)
            trial.inputs = True

    @write.register
    def _(self, event: events.RungScored) -> None:
        from mlflow.entities import Metric, RunTag

        trial, scored = self._trial(event.number), event.scored
        if trial.steps is None:
            trial.steps = {metric.step for metric in self.client.get_metric_history(trial.run_id, "rung")}
        values = rung_metrics(scored)
        facts = text_tags({f"fact.{key}": value for key, value in scored.facts.items()})
        lost = sorted(set(scored.scores) - set(finite(scored.scores)))
        if lost:
            facts[f"not_finite.{scored.images_seen}"] = ", ".join(lost)
        new = dict([item for item in facts.items() if trial.facts.get(item[0]) != item[1]][:_BATCH])
        metrics, problem = [], None
        if scored.images_seen not in trial.steps:
            problem = self._log_rung_files(trial, event)
            at = int(scored.at * 1000) or self._now()
            metrics = [Metric(key, value, at, scored.images_seen) for key, value in values.items()]
        # The metrics come last and in one transaction: `rung` among them says that this rung is all there.
        if metrics or new:
            steps, trial.steps = trial.steps, None  # asked again, should the answer be lost
            tags = [RunTag(key, value) for key, value in new.items()]
            self.client.log_batch(trial.run_id, metrics=metrics, tags=tags)
            trial.steps = steps | {scored.images_seen}
            trial.facts |= new
            self._log_load()
        if problem is not None:
            raise problem

    @write.register
    def _(self, event: events.TrialNoted) -> None:
        trial = self._trial(event.number)
        notes = (*trial.notes, event.text)[-_NOTES:]
        self.client.set_tag(trial.run_id, NOTES, "\n".join(notes))
        trial.notes = notes

    @write.register
    def _(self, event: events.Afterwards) -> None:
        event.action()

    @write.register
    def _(self, event: events.TrialEnded) -> None:
        trial = self._trial(event.number)
        self._end(trial.run_id, event.state, event.reason, trial.began)
        trial.state = event.state
        if not self._warm:
            self._warm = True
            warm_up()

    @write.register
    def _(self, event: events.TrialReplayed) -> None:
        known = self._trials.get(event.started.number)
        if known is not None and known.state in OVER:
            known.started = event.started  # events are written in order, so a run that is over has all its rungs
            return
        self.write(event.started)
        for scored in event.rungs:
            self.write(events.RungScored(event.started.number, scored))
        self.write(event.ended)

    @write.register
    def _(self, event: events.Measured) -> None:
        from mlflow.entities import Metric

        run_id, moment = self._trial(event.number).run_id, self._now()
        new = []
        for key, value in finite(event.metrics).items():
            earlier = [m for m in self.client.get_metric_history(run_id, key) if m.step == event.images_seen]
            if not earlier or max(earlier, key=lambda m: m.timestamp).value != value:
                new.append(Metric(key, value, moment, event.images_seen))
        if new:
            self.client.log_batch(run_id, metrics=new)

    @write.register
    def _(self, event: events.FileLogged) -> None:
        run_id = self.run_id if event.number is None else self._trial(event.number).run_id
        self.client.log_artifact(run_id, str(event.path), event.folder or None)

    @write.register
    def _(self, event: events.TextLogged) -> None:
        self.client.log_text(self.run_id, event.text, event.name)

    @write.register
    def _(self, event: events.FiguresDue) -> None:
        from mlflow.entities import Metric

        with tempfile.TemporaryDirectory(prefix="ambient-figures-") as scratch:
            measured = event.draw(Path(scratch))
            self.client.log_artifacts(self.run_id, scratch, FIGURES)
        moment = self._now()
        metrics = [Metric(key, value, moment, event.images_seen) for key, value in finite(measured).items()]
        if metrics:
            self.client.log_batch(self.run_id, metrics=metrics)

    @write.register
    def _(self, event: events.ModelsFound) -> None:
        model = event.model or self.study
        entries = []
        for found in event.models:
            trial = self._trial(found.number)
            started = trial.started or events.TrialStarted(found.number, "", trial.params)
            entries.append(entry_of(event, found, self._started, started, run_id=trial.run_id))
        registration = register_models(self.client, model, entries)
        log_new_params(self.client, self.run_id, {}, {}, told(model, registration))
        if not event.registration.cancelled():
            event.registration.set_result(registration)

    @write.register
    def _(self, event: events.StudyFinished) -> None:
        from mlflow.entities import Metric

        moment = self._now()
        metrics = [Metric(key, value, moment, event.images_seen) for key, value in finite(event.metrics).items()]
        if metrics:
            self.client.log_batch(self.run_id, metrics=metrics)
        if event.note:
            self.client.set_tag(self.run_id, NOTE, f"{event.note}\n\n{self._link}".strip())
        for trial in self._trials.values():
            if trial.state is None:
                self._end(trial.run_id, "killed", "the search ended before this trial did", trial.began)
                trial.state = "killed"
        self._end(self.run_id, event.state, "", int(self._began * 1000))

    # -- what the events are written with

    def _trial(self, number: int) -> _TrialRun:
        if number not in self._trials:
            raise KeyError(f"trial {number} was never started")
        return self._trials[number]

    def _now(self) -> int:
        """When the event happened, in milliseconds: the same however often it is tried, so nothing is logged twice."""
        return int((self.at or now()) * 1000)

    def _create_trial(self, event: events.TrialStarted) -> _TrialRun:
        parent = self.run_id if event.parent is None else self._trial(event.parent).run_id
        of = {} if event.parent is None else {REPLICA_OF: str(event.parent)}
        kind = "trial" if event.parent is None else "replicate"
        self._creating.add(event.number)
        run = self.client.create_run(
            self.experiment_id,
            start_time=self._now(),
            run_name=trial_name(event.number, event.arm, event.params, event.parent),
            tags={"mlflow.parentRunId": parent, STUDY: self.study, KIND: kind, TRIAL: str(event.number), **of},
        )
        self._creating.discard(event.number)
        self._trials[event.number] = _TrialRun(run.info.run_id, {}, None, steps=set(), began=run.info.start_time)
        return self._trials[event.number]

    def _log_rung_files(self, trial: _TrialRun, event: events.RungScored) -> Exception | None:
        """The rung's record and pictures, among the trial's artifacts; what could not be drawn, to be raised later."""
        scored = event.scored
        problem: Exception | None = None
        checkpoint: Path | None = None
        if scored.checkpoint is not None:
            try:
                checkpoint = local_checkpoint(scored.checkpoint, (SAMPLES,), scored.digest)
            except CheckpointUnreadableError as error:
                problem = CheckpointUnreadableError(
                    f"no pictures of trial {event.number} at {scored.images_seen:,} images: {error}"
                )
        with tempfile.TemporaryDirectory(prefix="ambient-figures-") as scratch:
            folder = Path(scratch)
            if trial.started is not None:
                write_rung(folder, trial.started, scored)
            if checkpoint is not None:
                try:
                    draw_rung(checkpoint, scored.images_seen, self._images, folder)
                except CheckpointUnreadableError as error:  # the scores are good all the same
                    problem = error
            try:
                self.client.log_artifacts(trial.run_id, scratch)
            except Exception as error:  # a store that is full of files may still take figures
                if fault(error) is Fault.AWAY or (fault(error) is Fault.UNCLEAR and not self.last_try):
                    raise
                problem = error
        return problem

    def _end(self, run_id: str, state: str, reason: str, began: int) -> None:
        """began: the run, in ms; it does not end before, though its clock may have been set back between two lives."""
        from mlflow.entities import RunTag

        tags = text_tags({STATE: state, REASON: reason})
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self.client.set_terminated(run_id, status=STATUS[state], end_time=max(self._now(), began))

    def _log_load(self) -> None:
        """Now and then, how busy the driver's machine is, as system metrics of the study's run."""
        from mlflow.entities import Metric

        moment = now()
        if self.at and moment - self.at > _LATE:
            return
        at, step = int(moment * 1000), max(0, int(moment - self._began))  # an earlier life's clock may have been ahead
        load = [Metric(f"{SYSTEM}{key}", value, at, step) for key, value in self._load.metrics(moment).items()]
        if load:
            self.client.log_batch(self.run_id, metrics=load)

    def _adopt_trials(self, only: int | None = None) -> None:
        """Find the trials of earlier lives; end those left RUNNING by a dead search, until taken up."""
        for run in runs_of(self.client, self.experiment_id, self.study, "trial", "replicate"):
            tags = run.data.tags
            if only is not None and tags[TRIAL] != str(only):
                continue
            state = tags.get(STATE)
            if run.info.status not in ("FINISHED", "FAILED", "KILLED"):
                state = "killed"
                self._end(run.info.run_id, state, "the search was interrupted", run.info.start_time)
            facts = {key: value for key, value in tags.items() if key.startswith("fact.")}
            inputs = bool(run.inputs is not None and run.inputs.dataset_inputs)
            self._trials[int(tags[TRIAL])] = _TrialRun(
                run.info.run_id, dict(run.data.params), state, facts=facts, inputs=inputs, began=run.info.start_time,
                notes=tuple(tags[NOTES].splitlines()) if NOTES in tags else (),
            )  # fmt: skip

    def _log_dataset(self, run_id: str, existing: Run | None) -> None:
        logged = existing is not None and existing.inputs is not None and existing.inputs.dataset_inputs
        if self._dataset is not None and not logged:
            self.client.log_inputs(run_id, datasets=[self._dataset])
