"""What waits for MLflow: whole, in its order, on disk, and written once, whatever fails and however often."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from ambient_ray.interval import Interval
from ambient_ray.tracking import (
    DatasetFacts,
    Evidence,
    RungScores,
    StudyRecorder,
    TrackingStore,
    WaitingError,
    upload_spool,
    upload_spools,
)
from ambient_ray.tracking import events as ev
from ambient_ray.tracking import runs as runs_module
from ambient_ray.tracking.event_json import SpooledEventError, decode, encode
from ambient_ray.tracking.outage import Fault, fault
from ambient_ray.tracking.spool import Spool, SpoolBusyError, entries, read_entry

DATASET = DatasetFacts("digits", "ab" * 32, "built-in", (1, 8, 8), {"n_train": 300})
EVIDENCE = Evidence(("fd", "f_mem"), Interval(1.0, 0.5, 1.5), Interval(0.1), confirmed=True, seeds=(3, 4))
AMBIENT = {"objective.sigma_tn": 0.4711, "objective.noisy_ratio": 0.3}


class Faulty:
    """A client of MLflow whose calls fail as `fails(number of the call)` says: None, "request" or "answer" lost."""

    def __init__(self, client: MlflowClient, fails: Callable[[int], str | None]) -> None:
        self._client, self._fails, self.calls = client, fails, 0

    def __getattr__(self, name: str):
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def call(*args, **kwargs):
            number, self.calls = self.calls, self.calls + 1
            lost = self._fails(number)
            if lost == "request":
                raise requests.exceptions.ConnectionError("Connection refused")
            answer = method(*args, **kwargs)
            if lost == "answer":
                raise requests.exceptions.ConnectionError("Connection reset by peer")
            return answer

        return call


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, store: TrackingStore) -> Callable[..., Faulty]:
    """Let the recorder's client fail."""
    good = MlflowClient(store.uri, store.uri)

    def install(fails: Callable[[int], str | None]) -> Faulty:
        client = Faulty(good, fails)
        monkeypatch.setattr(runs_module, "open_client", lambda uri: client)
        return client

    return install


def record(recorder: StudyRecorder, study: str, checkpoint: Path) -> None:
    """A small study with one of each event."""
    recorder.start(study, {"seed": 0, "trial": {"workers": 2}}, dataset=DATASET)
    recorder.trial_started(0, "ddpm", {"objective.sigma_tn": 0.0})
    for rung in range(2):
        facts = {"extractor": "pixels", "n": 20 + rung}
        scores = {"fd": 90.0 - rung, "f_mem": 0.1, "kid": float("inf")}
        recorder.rung_scored(0, RungScores(rung, 100 * (rung + 1), scores, facts, checkpoint))
    recorder.trial_started(1, "ambient", AMBIENT | {"seed": 7}, parent=0)
    recorder.trial_ended(0, "finished")
    recorder.replay(2, "ambient", AMBIENT, [RungScores(0, 100, {"fd": 3.0})], "stopped", "dominated")
    recorder.measured(0, 100, {"confirmed.fd": 88.0})
    recorder.log_text("hello", "notes/hello.txt")
    recorder.register_champion(0, RungScores(1, 200, {"fd": 89.0}, {"n": 1}, checkpoint), EVIDENCE, model=study)
    recorder.finish({"hypervolume": 1.5}, note="done")


def contents(store: TrackingStore, study: str) -> dict:
    """All that MLflow holds of a study, without what differs between two studies: ids and times."""
    client = MlflowClient(store.uri, store.uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs: list[Run] = list(client.search_runs([experiment.experiment_id]))
    names = {run.info.run_id: run.info.run_name.replace(study, "STUDY") for run in runs}
    assert len(set(names.values())) == len(names), "a run was made twice"

    def files(run_id: str, path: str | None = None) -> list[str]:
        found = client.list_artifacts(run_id, path)
        return [f for file in found for f in (files(run_id, file.path) if file.is_dir else [file.path])]

    def tags(run: Run) -> dict[str, str]:
        own = {key: names.get(value, value.replace(study, "STUDY")) for key, value in run.data.tags.items()}
        return {key: value for key, value in own.items() if key != "mlflow.user"}

    found = {
        names[run.info.run_id]: {
            "status": run.info.status,
            "params": run.data.params,
            "tags": tags(run),
            "inputs": [i.dataset.digest for i in run.inputs.dataset_inputs],
            "metrics": {
                key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
            "files": sorted(files(run.info.run_id)),
            "models": len(run.outputs.model_outputs) if run.outputs else 0,
        }
        for run in runs
    }
    versions = client.search_model_versions(f"name='{study}'")
    found["versions"] = [(version.version, sorted(version.aliases)) for version in versions]
    found["logged models"] = len(client.search_logged_models([experiment.experiment_id]))
    return found


@pytest.fixture
def whole(store: TrackingStore, write_checkpoint: Callable[..., Path], faulty: Callable[..., Faulty]):
    """A study recorded without any fault: what it holds, its checkpoint, and how many calls it took."""
    checkpoint = write_checkpoint()
    client = faulty(lambda number: None)
    with StudyRecorder(store) as recorder:
        record(recorder, "faultless", checkpoint)
        assert recorder.close() == ()
    return contents(store, "faultless"), checkpoint, client.calls


def test_an_answer_lost_at_any_call_changes_nothing(store: TrackingStore, whole, faulty) -> None:
    expected, checkpoint, calls = whole
    assert calls > 30
    for lost in range(calls):
        client = faulty(lambda number, lost=lost: "answer" if number == lost else None)
        with StudyRecorder(store, backoff=(0.001, 0.01)) as recorder:
            record(recorder, f"lost {lost}", checkpoint)
            assert recorder.close() == ()
        assert client.calls > calls
        found = contents(store, f"lost {lost}")
        assert found == expected, f"call {lost}"
