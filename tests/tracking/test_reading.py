"""What the recorder wrote is read back as it was; where files are lost, from the metrics, and that is said."""

import json
import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ambient_ray.tracking import DatasetFacts, RungScores, StudyRecorder, TrackingStore
from ambient_ray.tracking.location import StoreNotFoundError
from ambient_ray.tracking.reading import StudyNotFoundError, read_study
from ambient_ray.tracking.study_files import StudyFiles

PARAMS = {"study": "x", "seed": 0, "trials": 12, "dataset": {"path": None, "name": "2024"}, "trial": {"rungs": [1, 2]},
          "training": {"flip": False, "lr": 1e-5, "betas": [0.9, 0.999]}, "confirm": {"rule": "matched"}}  # fmt: skip
DATASET = DatasetFacts("digits", "ab" * 32, "/data/digits", (1, 8, 8), {"n_train": 300, "n_heldout": 1497})
FACTS = {"extractor": "pixels", "n": 500, "k": 1 / 3, "reference": "heldout", "weight_hash": "0123" * 16}
SETTINGS = {"sigma_tn": 0.4711, "noisy_ratio": 0.3, "mixing": "set_split", "rungs": [100, 200], "label": "1e5"}


def rung(number: int, *, of: int = 0) -> RungScores:
    values = {"fd": 90 / 7 - number, "f_mem": of / 7, "f_mem_low": 0.0, "kid": 1e-9 * (1 + number)}
    return RungScores(number, 100 * (number + 1), values, FACTS, seconds=1.25, at=1.7e9 + number + of / 10)


def record(store: TrackingStore, study: str, *, params: dict = PARAMS, end: bool = True) -> None:
    """Two trials and a replica; the second trial has a score that is not finite, the replica has failed."""
    recorder = StudyRecorder(store)
    recorder.start(study, params, tags={"who": "me"}, dataset=DATASET, objectives=("fd", "f_mem"),
                   searched=("sigma_tn",), conditional=("noisy_ratio",))  # fmt: skip
    recorder.trial_started(0, "ddpm", {"sigma_tn": 0.0})
    recorder.trial_started(1, "ambient", SETTINGS)
    for n in range(2):
        recorder.rung_scored(0, rung(n))
        recorder.rung_scored(1, rung(n, of=1))
    recorder.trial_ended(0, "finished")
    recorder.trial_started(3, "ambient", {"sigma_tn": 0.2})
    broken = rung(0, of=3)
    recorder.rung_scored(3, RungScores(0, 100, {**broken.scores, "fd": math.inf}, FACTS, at=broken.at))
    recorder.trial_ended(3, "stopped", "dominated at rung 0")
    recorder.trial_started(2, "ambient", {**SETTINGS, "seed": 7}, parent=1)
    recorder.trial_ended(2, "failed", "the loss is not finite")
    if end:
        recorder.trial_ended(1, "finished")
        recorder.finish({"hypervolume": 1.5}, note="**DDPM** copies least.")
        assert recorder.close() == ()
    else:
        recorder.flush(60)
        recorder._closed = True  # the process is killed here: nobody ends the run
    return None


def artifacts(store: TrackingStore, study: str, number: int) -> Path:
    """The folder of a trial's artifacts."""
    client = MlflowClient(store.uri, store.uri)
    experiment = client.get_experiment_by_name(study)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`ambient_ray.trial` = '{number}'")
    return Path(run.info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="session")
def whole(store: TrackingStore) -> TrackingStore:
    record(store, "read")
    return store


def test_a_study_comes_back_as_it_went(whole: TrackingStore) -> None:
    study = read_study(whole.uri, "read")
    assert study.name == "read" and not study.running and study.ended >= study.started > 1.7e9
    assert study.params["trial.rungs"] == [1, 2] and study.params["training.lr"] == 1e-5
    assert study.params["dataset.path"] is None and study.params["training.flip"] is False
    assert study.dataset.content_hash == "ab" * 32 and study.dataset.source == "/data/digits"
    assert study.dataset.profile == {"n_train": 300, "n_heldout": 1497}
    assert json.loads(study.tags["ambient_ray.objectives"]) == ["fd", "f_mem"] and study.tags["who"] == "me"
    assert json.loads(study.tags["ambient_ray.searched"]) == ["sigma_tn", "noisy_ratio"]
    assert study.note.startswith("**DDPM** copies least.") and study.metrics["hypervolume"] == 1.5
    assert [t.number for t in study.trials] == [0, 1, 2, 3] and study.unread == ()
    ddpm, ambient, replica, stopped = study.trials
    assert ambient.settings == SETTINGS and ambient.from_metrics == ()
    assert ambient.rungs == (rung(0, of=1), rung(1, of=1)) and ddpm.rungs == (rung(0), rung(1))
    assert (replica.replica_of, replica.state, replica.reason) == (1, "failed", "the loss is not finite")
    assert replica.settings["seed"] == 7 and replica.rungs == () and (ddpm.arm, ddpm.replica_of) == ("ddpm", None)
    assert (stopped.state, stopped.reason) == ("stopped", "dominated at rung 0")
    assert math.isnan(stopped.rungs[0].scores["fd"]) and study.trial(3) == stopped
    with pytest.raises(KeyError):
        study.trial(9)


def test_lost_files_are_made_up_for_by_the_metrics(store: TrackingStore) -> None:
    record(store, "lost")
    whole = read_study(store.uri, "lost")
    (artifacts(store, "lost", 1) / "rungs" / "0000000100.json").unlink()
    (artifacts(store, "lost", 0) / "rungs" / "0000000200.json").write_text("{")
    shutil.rmtree(artifacts(store, "lost", 3))
    found = read_study(store.uri, "lost")
    assert [t.from_metrics for t in found.trials] == [(200,), (100,), (), (100,)]
    for trial, wanted in zip(found.trials[:3], whole.trials[:3], strict=True):
        assert trial.rungs == wanted.rungs  # every score to its last bit, facts with their types, seconds, times
        assert trial.settings == wanted.settings
    assert math.isnan(found.trials[3].rungs[0].scores["fd"])
    assert any("is no record of a rung" in told for told in found.unread)


def test_a_study_without_any_of_its_files_still_has_its_scores(store: TrackingStore) -> None:
    record(store, "moved")
    whole = read_study(store.uri, "moved")
    shutil.rmtree(artifacts(store, "moved", 0).parents[1])
    found = read_study(store.uri, "moved")
    assert [t.rungs for t in found.trials[:3]] == [t.rungs for t in whole.trials[:3]]
    assert [t.from_metrics for t in found.trials] == [(100, 200), (100, 200), (), (100,)] and found.unread
    assert found.trials[1].settings == {**SETTINGS, "label": 1e5}  # as a parameter, text that reads as a number is one


def test_what_is_not_all_there_is_not_read(whole: TrackingStore) -> None:
    extra = artifacts(whole, "read", 0) / "rungs" / "0000000300.json"
    shutil.copy(extra.with_name("0000000200.json"), extra)
    extra.write_text(
        extra.read_text().replace('"rung": 1', '"rung": 2').replace('"images_seen": 200', '"images_seen": 300')
    )
    try:  # a record whose metrics were never logged
        assert [r.images_seen for r in read_study(whole.uri, "read").trials[0].rungs] == [100, 200]
    finally:
        extra.unlink()


def test_a_study_goes_on_under_newer_settings(store: TrackingStore) -> None:
    record(store, "longer")
    record(store, "longer", params={**PARAMS, "trials": 24})
    study = read_study(store.uri, "longer")
    assert study.params["trials"] == 24 and len(study.trials) == 4


def test_a_running_study_is_told_from_one_that_ended(store: TrackingStore) -> None:
    record(store, "runs", end=False)
    study = read_study(store.uri, "runs")
    assert study.running and study.ended is None
    assert study.trials[1].state == "running" and study.trials[1].ended is None and len(study.trials[1].rungs) == 2


def test_an_unknown_study_is_answered_with_those_that_exist(whole: TrackingStore, tmp_path: Path) -> None:
    with pytest.raises(StudyNotFoundError, match=r"there is no study 'faces' in this store \(its studies: .*read"):
        read_study(whole.uri, "faces")
    with pytest.raises(StudyNotFoundError, match="no study 'o'brien'"):
        read_study(whole.uri, "o'brien")
    with pytest.raises(StoreNotFoundError, match="there is no MLflow database"):
        read_study(f"sqlite:///{tmp_path}/none.db", "faces")
    assert not (tmp_path / "none.db").exists()


def test_files_are_fetched_and_gone_with_their_block(whole: TrackingStore) -> None:
    study = read_study(whole.uri, "read")
    with StudyFiles(study.tracking_uri, study.artifact_uris) as files:
        found = files.fetch(study.trial(1).run_id, "rungs/0000000100.json")
        assert json.loads(found.read_text())["images_seen"] == 100 and not files.problems
        assert files.fetch(study.trial(1).run_id, "samples/none.png") is None
        assert files.fetch("0" * 32, "anything") is None and files.problems
    assert not found.exists() and artifacts(whole, "read", 1).exists()
