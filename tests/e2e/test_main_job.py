"""The main job through real Ray Train, Tune, Optuna and MLflow: it answers, extends, survives SIGKILL and Ctrl-C.

One story over one study, as its user lives it; each step costs a few real trials.
"""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import (
    SECRET,
    environment,
    kill_workers,
    run,
    runs_of,
    start,
    there,
    trials_of,
    until,
    workers_under,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
# Relative, between one worker and two: what rounding may do to a loss, and to scores of 64 samples.
TOLERANCES = {"loss": 1e-4, "grad_norm": 1e-3, "fd_classifier": 5e-3, "kid": 1e-2, "gap": 1e-3}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A search that is killed, interrupted, continued, and let finish; gives its folder and last output."""
    folder = tmp_path_factory.mktemp("story")
    killed = start(folder, "trials=4")
    until(killed, "rung 1/3")
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    left = standing(folder)

    interrupted = start(folder, "trials=4")
    again = until(interrupted, "rung 3/3")
    running = standing(folder)
    interrupted.send_signal(signal.SIGINT)
    rest, _ = interrupted.communicate(timeout=120)

    continued = start(folder, "trials=4")
    try:
        before = "".join(until(continued, "its worker is up"))
        killed_workers = kill_workers(continued.pid)
        out = before + continued.communicate(timeout=400)[0]
    finally:
        continued.kill()
    return {
        "folder": folder,
        "again": again,
        "code": interrupted.returncode,
        "rest": rest,
        "last": (continued.returncode, out),
        "killed_workers": killed_workers,
        "left": left,
        "running": (interrupted.pid, running),
        "pid": continued.pid,
    }


def standing(folder):
    from ambient_ray.status import look

    return look("story", f"journal:{folder}/out/story/study.journal", folder / "out/story")[0]


def test_the_status_tells_a_living_search_from_a_killed_one(story):
    assert story["left"]["driver"]["life"] == "dead" and story["left"]["running"][0]["doing"] == "left behind"
    pid, running = story["running"]
    assert (running["driver"]["life"], running["driver"]["pid"]) == ("alive", pid)
    ended = standing(story["folder"])
    assert "has ended: finished" in ended["driver"]["why"] and ended["trials"]["finished"] >= 1
    assert ended["failures"]["diverged"]["trials"].keys() == {"1"} and ended["running"] == []


def test_the_log_says_where_each_trial_ran_and_what_became_of_it(story):
    log = (story["folder"] / "out/story/search.log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["study"] for line in lines} == {"story"}
    ended = {line["trial"]: line["state"] for line in lines if line.get("event") == "trial ended"}
    assert sorted(ended) == [0, 1, 2, 3] and ended[1] == "failed"
    assert {line["trial"] for line in lines if line.get("event") == "worker up"} == {0, 1, 2, 3}
    assert any(line["event"] == "judged" and line["goes_on"] for line in lines)
    assert any(line["event"] == "trial taken up again" for line in lines)


def test_the_workers_log_says_which_trial_it_is_about(story):
    logs = [log for log in Path("/tmp/ray").glob(f"session_*_{story['pid']}/logs/worker-*.err")]
    found = [line for log in logs for line in log.read_text().splitlines() if '"this worker takes trial' in line]
    assert found and all(json.loads(line)["study"] == "story" for line in found)
    assert {json.loads(line)["trial"] for line in found} <= {0, 1, 2, 3}


def test_ctrl_c_keeps_the_work_and_says_how_to_go_on(story):
    assert story["code"] == 130
    assert "the same command goes on" in story["rest"] and "python -m ambient_ray.search study=story" in story["rest"]


def test_after_sigkill_the_trial_goes_on_from_its_checkpoint(story):
    assert any("taken up after 640 images" in line for line in story["again"]), "".join(story["again"])


def test_killed_workers_are_replaced_and_their_trials_go_on(story):
    """What becomes of the trials is asked by the tests below: none of them failed for it."""
    assert story["killed_workers"] >= 1


def test_credentials_in_the_environment_are_printed_and_kept_nowhere(story):
    """The study, MLflow's database and artifacts, the spool, checkpoints, Ray's records: every file, every line."""
    assert SECRET not in "".join(story["again"]) + story["rest"] + story["last"][1]
    files = [path for path in story["folder"].rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_the_search_ends_with_an_answer(story):
    code, out = story["last"]
    assert code == 0, out
    for expected in ("Pareto front", "At matched fidelity", "Hypervolume", "front.png", "load_model("):
        assert expected in out, out
    assert (story["folder"] / "out/story/front.png").stat().st_size > 5000


def test_every_trial_is_kept_and_ended(story):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    study = Study("story", f"journal:{story['folder']}/out/story/study.journal", Objectives("fd_classifier", "f_mem"))
    trials = study.trials()
    assert [t.arm for t in trials] == ["ddpm", "ambient", "ambient", "ambient"]
    assert trials[0].state == "finished" and len(trials[0].rungs) == 3
    assert trials[1].state == "failed" and "non-finite" in trials[1].reason
    assert all(t.state in {"finished", "stopped"} and t.rungs for t in trials[2:])
    for trial in trials:
        for rung in trial.rungs:
            kept = json.loads((Path(rung.checkpoint) / "checkpoint.json").read_text())
            assert kept["scores"] == rung.scores and kept["images_seen"] == rung.images_seen


def test_mlflow_has_each_trial_once_and_none_running(story):
    _, runs = runs_of(story["folder"])
    trials = trials_of(runs)
    assert sorted(trials) == [0, 1, 2, 3]
    assert len(runs) == 5
    assert all(r.info.status != "RUNNING" for r in runs)
    parent = next(r for r in runs if "ambient_ray.trial" not in r.data.tags)
    assert all(r.data.tags["mlflow.parentRunId"] == parent.info.run_id for r in trials.values())
    assert trials[1].info.status == "FAILED"


def test_every_rung_has_its_scores_with_intervals_on_one_axis(story):
    client, runs = runs_of(story["folder"])
    run_id = trials_of(runs)[0].info.run_id
    names = ["fd_classifier", "fd_classifier_low", "fd_classifier_inf", "mi_fd_classifier", "kid_se", "recall", "gap"]
    for name in ("f_mem", "s_tau", "partial", "authentic", "c_t", "ums", "train_coverage"):
        names += [name, f"{name}_low", f"{name}_high", "s_null" if name == "s_tau" else f"{name}_heldout"]
    for name in names:
        assert [m.step for m in client.get_metric_history(run_id, name)] == [640, 1280, 2560]
    for folder in ("samples", "nearest"):
        pictures = [a.path for a in client.list_artifacts(run_id, folder)]
        assert pictures == [f"{folder}/{step:010d}.png" for step in (640, 1280, 2560)]


def test_the_study_says_how_alike_what_every_two_models_draw(story):
    client, runs = runs_of(story["folder"])
    parent = next(r for r in runs if "ambient_ray.trial" not in r.data.tags)
    assert "reproducibility.png" in {a.path for a in client.list_artifacts(parent.info.run_id)}
    pairs = json.loads(Path(client.download_artifacts(parent.info.run_id, "reproducibility.json")).read_text())
    stops = {pair[side] for pair in pairs for side in "ab" if pair[side].startswith("DDPM")}
    assert len(stops) == 3 and all(0 <= pair["low"] <= pair["rp"] <= pair["high"] <= 1 for pair in pairs)


def test_the_study_has_its_figures_and_its_hypervolume_by_images_spent(story):
    client, runs = runs_of(story["folder"])
    parent = next(r for r in runs if "ambient_ray.trial" not in r.data.tags)
    figures = {a.path for a in client.list_artifacts(parent.info.run_id, "figures")}
    assert {f"figures/{name}" for name in ("front.html", "front.png", "hypervolume.png", "survival.png")} <= figures
    spent = sum(int(r.data.metrics["images_seen"]) for r in trials_of(runs).values() if "images_seen" in r.data.metrics)
    assert max(m.step for m in client.get_metric_history(parent.info.run_id, "hypervolume")) == spent
    mechanism = {a.path for a in client.list_artifacts(trials_of(runs)[0].info.run_id, "mechanism")}
    assert mechanism == {f"mechanism/{step:010d}.svg" for step in (640, 1280, 2560)}


def test_the_report_gives_the_searchs_answer_from_mlflow_alone(story, tmp_path, capsys):
    from ambient_ray.report import main

    uri = f"sqlite:///{story['folder']}/out/mlflow.db"
    assert main(["story", "--tracking-uri", uri, "--to", str(tmp_path / "story.html"), "--pdf"]) == 0
    answer = next(line for line in story["last"][1].splitlines() if line.startswith("At matched fidelity"))
    assert answer in capsys.readouterr().out
    page = (tmp_path / "story.html").read_text()
    assert "data:image/png" in page and (tmp_path / "story.pdf").read_bytes().startswith(b"%PDF")


def test_no_pickle_was_written(story):
    out = story["folder"] / "out"
    ours = [p for p in out.rglob("*.p*kl") if "tune" not in p.relative_to(out).parts]  # Tune's own state, never read
    assert ours == []


def test_the_front_is_registered_with_cards_and_both_its_ends_have_their_aliases(story):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    client, _ = runs_of(story["folder"])
    study = Study("story", f"journal:{story['folder']}/out/story/study.journal", Objectives("fd_classifier", "f_mem"))
    front = {Path(c.rung.checkpoint) for c in study.landscape().front}
    hashes = {hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for folder in front}
    versions = client.search_model_versions("name='story'")
    assert hashes <= {v.tags["ambient_ray.weights_sha256"] for v in versions} and len(front) <= 8
    assert all(
        "No privacy guarantee is claimed" in v.description and "How to reproduce" in v.description for v in versions
    )
    aliases = client.get_registered_model("story").aliases
    assert {"champion", "best-fidelity", "lowest-memorization", "ddpm-baseline"} <= set(aliases)
    best = client.get_model_version("story", aliases["best-fidelity"]).tags["record.scores"]
    assert json.loads(best)["fd_classifier"] == study.landscape().front[0].fidelity
    told = f"@best-fidelity: version {aliases['best-fidelity']}" in story["last"][1]
    assert told == (len(versions) > 1), "where there is but one version, all aliases are its"


def test_the_champion_loads_and_is_drawn_from(story):
    from ambient_ray.tracking import load_model

    model = load_model("models:/story@champion", tracking_uri=f"sqlite:///{story['folder']}/out/mlflow.db")
    images = model.sample(5, seed=1)
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8
    assert np.array_equal(images[:2], model.sample(2, seed=1))


def test_the_champion_loads_where_ambient_ray_does_not_exist(story):
    script = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ambient_ray": raise ImportError("not here: " + name)
sys.meta_path.insert(0, Block())
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{story["folder"]}/out/mlflow.db")
model = mlflow.pyfunc.load_model("models:/story@champion")
images = model.predict(pd.DataFrame({{"seed": [1, 2, 3]}}))
assert images.shape == (3, 8, 8, 1), images.shape
assert not any(name.split(".")[0] == "ambient_ray" for name in sys.modules)
print("loaded")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=story["folder"],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=180,
    )
    assert done.stdout.strip().endswith("loaded"), done.stderr


@pytest.fixture(scope="module")
def confirmation(story):
    """The finished study again, now with confirmation: the best candidate and DDPM on two fresh seeds each."""
    return run(story["folder"], "trials=4", "confirm.top=2", "confirm.seeds=2")


def test_confirmation_trains_the_best_and_ddpm_again_on_fresh_seeds(story, confirmation):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    code, out = confirmation
    assert code == 0, out
    assert "0 of 4 trials to run" in out and "replicas on fresh training seeds" in out
    assert "Confirmed on fresh training seeds" in out, out
    study = Study("story", f"journal:{story['folder']}/out/story/study.journal", Objectives("fd_classifier", "f_mem"))
    replicas = [t for t in study.trials() if t.replica_of is not None]
    of_ddpm = [t for t in replicas if t.replica_of == 0]
    assert len(of_ddpm) == 2 and len(replicas) in (4, 6)  # DDPM may be among the best
    assert all(t.state == "finished" and t.settings["seed"] != 0 for t in replicas)
    first = {t.settings["seed"]: t.rungs[0].scores["fd_classifier"] for t in of_ddpm}
    assert len(set(first.values())) == 2, "another seed is another training"


def test_replicas_are_nested_in_mlflow_and_the_evidence_is_on_the_version(story, confirmation):
    from ambient_ray.tracking import Evidence

    client, runs = runs_of(story["folder"])
    trials = trials_of(runs)
    replicas = [r for r in trials.values() if r.data.tags.get("ambient_ray.replica_of") == "0"]
    assert len(replicas) == 2
    assert all(r.data.tags["mlflow.parentRunId"] == trials[0].info.run_id for r in replicas)
    assert "confirmed.f_mem" in trials[0].data.metrics
    version = client.get_model_version_by_alias("story", "champion")
    evidence = Evidence.read(version.tags)
    assert evidence is not None and evidence.confirmed and len(evidence.seeds) == 2


def test_the_same_command_again_runs_nothing_and_answers_the_same(story, confirmation):
    client, runs = runs_of(story["folder"])
    before = {v.version: v.tags for v in client.search_model_versions("name='story'")}
    code, out = run(story["folder"], "trials=4", "confirm.top=2", "confirm.seeds=2", seconds=120)
    assert code == 0 and "0 of 4 trials to run" in out and "replicas on fresh" not in out, out
    for said in ("At matched fidelity", "Confirmed on fresh training seeds"):
        assert next(line for line in confirmation[1].splitlines() if said in line) in out
    client, again = runs_of(story["folder"])
    assert {r.info.run_id for r in again} == {r.info.run_id for r in runs}
    assert {v.version: v.tags for v in client.search_model_versions("name='story'")} == before


@pytest.mark.timeout(900)
def test_two_workers_train_what_one_does_also_when_one_of_them_has_to_leave(tmp_path, count):
    """Equal global batch, so losses and scores agree at every rung to rounding: of sums, and of pixels to whole levels.

    One of the two gets SIGTERM on the way: both keep where they are and leave, and others go on from there, which is no
    failure (`trial.max_failures=0`).
    """
    common = ("training.sigma_tn=0.5", "trial.rungs=[640,3840]", "trial.max_failures=0")
    code, out = run(tmp_path, "study=one", *common, module="train")
    assert code == 0 and "version 1 of the model one" in out, out

    pair = start(tmp_path, "study=pair", "trial.workers=2", *common, module="train")
    folder = tmp_path / "out" / "pair" / "trials"
    try:
        there(lambda: list(folder.glob("*/rung-00-*")))
        first, second = workers_under(pair.pid)
        second.send_signal(signal.SIGTERM)
        (pause,) = there(lambda: list(folder.glob("*/pause-*")))
        out, _ = pair.communicate(timeout=400)
    finally:
        pair.kill()
    assert pair.returncode == 0 and "finished" in out and "version 1 of the model pair" in out, out
    assert not first.is_running() and not second.is_running()

    largest = {}
    for rung in ("rung-00-000000640", "rung-01-000003840"):
        (one,), (two,) = (list((tmp_path / "out" / study / "trials").glob(f"*/{rung}")) for study in ("one", "pair"))
        a, b = (json.loads((place / "checkpoint.json").read_text())["scores"] for place in (one, two))
        assert a.keys() == b.keys()
        for name, allowed in TOLERANCES.items():
            off = abs(a[name] - b[name]) / max(abs(a[name]), 1e-9)
            largest[name] = max(largest.get(name, 0.0), off)
            assert off <= allowed, f"{name} at {rung}: {a[name]} with one worker, {b[name]} with two"
    worst = {name: f"{value:.1e}" for name, value in largest.items()}
    count("two workers beside one", moved_at=pause.name, **worst)


def test_small_trials_are_trained_together_and_end_each_for_itself(tmp_path):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    code, out = run(tmp_path, "study=pack", "trials=5", "trial.pack=auto", "trial.max_concurrent=5")
    assert code == 0 and "8 small trials packed to each" in out, out
    study = Study("pack", f"journal:{tmp_path}/out/pack/study.journal", Objectives("fd_classifier", "f_mem"))
    trials = study.trials()
    assert len(trials) == 5 and trials[0].state == "finished" and len(trials[0].rungs) == 3
    assert trials[1].state == "failed" and "non-finite" in trials[1].reason
    assert all(t.state in {"finished", "stopped"} and t.rungs for t in trials[2:])
