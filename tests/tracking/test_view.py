"""What MLflow's pages show of a study: a view that they can open, and runs that say where they come from."""

import base64
import json
import os
import re
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from ambient_ray.tracking import DatasetFacts, RungScores, StudyRecorder, TrackingStore
from ambient_ray.tracking.labels import flat_params
from ambient_ray.tracking.recording.system import MachineLoad
from ambient_ray.tracking.recording.view import NOTE, VIEW_TAG, run_color, saved_view, study_note, view_link, view_state

OBJECTIVES = ("fd", "f_mem")
SEARCHED = ("sigma_tn", "noisy_ratio")


def opened(value: str) -> dict:
    """The state of a saved view, read as MLflow's page does: an envelope, in it the deflated state."""
    envelope = json.loads(value)
    assert isinstance(envelope["name"], str) and envelope["name"]
    assert isinstance(envelope["createdAt"], int) and isinstance(envelope["updatedAt"], int)
    kind, packed = envelope["state"].split(";")
    assert kind == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def recorded(store: TrackingStore, study: str, **asked: object) -> tuple[Experiment, dict[str, Run]]:
    """A study of two trials in MLflow: its experiment, and its runs by name."""
    with StudyRecorder(store) as recorder:
        recorder.start(study, {}, dataset=DatasetFacts("digits", "ab" * 32, "built-in"), **asked)
        for number, (arm, settings) in enumerate((("ddpm", {"sigma_tn": 0.0}), ("ambient", {"sigma_tn": 0.5}))):
            recorder.trial_started(number, arm, settings)
            scores = {"fd": 9.0, "f_mem": 0.1, "images_per_second": 640.0}
            recorder.rung_scored(number, RungScores(0, 300, scores, {"weight_hash": "cd" * 32}, seconds=2.5))
            recorder.trial_ended(number, "finished")
        recorder.trial_started(2, "ambient", {"sigma_tn": 0.5, "seed": 3}, parent=1)
        recorder.trial_ended(2, "finished")
        recorder.finish(note="No evidence.")
        assert recorder.close() == ()
    client = MlflowClient(store.uri, store.uri)
    experiment = client.get_experiment_by_name(study)
    return experiment, {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_view_comes_back_as_it_was_saved_and_fits_into_a_tag() -> None:
    many = [f"a_parameter_with_a_long_name_{number}" for number in range(12)]
    for state in (view_state(OBJECTIVES, SEARCHED), view_state(OBJECTIVES, many), view_state(OBJECTIVES, ())):
        value = saved_view(state, 1_700_000_000_000)
        assert opened(value) == state
        assert len(value) < 5000  # what the oldest schema of MLflow's database holds


def test_charts_show_the_objectives_and_only_parameters_that_every_trial_has() -> None:
    state = view_state(OBJECTIVES, SEARCHED, conditional=("p_mean",))
    by_kind: dict[str, list] = {}
    for chart in state["compareRunCharts"]:
        by_kind.setdefault(chart["type"], []).append(chart)
    front = by_kind["SCATTER"][0]
    assert (front["xaxis"]["key"], front["yaxis"]["key"]) == OBJECTIVES
    (parallel,) = by_kind["PARALLEL"]
    assert parallel["selectedParams"] == list(SEARCHED) and parallel["selectedMetrics"] == list(OBJECTIVES)
    assert [chart["metricKey"] for chart in by_kind["LINE"]] == list(OBJECTIVES)
    sections = {section["uuid"]: section["display"] for section in state["compareRunSections"]}
    assert all(sections[chart["metricSectionId"]] for chart in state["compareRunCharts"])
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    assert {"params.`p_mean`", "metrics.`fd_low`", "tags.`ambient_ray.state`"} <= set(state["selectedColumns"])
    alone = view_state(OBJECTIVES, ())["compareRunCharts"]
    assert [chart["type"] for chart in alone] == ["SCATTER", "LINE", "LINE"]  # nothing varies: no axes to draw


@given(st.floats(0.11, 3.9), st.floats(1.05, 10.0))
def test_more_noise_is_a_darker_blue_and_the_baselines_are_not_blue(sigma: float, factor: float) -> None:
    def grey(color: str) -> float:
        red, green, blue = bytes.fromhex(color.removeprefix("#"))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter = run_color("ambient", {"objective.sigma_tn": sigma})
    darker = run_color("ambient", {"objective.sigma_tn": sigma * factor})
    assert re.fullmatch("#[0-9A-F]{6}", lighter)
    assert grey(lighter) > grey(darker) or lighter == darker == run_color("ambient", {"sigma_tn": 4.0})
    baselines = {run_color("ddpm", {"sigma_tn": 0.0}), run_color("rival", {"sigma_tn": 0.0})}
    assert len(baselines) == 2 and not baselines & {lighter, darker}


def test_a_study_gets_its_view_once_and_what_people_change_stays(store: TrackingStore) -> None:
    asked = {"objectives": OBJECTIVES, "searched": SEARCHED}
    experiment, runs = recorded(store, "seen", **asked)
    assert opened(experiment.tags[VIEW_TAG]) == view_state(OBJECTIVES, SEARCHED)
    assert experiment.tags[NOTE] == study_note(experiment.experiment_id, OBJECTIVES, SEARCHED)
    link = view_link(experiment.experiment_id)
    assert link in experiment.tags[NOTE] and link in runs["seen"].data.tags[NOTE]
    assert runs["seen"].data.tags[NOTE].startswith("No evidence.")
    assert link.startswith("#/")  # whatever the host, the port and the prefix are
    MlflowClient(store.uri, store.uri).set_experiment_tag(experiment.experiment_id, NOTE, "ours")
    again, _ = recorded(store, "seen", **asked)
    assert again.tags[NOTE] == "ours" and again.tags[VIEW_TAG] == experiment.tags[VIEW_TAG]
    plain, runs = recorded(store, "unasked")
    assert VIEW_TAG not in plain.tags and runs["unasked"].data.tags[NOTE] == "No evidence."


def test_every_run_says_where_it_comes_from(store: TrackingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ambient_ray.tracking.recording.system.git_commit", lambda: "0123abc-dirty")
    _, runs = recorded(store, "sources")
    assert len(runs) == 4
    for run in runs.values():
        assert run.data.tags["mlflow.source.git.commit"] == "0123abc-dirty"
        assert run.data.tags["mlflow.source.name"] and run.data.tags["mlflow.user"]
        (logged,) = run.inputs.dataset_inputs
        assert logged.dataset.name == "digits"
    trial = runs["0.50 · trial 1"].data.tags
    assert (trial["ambient_ray.arm"], trial["ambient_ray.state"]) == ("ambient", "finished")
    assert trial["fact.weight_hash"] == "cd" * 32
    assert trial["mlflow.runColor"] != runs["DDPM · trial 0"].data.tags["mlflow.runColor"]


def test_costs_are_system_metrics_over_images_seen(store: TrackingStore) -> None:
    _, runs = recorded(store, "costs")
    client = MlflowClient(store.uri, store.uri)
    trial = runs["DDPM · trial 0"].info.run_id
    for key, value in (("system/images_per_second", 640.0), ("system/seconds", 2.5), ("images_seen", 300.0)):
        assert [(m.step, m.value) for m in client.get_metric_history(trial, key)] == [(300, value)]
    assert "images_per_second" not in runs["DDPM · trial 0"].data.metrics
    busy = runs["costs"].data.metrics
    assert 0 <= busy["system/cpu_utilization_percentage"] <= 100
    assert 0 < busy["system/system_memory_usage_percentage"] <= 100


def test_the_machine_is_measured_now_and_then_with_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nprintf '0, 97, 1024, 4096\\n1, [N/A], 5, 10\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    machine, now = MachineLoad(every=10), time.time()
    load = machine.metrics(now)
    assert load["gpu_0_utilization_percentage"] == 97 and load["gpu_0_memory_usage_percentage"] == 25
    assert load["gpu_0_memory_usage_megabytes"] == pytest.approx(1073.741824)
    assert not [key for key in load if key.startswith("gpu_1")]  # it would not say
    assert machine.metrics(now + 9.9) == {} and machine.metrics(now + 10)


@given(st.lists(st.floats(1e-8, 9.9), min_size=2, max_size=2))
def test_parameters_sort_as_text_as_they_do_as_numbers(values: list[float]) -> None:
    written = [flat_params({"lr": value})["lr"] for value in values]
    assert [float(text) for text in written] == values
    assert (written[0] < written[1]) == (values[0] < values[1])
