"""Checkpoints are cleared when all before is drawn, and not a moment earlier; what cannot be is told."""

import json
from pathlib import Path

from ambient_ray.console.collecting import Collector
from ambient_ray.console.estimate import Bytes, Disk
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")
FILES = ("model.safetensors", "train_state.safetensors", "samples.npz")


def trial(folder, points, state="finished", number=3):
    rungs = []
    for k, (fd, f_mem) in enumerate(points):
        place = folder / f"rung-{k:02d}-{k:09d}"
        place.mkdir(parents=True)
        for name in FILES:
            (place / name).write_bytes(b"12345")
        files = {name: {"bytes": 5, "sha256": "0" * 64} for name in FILES}
        (place / "checkpoint.json").write_text(json.dumps({"scores": {"fd": fd}, "files": files}))
        rungs.append(RungRecord(k, k + 1, {"fd": fd, "f_mem": f_mem}, {}, str(place)))
    return TrialRecord(number, "ambient", {}, state, tuple(rungs))


def left(one):
    return [sorted(p.name for p in Path(r.checkpoint).iterdir()) for r in one.rungs]


def test_it_waits_for_mlflow_and_leaves_descriptions_the_front_and_the_last(tmp_path):
    later = []
    collector = Collector(OBJECTIVES, later.append)
    one = trial(tmp_path, [(5.0, 0.5), (3.0, 0.1), (4.0, 0.4), (6.0, 0.6)])
    before = left(one)
    collector.trial_ended(one)
    assert left(one) == before and len(later) == 1
    later[0]()
    done = collector.close()
    assert (done.checkpoints, done.files, done.bytes, done.problems) == (3, 7, 35, ())
    gone, front, last = ["checkpoint.json"], ["checkpoint.json", "model.safetensors", "samples.npz"], sorted(before[0])
    assert left(one) == [gone, front, gone, last]
    kept = json.loads((Path(one.rungs[0].checkpoint) / "checkpoint.json").read_text())
    assert kept["collected"] == sorted(FILES) and kept["scores"] == {"fd": 5.0}
    again = Collector(OBJECTIVES, lambda action: action())
    again.trial_ended(one)
    assert again.close().files == 0


def test_nothing_goes_of_a_trial_that_runs_and_what_cannot_go_is_told(tmp_path):
    collector = Collector(OBJECTIVES, lambda action: action())
    running = trial(tmp_path / "a", [(5.0, 0.5), (3.0, 0.1)], "running")
    broken = trial(tmp_path / "b", [(5.0, 0.5), (3.0, 0.1)], number=7)
    (Path(broken.rungs[0].checkpoint) / "checkpoint.json").write_text("{")
    before = left(running), left(broken)
    for one in (running, broken):
        collector.trial_ended(one)
    done = collector.close()
    assert (left(running), left(broken)) == before
    assert len(done.problems) == 1 and done.problems[0].startswith("trial 7: ") and "is not JSON" in done.problems[0]


def test_what_dry_run_says_bounds_what_is_left_and_what_there_is_meanwhile():
    one = Bytes(4, 12, 1)
    kept = Disk.of(one, trials=10, rungs=4, at_once=2, collected=True)
    assert kept == Disk(peak=2 * 4 * 17 + 8 * (17 + 3 * 5), end=10 * (17 + 3 * 5))
    everything = Disk.of(one, trials=10, rungs=4, at_once=2, collected=False)
    assert everything == Disk(680, 680) and kept.end < kept.peak < everything.peak
    assert Disk.of(one, trials=1, rungs=4, at_once=8, collected=True).peak == 4 * 17
