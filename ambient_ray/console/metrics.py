"""A search in Prometheus: what its driver counts goes out by the metrics endpoint that Ray has on each node.

All of it is counted in the driver, so a search has one source, and its series are few: the study, and words from closed
sets. A trial's own curves are MLflow's. Ray prefixes each name with `ray_`. Where no metrics agent runs, all of it is
counted for nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from ambient_ray.tuning.faults import Fault
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import RungRecord, TrialRecord

from .standing import cause_of

STATES = ("running", "finished", "stopped", "failed")
_SECONDS = [0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0]

#: name -> (kind, tags besides `study`, what it is). Ray adds a counter's `_total`.
METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "ambient_trials": ("gauge", ("state",), "Trials of the search by state, replicas not counted."),
    "ambient_trials_at_once": ("gauge", (), "Trials that run at this moment, replicas included."),
    "ambient_trials_waiting": ("gauge", ("for",), "Trials that wait: for room, or for storage."),
    "ambient_rungs": ("counter", (), "Rungs scored by this driver."),
    "ambient_images_seen": ("counter", (), "Training images seen in the rungs that this driver heard of."),
    "ambient_images_per_second": ("gauge", (), "Training speed, all running trials together."),
    "ambient_loss": ("gauge", ("of",), "Recent training loss: least, median and most over the running trials."),
    "ambient_judged": ("counter", ("answer",), "Answers of the judge: go_on, stop."),
    "ambient_judge_seconds": ("histogram", (), "How long trials waited for the judge's answer."),
    "ambient_failures": ("counter", ("cause",), "Trials that failed, by cause."),
    "ambient_survived": ("counter", ("cause",), "Failures that trials survived, by cause."),
    "ambient_worker_starts": ("counter", (), "Times that a trial's workers began or went on with it."),
    "ambient_checkpoint_seconds": ("histogram", (), "How long a checkpoint took to be kept, waiting included."),
    "ambient_checkpoint_bytes": ("counter", (), "Bytes of checkpoints kept in folders (not in buckets)."),
    "ambient_storage_wait_seconds": ("counter", (), "Seconds that trials waited for storage."),
    "ambient_mlflow_queue": ("gauge", (), "Events that wait for MLflow."),
    "ambient_mlflow_away_seconds": ("gauge", (), "For how long MLflow has been away; 0 where it is not."),
}


class Metrics(Listener):
    """A listener that counts. Ray must have been started.

    Args:
        study: the study's name, a tag of all.
    """

    def __init__(self, study: str) -> None:
        from ray.util import metrics

        self._study = study
        kinds = {"gauge": metrics.Gauge, "counter": metrics.Counter, "histogram": metrics.Histogram}
        self._metrics: dict[str, Any] = {}
        for name, (kind, tags, what) in METRICS.items():
            more = {"boundaries": _SECONDS} if kind == "histogram" else {}
            self._metrics[name] = kinds[kind](name, description=what, tag_keys=("study", *tags), **more)
        self._state: dict[int, str] = {}  # of trials that are no replicas
        self._images: dict[int, int] = {}
        self._waits: dict[str, float] = {}

    def known(self, trials: list[TrialRecord]) -> None:
        """What the study holds already: its states count, its images are not seen again."""
        for trial in trials:
            self._take(trial)
            self._images[trial.number] = trial.rungs[-1].images_seen if trial.rungs else 0

    # -- Listener ---------------------------------------------------------------------------------------------

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial is handed to Tune."""
        self._take(trial)
        self._show_states()

    def trial_told(self, trial: TrialRecord, told: Mapping[str, Any]) -> None:
        """A worker is up; the judge has answered; a checkpoint is kept."""
        if (place := told.get("place")) and not place.get("rank", 0):
            self._count("ambient_worker_starts")
        if judged := told.get("judged"):
            self._count("ambient_judged", answer="go_on" if judged["goes_on"] else "stop")
            self._observe("ambient_judge_seconds", float(judged["seconds"]))
        if saved := told.get("saved"):
            self._observe("ambient_checkpoint_seconds", float(saved["seconds"]))
            self._count("ambient_checkpoint_bytes", float(saved["bytes"] or 0))  # None: it is in a bucket

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung is done."""
        self._take(trial)
        self._count("ambient_rungs")
        before = self._images.get(trial.number, 0)
        self._images[trial.number] = max(before, rung.images_seen)
        self._count("ambient_images_seen", max(0, rung.images_seen - before))

    def trial_survived(self, trial: TrialRecord, fault: Fault) -> None:
        """A trial survived a failure."""
        self._count("ambient_survived", cause=fault.cause)

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended."""
        self._take(trial)
        if trial.state == "failed":
            self._count("ambient_failures", cause=cause_of(trial))
        if trial.state == "stopped":
            self._count("ambient_judged", answer="stop")
        self._show_states()

    # -- every few seconds ------------------------------------------------------------------------------------

    def tick(self, state: Mapping[str, Any]) -> None:
        """Show what the driver's live state (`Live.state`) says of the moment."""
        trials = state["trials"]
        self._show_states()
        self._show("ambient_trials_at_once", len(trials))
        waiting = [number for number, heard in trials.items() if heard["waits"]]
        self._show("ambient_trials_waiting", len(waiting), **{"for": "storage"})
        self._show("ambient_trials_waiting", sum(not h["places"] for h in trials.values()), **{"for": "room"})
        for number in waiting:
            since = self._waits.setdefault(number, state["at"])
            self._count("ambient_storage_wait_seconds", max(0.0, state["at"] - since))
            self._waits[number] = state["at"]
        self._waits = {number: at for number, at in self._waits.items() if number in waiting}
        self._show("ambient_images_per_second", sum(heard["images_per_second"] or 0.0 for heard in trials.values()))
        if losses := sorted(heard["loss"] for heard in trials.values() if heard["loss"] is not None):
            for of, loss in (("least", losses[0]), ("median", median(losses)), ("most", losses[-1])):
                self._show("ambient_loss", loss, of=of)
        self._show("ambient_mlflow_queue", state["mlflow"]["queued"])
        self._show("ambient_mlflow_away_seconds", state["mlflow"]["away_seconds"] or 0.0)

    # -- inside -----------------------------------------------------------------------------------------------

    def _take(self, trial: TrialRecord) -> None:
        if trial.replica_of is None:
            self._state[trial.number] = trial.state

    def _show_states(self) -> None:
        held = list(self._state.values())
        for state in STATES:
            self._show("ambient_trials", held.count(state), state=state)

    def _show(self, name: str, value: float, **tags: str) -> None:
        self._metrics[name].set(float(value), tags={"study": self._study, **tags})

    def _observe(self, name: str, value: float) -> None:
        self._metrics[name].observe(value, tags={"study": self._study})

    def _count(self, name: str, by: float = 1.0, **tags: str) -> None:
        if by > 0:  # Ray takes no other
            self._metrics[name].inc(by, tags={"study": self._study, **tags})
