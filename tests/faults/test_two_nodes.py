"""A search on two real Ray nodes: submitted, its node killed and its network cut, stopped, and submitted again.

The nodes are network namespaces of this machine (cluster/two-nodes.sh), with token authentication on.
"""

import os
import stat
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import SMALL, runs_of, trials_of
from two_nodes import SPACE, TwoNodes, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(why := why_not()), reason=why),
]
only_long = pytest.mark.skipif(os.environ.get("AMBIENT_FAULTS") != "long", reason="a part of make faults")


@pytest.fixture
def nodes():
    nodes = TwoNodes()
    try:
        nodes("up")
        yield nodes
    finally:
        nodes("down")
    assert nodes.left() == []
    nodes("down")  # once more is no error


def story(folder, *overrides):
    (folder / "spaces").mkdir(exist_ok=True)
    (folder / "spaces" / "story.yaml").write_text(SPACE)
    return [*SMALL, f"search_spaces={folder}/spaces", f"output_dir={folder}/out", *overrides]


def study_of(folder):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    return Study("story", f"journal:{folder}/out/story/study.journal", Objectives("fd_classifier", "f_mem")).trials()


def whole(folder, trials, rungs):
    """Every trial is there once with all its rungs, in the study and in MLflow, and none runs; the counts of it."""
    found, (_, runs) = study_of(folder), runs_of(folder)
    ended = [t for t in found if t.state == "finished" and [rung.images_seen for rung in t.rungs] == rungs]
    counts = {
        "trials": trials,
        "lost": trials - len({t.number for t in ended} & set(trials_of(runs))),
        "duplicated": len(found) - len({t.number for t in found}) + len(runs) - 1 - len(trials_of(runs)),
        "running": sum(t.state == "running" for t in found) + sum(run.info.status == "RUNNING" for run in runs),
    }
    assert counts == {"trials": trials, "lost": 0, "duplicated": 0, "running": 0}, [(t.state, t.reason) for t in found]
    assert len(found) == trials and all(run.info.status == "FINISHED" for run in runs)
    return counts


def written(folder, trial, rung):
    """When a rung's checkpoint was written."""
    found = list((folder / "out/story/trials").glob(f"{trial:04d}-*/rung-{rung:02d}-*/checkpoint.json"))
    assert len(found) == 1
    return found[0].stat().st_mtime_ns


def test_a_job_over_two_nodes_survives_its_node_and_is_stopped_and_submitted_again(nodes, tmp_path, long, count):
    trials = 2 if long else 1
    search = story(
        tmp_path, f"trials={trials}", "trial.workers=2", "trial.cpus_per_worker=2", "trial.rungs=[160,320,800]",
        "trial.max_failures=2", "trial.reduction_factor=null", "keep_checkpoints=all",
    )  # fmt: skip
    token = nodes.state / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    secret = token.read_text()

    nodes.submit("first", *search)
    nodes.until("first", "trial 0 · DDPM · rung 1/3")
    assert len(nodes.workers("head")) == 1 and len(nodes.workers("node")) == 1, "one worker on each node"
    first = written(tmp_path, 0, 0)
    nodes("kill-node")
    if long:
        nodes.until("first", "waiting for nodes to come back")
    nodes("start-node")
    nodes.until("first", "trial 0 · DDPM · rung 2/3")
    assert written(tmp_path, 0, 0) == first, "it went on from its checkpoint"

    nodes.ray("job", "stop", "first")
    assert nodes.ended("first") == "STOPPED"
    said = nodes.log("first")
    assert "Stopped. All scored rungs are kept; the same command goes on" in said, said
    _, runs = runs_of(tmp_path)
    assert runs and all(run.info.status != "RUNNING" for run in runs)

    nodes.submit("again", *search)
    nodes.until("again", ", taken up")
    if long:
        nodes.until("again", "rung 1/3")
        nodes("cut")
        time.sleep(30)
        nodes("heal")
    assert nodes.ended("again") == "SUCCEEDED", nodes.log("again")
    assert written(tmp_path, 0, 0) == first
    counts = whole(tmp_path, trials, [160, 320, 800])
    logs = [path for path in nodes.state.rglob("*") if path.is_file() and path != token]
    told = [
        str(path) for path in [*logs, *tmp_path.rglob("*")] if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert told == [], "the token stands in no other file"
    count("two_nodes", **counts, raylets_killed=1, cuts=int(long), files=len(logs))


@only_long
def test_a_relative_folder_is_refused_in_a_job_and_a_stranger_is_kept_out(nodes, tmp_path):
    nodes.submit("relative", *story(tmp_path), "output_dir=outputs")
    assert nodes.ended("relative") == "FAILED"
    assert "error: output_dir=outputs is relative" in nodes.log("relative")
    token, kept = nodes.state / "token", nodes.state / "kept"
    os.rename(token, kept)
    token.write_text("0" * 64)
    assert "401" in (said := nodes.ray("job", "list", check=False)) or "nauthenticated" in said or "invalid" in said
    os.rename(kept, token)


@only_long
def test_a_trial_goes_on_on_the_other_node_and_the_others_do_not_notice(nodes, tmp_path, count):
    """Two trials, one on each node; the second node never comes back."""
    nodes.submit(
        "search", *story(tmp_path, "trials=3", "trial.cpus_per_worker=2", "trial.rungs=[160,320,1920]"),
        "trial.reduction_factor=null", "keep_checkpoints=all",
    )  # fmt: skip
    nodes.until("search", "trial 0 · DDPM · rung 1/3")
    nodes.until("search", "trial 1 · ")
    deadline = time.monotonic() + 200
    while len(study_of(tmp_path)) < 2 or not study_of(tmp_path)[1].rungs:
        assert time.monotonic() < deadline, nodes.log("search")
        time.sleep(0.5)
    untouched, first = nodes.workers("head"), written(tmp_path, 1, 0)
    other = nodes.workers("node")
    assert len(untouched) == len(other) == 1
    nodes("kill-node")
    nodes.until("search", "with room for 1 trials at once")
    assert nodes.ended("search") == "SUCCEEDED", nodes.log("search")
    counts = whole(tmp_path, 3, [160, 320, 1920])
    assert written(tmp_path, 1, 0) == first
    count("node_lost", **counts)


@only_long
def test_a_cut_network_is_waited_out(nodes, tmp_path, count):
    """One trial over both nodes; the network between them is away for 30 s."""
    nodes.submit(
        "search", *story(tmp_path, "trials=1", "trial.workers=2", "trial.cpus_per_worker=2"),
        "trial.rungs=[160,320,1920]", "keep_checkpoints=all",
    )  # fmt: skip
    nodes.until("search", "trial 0 · DDPM · rung 1/3")
    first = written(tmp_path, 0, 0)
    nodes("cut")
    time.sleep(30)
    nodes("heal")
    assert nodes.ended("search") == "SUCCEEDED", nodes.log("search")
    assert written(tmp_path, 0, 0) == first
    count("network_cut", seconds=30, **whole(tmp_path, 1, [160, 320, 1920]))


@only_long
def test_a_search_on_a_head_without_cpus_waits_for_its_nodes(tmp_path):
    nodes = TwoNodes(head_cpus=0)
    try:
        nodes("up")
        nodes("kill-node")
        time.sleep(45)  # until Ray has given it up; a search that starts before says the same a little later
        nodes.submit("search", *story(tmp_path, "trials=1", "trial.rungs=[320]"))
        nodes.until("search", "waiting for nodes: a trial needs 1 place of 1 CPUs, and the cluster has none")
        nodes("start-node")
        assert nodes.ended("search") == "SUCCEEDED", nodes.log("search")
        whole(tmp_path, 1, [320])
    finally:
        nodes("down")
