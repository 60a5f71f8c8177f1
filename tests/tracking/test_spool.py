"""What waits for MLflow: whole, in its order, on disk, and written once, whatever fails and however often."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from ambient_ray.interval import Interval
from ambient_ray.tracking import (
    SPOOL,
    DatasetFacts,
    Evidence,
    RungScores,
    StudyRecorder,
    TrackingStore,
    WaitingError,
    catch_up,
    upload_spool,
    upload_spools,
)
from ambient_ray.tracking.recording import events as ev
from ambient_ray.tracking.recording import runs as runs_module
from ambient_ray.tracking.recording.spool import Spool, SpoolBusyError, entries, read_entry

DATASET = DatasetFacts("digits", "ab" * 32, "built-in", (1, 8, 8), {"n_train": 300})
EVIDENCE = Evidence(("fd", "f_mem"), Interval(1.0, 0.5, 1.5), Interval(0.1), confirmed=True, seeds=(3, 4))
AMBIENT = {"objective.sigma_tn": 0.4711, "objective.noisy_ratio": 0.3}


class Faulty:
    """A client of MLflow whose calls fail as `fails(number, name)` says: None, "request" or "answer" is lost."""

    def __init__(self, client: MlflowClient, fails: Callable[[int, str], str | None]) -> None:
        self._client, self._fails, self.calls = client, fails, 0

    def __getattr__(self, name: str):
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def call(*args, **kwargs):
            number, self.calls = self.calls, self.calls + 1
            lost = self._fails(number, name)
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
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    good = MlflowClient(store.uri, store.uri)

    def install(fails: Callable[[int, str], str | None]) -> Faulty:
        client = Faulty(good, fails)
        monkeypatch.setattr(runs_module, "open_client", lambda uri: client)
        return client

    return install


def record(
    recorder: StudyRecorder, study: str, checkpoint: Path | None, champion: Path | None = None, *, finish: bool = True
) -> None:
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
    if champion is not None:
        recorder.register_champion(0, RungScores(1, 200, {"fd": 89.0}, {"n": 1}, champion), EVIDENCE, model=study)
    if finish:
        recorder.finish({"hypervolume": 1.5}, note="done")


def contents(store: TrackingStore, study: str) -> dict:
    """All that MLflow holds of a study, without what differs between two: ids, times, the process and its load."""
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
        return {key: value for key, value in own.items() if not key.startswith(("mlflow.user", "mlflow.source"))}

    found = {
        names[run.info.run_id]: {
            "status": run.info.status,
            "params": run.data.params,
            "tags": tags(run),
            "inputs": [i.dataset.digest for i in run.inputs.dataset_inputs],
            "metrics": {
                key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
                if not key.startswith("system/")  # the machine's load, now and then
            },
            "files": sorted(files(run.info.run_id)),
            "models": len(run.outputs.model_outputs) if run.outputs else 0,
        }
        for run in runs
    }
    versions = client.search_model_versions(f"name='{study}'")
    found["versions"] = [int(version.version) for version in versions]
    found["aliases"] = dict(client.get_registered_model(study).aliases) if versions else {}
    models = client.search_logged_models([experiment.experiment_id])
    found["logged models"] = sum(model.status == "READY" for model in models)
    return found


def differences(found, expected, where: str = "") -> list[str]:
    """Where two contents differ: short enough to read."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(set(found) | set(expected))
        return [d for key in keys for d in differences(found.get(key), expected.get(key), f"{where}/{key}")]
    return [] if found == expected else [f"{where}: {found!r} instead of {expected!r}"]


@pytest.fixture
def quick(store: TrackingStore) -> Callable[..., StudyRecorder]:
    """A recorder that does not wait long between tries."""
    return lambda **more: StudyRecorder(store, backoff=(0.001, 0.01), **more)


def test_answers_lost_at_any_call_change_nothing(store: TrackingStore, quick, faulty) -> None:
    """A call that was carried out, whose caller heard nothing: made again, it must not make anything twice.

    Every thirteenth answer is lost, from any first one on: more calls than that no event needs.
    """
    client = faulty(lambda number, name: None)
    with quick() as recorder:
        record(recorder, "faultless", None)
        assert recorder.close() == ()
    expected, calls = contents(store, "faultless"), client.calls
    assert calls > 25
    for first in range(13):
        client = faulty(lambda number, name, first=first: "answer" if number % 13 == first else None)
        with quick() as recorder:
            record(recorder, f"lost {first}", None)
            assert recorder.close() == ()
        assert client.calls > calls + 2
        assert differences(contents(store, f"lost {first}"), expected) == [], f"from call {first} on"


def test_the_first_answer_of_every_method_lost(store: TrackingStore, quick, faulty, write_checkpoint) -> None:
    checkpoint = write_checkpoint()
    faulty(lambda number, name: None)
    with quick() as recorder:
        record(recorder, "with champion", checkpoint, checkpoint)
        assert recorder.close() == ()
    seen: set[str] = set()

    def fails(number: int, name: str) -> str | None:
        new = name not in seen
        seen.add(name)
        return "answer" if new else None

    faulty(fails)
    with quick() as recorder:
        record(recorder, "with faults", checkpoint, checkpoint)
        assert recorder.close() == ()
    assert len(seen) > 15
    expected, found = contents(store, "with champion"), contents(store, "with faults")
    assert found["versions"] == [1] and int(found["aliases"]["champion"]) == 1
    # When the answer to the alias' move was lost, the model is found to be the champion.
    assert "champion already" in found["STUDY"]["tags"].pop("ambient_ray.promotion")
    del expected["STUDY"]["tags"]["ambient_ray.promotion"]
    assert differences(found, expected) == []


def away(number: int, name: str) -> str:
    return "request"


def test_what_waits_is_on_disk_at_once_and_is_uploaded_in_order(
    store: TrackingStore, quick, faulty, write_checkpoint, tmp_path: Path
) -> None:
    checkpoint, spool = write_checkpoint(), tmp_path / "study" / "spool"
    faulty(lambda number, name: None)
    with quick() as recorder:
        record(recorder, "never away", checkpoint, checkpoint)
        assert recorder.close() == ()
    faulty(away)
    recorder = quick(spool=spool)
    record(recorder, "away", checkpoint, checkpoint)
    until(lambda: len(entries(spool)) >= 11)
    (told,) = recorder.close(timeout=0.2)
    assert told.startswith("sqlite:///") and "does not answer (Connection refused)" in told
    assert f"11 events are kept in {spool}" in told and "next command of this study" in told
    shutil.rmtree(checkpoint)  # as the study does with what it no longer needs
    assert upload_spools(TrackingStore("http://elsewhere:5000", None), tmp_path) == []  # not meant for that one
    faulty(lambda number, name: None)
    (uploaded,) = upload_spools(store, tmp_path)
    assert (uploaded.written, uploaded.left, uploaded.problems) == (11, 0, ())
    assert "11 events" in uploaded.sentence and not spool.exists()
    assert differences(contents(store, "away"), contents(store, "never away")) == []
    assert upload_spool(store, spool).sentence == ""


def test_another_command_finds_what_waits_by_the_folder_that_the_study_names(
    store: TrackingStore, quick, faulty, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ambient_ray.tracking.recording.writer._QUIET", 0.05)
    state = {"away": False}
    faulty(lambda number, name: "request" if state["away"] else None)
    recorder = quick(spool=tmp_path / "elsewhere" / "far" / SPOOL)
    recorder.start("far", {"output_dir": str(tmp_path / "elsewhere")})
    assert recorder.flush()
    state["away"] = True
    recorder.trial_started(0, "ddpm", {"seed": 1})
    recorder.close(1.0, state="finished")
    assert len(entries(tmp_path / "elsewhere" / "far" / SPOOL)) > 0
    monkeypatch.undo()
    said = catch_up(store.uri)
    assert any("elsewhere" in line and "are in MLflow now" in line for line in said)
    assert contents(store, "far")["STUDY"]["status"] == "FINISHED"
    assert catch_up(store.uri) == []


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_outage_in_the_middle_is_said_once_and_caught_up_with(
    store: TrackingStore, quick, faulty, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ambient_ray.tracking.recording.writer._QUIET", 0.05)
    spool, lines = tmp_path / "spool", []
    state = {"away": False}
    faulty(lambda number, name: "request" if state["away"] else None)
    with quick(spool=spool, on_state=lines.append) as recorder:
        recorder.start("interlude", {})
        recorder.trial_started(0, "ddpm", {"seed": 1})
        assert recorder.flush() and not spool.exists()
        state["away"] = True
        for rung in range(3):
            recorder.rung_scored(0, RungScores(rung, 100 * (rung + 1), {"fd": 9.0 - rung}))
        # What is on disk begins with what its events need, so that another process can go on from there.
        until(lambda: len(entries(spool)) == 5)
        kinds = [type(read_entry(entry).event).__name__ for entry in entries(spool)]
        assert kinds == ["StudyStarted", "TrialStarted", "RungScored", "RungScored", "RungScored"]
        until(lambda: len(lines) == 1)
        state["away"] = False
        assert recorder.flush()
        recorder.trial_ended(0, "finished")
        recorder.finish()
        assert recorder.close() == ()
    assert len(lines) == 2 and "does not answer" in lines[0] and "answers again after" in lines[1]
    assert not spool.exists()
    runs = contents(store, "interlude")
    assert runs["DDPM · trial 0"]["metrics"]["fd"] == [(100, 9.0), (200, 8.0), (300, 7.0)]
    assert len([f for f in runs["DDPM · trial 0"]["files"] if f.startswith("rungs/")]) == 3


def test_the_same_search_uploads_what_its_killed_life_left(
    store: TrackingStore, quick, faulty, tmp_path: Path, write_checkpoint
) -> None:
    """Killed during an outage: the spool has what the study's storage does not know, and both say the trials."""
    checkpoint, spool = write_checkpoint(), tmp_path / "spool"
    faulty(lambda number, name: None)
    with quick() as recorder:
        record(recorder, "life of one", checkpoint, checkpoint)
        recorder.close()
    code = f"""
import os, signal, sys, time, requests
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_spool
from pathlib import Path
from mlflow import MlflowClient
from ambient_ray.tracking import StudyRecorder, TrackingStore
from ambient_ray.tracking.recording import runs
client = test_spool.Faulty(MlflowClient({store.uri!r}), test_spool.away)
runs.open_client = lambda uri: client
recorder = StudyRecorder(TrackingStore({store.uri!r}, {store.artifact_location!r}), spool=Path({str(spool)!r}))
test_spool.record(recorder, "life of two", Path({str(checkpoint)!r}), Path({str(checkpoint)!r}), finish=False)
while len(test_spool.entries(Path({str(spool)!r}))) < 10:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(entries(spool)) == 10
    lines: list[str] = []
    faulty(lambda number, name: None)
    with quick(spool=spool, on_state=lines.append) as recorder:
        record(recorder, "life of two", checkpoint, checkpoint)  # the storage knows all of it too
        assert recorder.close() == ()
    assert "uploaded that an earlier search kept" in lines[0] and not spool.exists()
    found, expected = contents(store, "life of two"), contents(store, "life of one")
    # The second life finds its champion registered.
    assert "champion already" in found["STUDY"]["tags"].pop("ambient_ray.promotion")
    del expected["STUDY"]["tags"]["ambient_ray.promotion"]
    assert differences(found, expected) == []


def test_a_killed_study_that_only_another_command_uploads_is_ended(store, quick, faulty, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", store)
    spool.add(ev.StudyStarted("half", {}, {}, None, None), 1.0)
    spool.add(ev.TrialStarted(0, "ddpm", {"seed": 1}), 2.0)
    spool.add(ev.RungScored(0, RungScores(0, 100, {"fd": 1.0}, checkpoint=tmp_path / "gone")), 3.0)
    with pytest.raises(SpoolBusyError, match="another process works on"):
        Spool(tmp_path / "spool", store)
    assert "another process" in upload_spool(store, tmp_path / "spool").problems[0]
    spool.close()
    uploaded = upload_spool(store, tmp_path / "spool")
    assert uploaded.written == 3 and uploaded.left == 0
    # The numbers are there, and what is missing is told.
    assert len(uploaded.problems) == 1 and "no pictures of trial 0 at 100 images" in uploaded.problems[0]
    found = contents(store, "half")
    assert found["STUDY"]["status"] == found["DDPM · trial 0"]["status"] == "KILLED"
    assert found["DDPM · trial 0"]["metrics"]["fd"] == [(100, 1.0)]
    run = MlflowClient(store.uri, store.uri).get_experiment_by_name("half")
    (trial,) = MlflowClient(store.uri, store.uri).search_runs([run.experiment_id], "tags.`ambient_ray.trial` = '0'")
    assert trial.info.start_time == 2000  # when it happened, not when it was uploaded


def test_a_registration_promises_to_be_made_later(store, quick, faulty, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ambient_ray.tracking.recording.writer._AWAY_FOR_NOW", 0.1)
    monkeypatch.setattr("ambient_ray.tracking.recording.writer._PROMISE", 0.0)
    client = faulty(away)
    recorder = quick(spool=tmp_path / "spool")
    recorder.start("promise", {})
    scored = RungScores(0, 100, {"fd": 1.0}, checkpoint=tmp_path / "gone")
    future = recorder.register_champion(0, scored, EVIDENCE)
    with pytest.raises(WaitingError, match=r"waits in .*spool and is made by the next command of this study"):
        future.result(timeout=20)
    monkeypatch.setattr("ambient_ray.tracking.recording.writer._PROMISE", 1000.0)
    late = recorder.register_champion(0, scored, EVIDENCE)
    client._fails = lambda number, name: None
    assert recorder.flush()
    assert "trial 0 was never started" in str(late.exception())
    (problem,) = recorder.close()  # who was promised it later is not there to tell it
    assert "trial 0 was never started" in problem


def test_a_full_disk_is_one_sentence(store, quick, faulty, monkeypatch, tmp_path: Path) -> None:
    def full(self, event, at):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Spool, "add", full)
    faulty(away)
    recorder = quick(spool=tmp_path / "spool")
    recorder.start("full", {})
    for number in range(20):
        recorder.trial_started(number, "ddpm", {"seed": number})
    began = time.monotonic()
    problems = recorder.close(timeout=0.5)
    assert time.monotonic() - began < 5
    assert len(problems) == 2 and "cannot be kept in" in problems[0]
    assert "22 events are not recorded: they cannot be kept in" in problems[1] and "No space left" in problems[1]


def test_closing_takes_bounded_time_though_the_server_is_slow(store, quick, monkeypatch, tmp_path: Path) -> None:
    """Each call takes 0.2 s: the search never waits, closing ends in time, and what is left is uploaded later."""
    good = MlflowClient(store.uri, store.uri)

    class Slow(Faulty):
        def __init__(self) -> None:
            super().__init__(good, lambda number, name: time.sleep(0.2))

    monkeypatch.setattr(runs_module, "open_client", lambda uri: Slow())
    recorder = quick(spool=tmp_path / "spool")
    began = time.perf_counter()
    recorder.start("slow", {})
    for number in range(20):
        recorder.trial_started(number, "ddpm", {"seed": number})
        recorder.rung_scored(number, RungScores(0, 100, {"fd": 1.0}))
        recorder.trial_ended(number, "finished")
    recorder.finish()
    assert time.perf_counter() - began < 0.2
    began = time.monotonic()
    (told,) = recorder.close(timeout=1.0)
    assert time.monotonic() - began < 3
    assert told.startswith("still writing after 1 s") and "events are kept in" in told
    time.sleep(0.5)  # a call that was under way is over
    monkeypatch.setattr(runs_module, "open_client", lambda uri: good)
    assert upload_spool(store, tmp_path / "spool").left == 0
    found = contents(store, "slow")
    assert [found[f"DDPM · trial {n}"]["metrics"]["fd"] for n in range(20)] == [[(100, 1.0)]] * 20
    assert {run["status"] for name, run in found.items() if name.startswith(("DDPM", "STUDY"))} == {"FINISHED"}


def test_a_damaged_event_is_set_aside_and_told(store, quick, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", store)
    spool.add(ev.StudyStarted("damaged", {}, {}, None, None), 1.0)
    broken = spool.add(ev.TextLogged("lost", "lost.txt"), 2.0)
    spool.add(ev.TextLogged("kept", "kept.txt"), 3.0)
    (broken / "event.json").write_text('{"format": 1, "at"')
    (tmp_path / "spool" / ".00000009.partial").mkdir()  # of a process that was killed while it wrote
    spool.close()
    with quick(spool=tmp_path / "spool") as recorder:
        recorder.start("damaged", {})
        recorder.finish()
        (problem,) = recorder.close()
    assert "holds no event that can be read" in problem
    assert contents(store, "damaged")["STUDY"]["files"] == ["kept.txt"]
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["00000002.unreadable", "lock", "store.json"]
