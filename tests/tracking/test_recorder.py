"""The study's runs: nested, named, complete, never made twice, whatever became of earlier searches."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from ambient_ray.interval import Interval
from ambient_ray.tracking import DatasetFacts, Evidence, RungScores, StudyRecorder, TrackingStore
from ambient_ray.tracking.drawing.rung import draw_rung
from ambient_ray.tracking.recording.recorder import TrackingFailedError

PARAMS = {"seed": 0, "trial": {"workers": 2}, "dataset": {"path": None}, "rungs": [100, 200]}
DATASET = DatasetFacts("digits", "ab" * 32, "built-in", (1, 8, 8), {"n_train": 300})
AMBIENT = {"objective.sigma_tn": 0.4711, "objective.noisy_ratio": 0.3}


def runs_of(store: TrackingStore, study: str) -> dict[str, Run]:
    """The study's runs by name."""
    client = MlflowClient(store.uri, store.uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def history(store: TrackingStore, run: Run, key: str) -> list[tuple[int, float]]:
    metrics = MlflowClient(store.uri, store.uri).get_metric_history(run.info.run_id, key)
    return [(metric.step, metric.value) for metric in metrics]


def score(recorder: StudyRecorder, number: int, rung: int, checkpoint: Path | None = None) -> None:
    values = {
        "fd": 90.0 - rung,
        "f_mem": 0.1 * rung,
        "f_mem_low": 0.1 * rung - 0.05,
        "f_mem_high": 0.1 * rung + 0.05,
    }
    recorder.rung_scored(
        number, RungScores(rung, 100 * (rung + 1), values, {"extractor": "pixels", "n": 20}, checkpoint)
    )


def test_a_whole_study(store: TrackingStore, write_checkpoint: Callable[..., Path]) -> None:
    train = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    with StudyRecorder(store) as recorder:
        recorder.start("whole", PARAMS, tags={"command": "ambient-search"}, dataset=DATASET, train_images=train)
        recorder.trial_started(0, "ddpm", {"objective.sigma_tn": 0.0})
        recorder.trial_started(1, "ambient", AMBIENT)
        score(recorder, 0, 0, write_checkpoint())
        score(recorder, 1, 0)
        score(recorder, 0, 1)
        recorder.trial_ended(0, "finished")
        recorder.trial_ended(1, "stopped", "dominated at rung 0")
        recorder.trial_started(2, "ambient", AMBIENT | {"seed": 7}, parent=1)
        recorder.trial_ended(2, "failed", "the loss is not finite")
        recorder.log_text("hello", "notes/hello.txt")
        recorder.finish({"hypervolume": 1.5}, note="**DDPM** copies least.")
        assert recorder.close() == ()
    runs = runs_of(store, "whole")
    assert set(runs) == {
        "whole",
        "DDPM · trial 0",
        "0.47 noisy .30 · trial 1",
        "seed 7 · 0.47 noisy .30 · trial 1 again (replica 2)",
    }
    study, ddpm = runs["whole"], runs["DDPM · trial 0"]
    stopped, replicate = runs["0.47 noisy .30 · trial 1"], runs["seed 7 · 0.47 noisy .30 · trial 1 again (replica 2)"]
    assert study.data.params == {
        "seed": "0",
        "trial.workers": "2",
        "dataset.path": "null",
        "rungs": "[100, 200]",
    }
    assert {key: value for key, value in study.data.metrics.items() if "/" not in key} == {"hypervolume": 1.5}
    assert study.data.tags["mlflow.note.content"] == "**DDPM** copies least."
    assert {"system.cpu", "system.torch", "system.cores", "system.python"} <= set(study.data.tags)
    assert ddpm.data.tags["mlflow.parentRunId"] == stopped.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert replicate.data.tags["mlflow.parentRunId"] == stopped.info.run_id
    assert replicate.data.tags["ambient_ray.kind"] == "replicate" and replicate.data.params["seed"] == "7"
    assert history(store, ddpm, "f_mem_high") == [(100, 0.05), (200, pytest.approx(0.15))]
    assert ddpm.data.tags["ambient_ray.arm"] == "ddpm" and ddpm.data.tags["fact.extractor"] == "pixels"
    assert stopped.data.tags["ambient_ray.state"] == "stopped"
    assert stopped.data.tags["ambient_ray.reason"] == "dominated at rung 0"
    assert [run.info.status for run in (study, ddpm, stopped, replicate)] == ["FINISHED"] * 3 + ["FAILED"]
    for run in (study, ddpm):
        (logged,) = run.inputs.dataset_inputs
        assert logged.dataset.name == "digits" and "ab" * 32 in json.loads(logged.dataset.profile)["content_hash"]
    client = MlflowClient(store.uri, store.uri)
    pictures = [
        file.path for folder in ("samples", "nearest") for file in client.list_artifacts(ddpm.info.run_id, folder)
    ]
    assert pictures == ["samples/0000000100.png", "nearest/0000000100.png"]


def test_a_study_started_again_finds_its_runs(store: TrackingStore) -> None:
    first = StudyRecorder(store)
    first.start("again", PARAMS, dataset=DATASET)
    for number in range(3):
        first.trial_started(number, "ddpm" if number == 0 else "ambient", AMBIENT | {"seed": number})
        score(first, number, 0)
    first.trial_ended(0, "finished")
    assert first.flush()  # and now the process dies: neither finish nor close
    assert {run.info.status for run in runs_of(store, "again").values()} == {"RUNNING", "FINISHED"}

    with StudyRecorder(store) as second:
        second.start("again", PARAMS | {"seed": 1, "trials": 64}, dataset=DATASET)  # MLflow would refuse a new seed
        second.replay(
            0, "ddpm", AMBIENT, [RungScores(0, 100, {"fd": 1.0}), RungScores(9, 999, {"fd": 1.0})], "finished"
        )
        second.trial_started(1, "ambient", AMBIENT | {"seed": 7})
        assert second.flush()
        middle = runs_of(store, "again")
        assert middle["0.47 noisy .30 · trial 1"].info.status == "RUNNING"
        assert middle["0.47 noisy .30 · trial 2"].info.status == "KILLED"  # nobody has taken it up yet
        score(second, 1, 0)  # again, as a search resumed from an older checkpoint would
        score(second, 1, 1)
        second.trial_ended(1, "finished")
        second.replay(5, "ambient", AMBIENT, [RungScores(0, 100, {"fd": 3.0})], "stopped", "never reached MLflow")
        second.finish()
        assert second.close() == ()
    runs = runs_of(store, "again")
    assert len(runs) == 5 and "RUNNING" not in {run.info.status for run in runs.values()}
    assert history(store, runs["DDPM · trial 0"], "fd") == [(100, 90.0)]  # it was over: the replay added nothing
    assert history(store, runs["0.47 noisy .30 · trial 1"], "fd") == [(100, 90.0), (200, 89.0)]
    assert history(store, runs["0.47 noisy .30 · trial 5"], "fd") == [(100, 3.0)]
    assert runs["0.47 noisy .30 · trial 1"].data.params["seed"] == "1"
    assert runs["0.47 noisy .30 · trial 1"].data.tags["ambient_ray.changed.seed"] == "7"
    assert runs["again"].data.params["trials"] == "64"
    assert runs["again"].data.tags["ambient_ray.changed.seed"] == "1"
    assert len(runs["again"].inputs.dataset_inputs) == 1


def test_replicas_come_back_under_their_trial_and_their_means_are_written_once(store: TrackingStore) -> None:
    means = {"confirmed.f_mem": 0.12, "confirmed.f_mem_low": 0.09, "confirmed.fd_high": float("inf")}

    def life(upto: int) -> None:
        """One life of the search: it replays what earlier ones ended, and measures again."""
        with StudyRecorder(store) as recorder:
            recorder.start("replicas", {})
            recorder.replay(0, "ambient", AMBIENT, [RungScores(0, 100, {"f_mem": 0.05})], "finished")
            for number in range(1, upto + 1):
                rungs = [RungScores(0, 100, {"f_mem": 0.1 * number})]
                recorder.replay(number, "ambient", AMBIENT | {"seed": number}, rungs, "finished", parent=0)
            recorder.measured(0, 100, means | {"confirmed.seeds": float(upto)})
            recorder.finish()
            assert recorder.close() == ()

    for upto in (1, 2, 2):
        life(upto)
    runs = runs_of(store, "replicas")
    first = "0.47 noisy .30 · trial 0"
    again = [f"seed {n} · 0.47 noisy .30 · trial 0 again (replica {n})" for n in (1, 2)]
    assert set(runs) == {"replicas", first, *again}
    assert {runs[name].data.tags["mlflow.parentRunId"] for name in again} == {runs[first].info.run_id}
    assert history(store, runs[again[1]], "f_mem") == [(100, 0.2)]
    assert history(store, runs[first], "confirmed.f_mem") == [(100, 0.12)]
    assert history(store, runs[first], "confirmed.seeds") == [(100, 1.0), (100, 2.0)]
    assert "confirmed.fd_high" not in runs[first].data.metrics and runs[first].info.status == "FINISHED"


def test_ctrl_c_leaves_no_run_running_and_a_resume_opens_them(store: TrackingStore) -> None:
    with pytest.raises(KeyboardInterrupt), StudyRecorder(store) as recorder:
        recorder.start("interrupted", {})
        recorder.trial_started(0, "ddpm", {})
        raise KeyboardInterrupt
    assert {run.info.status for run in runs_of(store, "interrupted").values()} == {"KILLED"}
    with StudyRecorder(store) as recorder:
        recorder.start("interrupted", {})
        recorder.trial_started(0, "ddpm", {})
        recorder.flush()
        assert {run.info.status for run in runs_of(store, "interrupted").values()} == {"RUNNING"}
        recorder.trial_ended(0, "finished")
        recorder.finish()
    assert {run.info.status for run in runs_of(store, "interrupted").values()} == {"FINISHED"}


def test_calls_return_at_once_while_the_store_is_slow(store: TrackingStore) -> None:
    recorder = StudyRecorder(store)
    recorder.start("quick", {})
    seconds = []
    for number in range(25):
        recorder.trial_started(number, "ambient", AMBIENT)
        began = time.perf_counter()
        score(recorder, number, 0)
        seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[12] < 1e-3
    late = recorder.close(timeout=0.01)
    assert late and "still writing" in late[-1]
    assert recorder.close(timeout=200) == ()


def test_one_bad_event_is_told_and_stops_nothing(store: TrackingStore) -> None:
    recorder = StudyRecorder(store)
    recorder.start("flawed", {})
    recorder.trial_ended(77, "finished")
    recorder.trial_started(0, "ddpm", {})
    recorder.rung_scored(0, RungScores(0, 100, {"fd": float("inf"), "f_mem": float("nan"), "kid": 0.5}))
    recorder.finish()
    problems = recorder.close()
    assert len(problems) == 1 and "trial 77 was never started" in problems[0]
    run = runs_of(store, "flawed")["DDPM · trial 0"]
    assert run.data.metrics == {"kid": 0.5, "rung": 0.0, "images_seen": 100.0}
    assert run.data.tags["not_finite.100"] == "f_mem, fd"


def test_a_store_that_cannot_be_opened_is_not_silent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = StudyRecorder(TrackingStore(f"sqlite:///{tmp_path}/file/mlflow.db", None))
    recorder.start("lost", {})
    evidence = Evidence(("fd", "f_mem"), Interval(1.0), Interval(0.1), confirmed=False)
    version = recorder.register_champion(0, RungScores(0, 1, {}, checkpoint=tmp_path), evidence)
    assert recorder.flush()
    with pytest.raises(TrackingFailedError, match="cannot record"):
        recorder.check()
    assert version.exception() is not None
    assert any("events were not written" in problem for problem in recorder.close())


def test_the_writer_is_one_thread_and_leaves_nothing_behind(store: TrackingStore) -> None:
    before = threading.active_count()
    recorder = StudyRecorder(store)
    recorder.start("one-thread", {})
    recorder.flush()
    assert threading.active_count() == before + 1
    recorder.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        recorder.log_text("too late", "late.txt")


def test_the_gallery_shows_the_neighbours_that_the_scoring_found(tmp_path: Path) -> None:
    train = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(8, axis=1).repeat(8, axis=2) * 40
    np.savez(
        tmp_path / "samples.npz",
        samples=train[:2] + np.uint8(9),
        nearest_index=np.array([4, 3]),  # on purpose not the nearest: shown all the same
        ratio=np.array([0.2, 0.1]),
        similarity=np.array([0.98, 0.99]),
        most_similar_first=np.array([1, 0]),
    )
    folder = tmp_path / "drawn"
    folder.mkdir()
    drawn = draw_rung(tmp_path, 64_000, train, folder)
    assert [(path.name, where) for path, where in drawn] == [
        ("0000064000.png", "samples"),
        ("0000064000.png", "nearest"),
    ]
    picture = np.asarray(Image.open(drawn[1][0]))[:, :, 0]
    row = picture[int(picture.shape[0] * 0.6)]
    greys = [int(level) for level in row if level in (9, 49, 120, 160)]
    assert list(dict.fromkeys(greys)) == [49, 120, 9, 160]


def test_a_clock_that_was_set_back_between_two_lives_gives_no_run_that_ends_before_it_began(
    store: TrackingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ambient_ray.tracking.recording import backlog, runs

    days = (1_900_000_000.0, 1_800_000_000.0)
    for day in days:
        monkeypatch.setattr(backlog, "now", lambda day=day: day)
        monkeypatch.setattr(runs, "now", lambda day=day: day)
        with StudyRecorder(store) as recorder:
            recorder.start("back", PARAMS)
            recorder.trial_started(0, "ddpm", {"objective.sigma_tn": 0.0})
            if day == days[1]:
                score(recorder, 0, 0)
                recorder.trial_ended(0, "finished")
                recorder.finish({"hypervolume": 1.0})
    found = runs_of(store, "back")
    assert len(found) == 2 and {run.info.status for run in found.values()} == {"FINISHED"}
    assert all(run.info.start_time <= run.info.end_time for run in found.values())
    steps = [
        step for run in found.values() for key in run.data.metrics if "system" in key
        for step, _ in history(store, run, key)
    ]  # fmt: skip
    assert steps and min(steps) >= 0
