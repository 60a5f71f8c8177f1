"""A trial whose workers have to leave keeps all it has, and goes on from there as if nothing had been."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.training import CheckpointMismatchError, PackedTrial, World, run_packed, run_trial
from ambient_ray.training import life as life_module
from ambient_ray.training.checkpoint import read_checkpoint
from ambient_ray.training.meter import Meter
from ambient_ray.training.newest import newest_checkpoint
from ambient_ray.training.notice import Notice, watch
from ambient_ray.training.trial import pause_name, progress_of

TIMED = ("images_per_second",)


def _run(folder, recorder, resume=None, **changes):
    settings = world.settings(**changes)
    return run_trial(settings, world.data(), World(), recorder, workdir=folder, resume=resume, score=world.score)


def _tensors(folder):
    return load_file(folder / "model.safetensors") | load_file(folder / "train_state.safetensors")


def _same(a, b):
    """Whether two rungs are the same, bit for bit, but for what depends on the clock."""
    first, second = _tensors(a.checkpoint), _tensors(b.checkpoint)
    assert {k: v for k, v in a.scores.items() if k not in TIMED} == {
        k: v for k, v in b.scores.items() if k not in TIMED
    }
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("after", [1, 7, 19, 20, 21, 30, 39])
def test_a_paused_run_continues_bit_for_bit_and_pauses_leave_nothing_behind(tmp_path, monkeypatch, after):
    """Rungs at 20 and 40 steps, a look at finiteness every 8: the rungs' mean losses are over the steps since those."""
    monkeypatch.setattr(life_module, "CHECK_EVERY", 8)
    changes = {"backbone": world.TINY | {"dropout": 0.3}, "flip": True, "warmup_images": 300}
    straight, leaver, taker = world.Recorder(), world.Recorder(leave_after=after - 1), world.Recorder()
    _run(tmp_path / "straight", straight, **changes)

    folder = tmp_path / "paused"
    outcome = _run(folder, leaver, **changes)
    assert (outcome.state, outcome.images_seen) == ("paused", 16 * after)
    assert outcome.reason == f"paused at image {16 * after}, as its workers had to leave"
    pause = newest_checkpoint(folder)
    assert pause.folder.name == pause_name(16 * after) and pause.pause is not None

    outcome = _run(folder, taker, pause.folder, **changes)
    assert outcome.state == "finished"
    assert [r.rung for r in taker.resumed] == ([0] if after > 20 else []), "rungs before the pause are told again"
    assert all(_same(a, b) for a, b in zip(straight.results, leaver.results + taker.results, strict=True))
    assert sorted(path.name for path in folder.iterdir()) == ["rung-00-000000320", "rung-01-000000640"]


def test_a_run_that_is_moved_at_every_step_is_still_the_same(tmp_path):
    straight, results = world.Recorder(), []
    _run(tmp_path / "straight", straight, rungs=(96, 160))
    folder, moves = tmp_path / "moved", 0
    while True:
        kept, recorder = newest_checkpoint(folder), world.Recorder(leave_after=0)
        outcome = _run(folder, recorder, None if kept is None else kept.folder, rungs=(96, 160))
        results += recorder.results
        if outcome.state != "paused":
            break
        moves += 1
    assert (outcome.state, moves) == ("finished", 10)
    assert all(_same(a, b) for a, b in zip(straight.results, results, strict=True))


def test_what_the_judge_would_say_by_now_of_a_rung_before_the_pause_does_not_count(tmp_path):
    _run(tmp_path, world.Recorder(leave_after=25))
    outcome = _run(tmp_path, recorder := world.Recorder(stop_at=(0,)), tmp_path / pause_name(26 * 16))
    assert outcome.state == "finished" and [r.rung for r in recorder.results] == [1]


def test_a_divergence_before_the_pause_is_found_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(life_module, "CHECK_EVERY", 1000)
    _run(tmp_path, world.Recorder(leave_after=4), lr=1e30)
    outcome = _run(tmp_path, world.Recorder(), tmp_path / pause_name(5 * 16), lr=1e30)
    assert outcome.state == "failed" and "became non-finite between image 0 and image" in outcome.reason


def test_a_pause_is_of_the_rung_that_it_was_on_the_way_to(tmp_path):
    _run(tmp_path, world.Recorder(leave_after=25))
    pause = tmp_path / pause_name(26 * 16)
    with pytest.raises(
        CheckpointMismatchError, match=r"on the way to rung 1 of \[320, 640\], which this trial's rungs"
    ):
        _run(tmp_path, world.Recorder(), pause, rungs=(320, 352))
    assert _run(tmp_path, world.Recorder(), pause, rungs=(320, 640, 960)).state == "finished"


def test_the_furthest_whole_checkpoint_is_the_newest(tmp_path):
    _run(tmp_path, world.Recorder(leave_after=25))
    names = ["rung-00-000000320", "pause-000000320", "pause-000000416", "rung-01-000000416"]
    assert sorted(reversed(names), key=progress_of) == [names[1], names[0], *names[2:]]
    assert newest_checkpoint(tmp_path).folder.name == "pause-000000416"
    (tmp_path / "pause-000000416" / "model.safetensors").write_bytes(b"")
    assert newest_checkpoint(tmp_path).folder.name == "rung-00-000000320"


def test_packed_trials_pause_and_go_on_each_for_itself(tmp_path):
    trials = [
        PackedTrial(world.settings(seed=seed), world.Recorder(leave_after=4 + seed), tmp_path / str(seed))
        for seed in range(2)
    ]
    outcomes = run_packed(trials, world.data(), World(), score=world.score)
    assert [(o.state, o.images_seen) for o in outcomes] == [("paused", 80), ("paused", 96)]
    again = [
        trial._replace(reporter=world.Recorder(), resume=newest_checkpoint(trial.workdir).folder) for trial in trials
    ]
    assert [o.state for o in run_packed(again, world.data(), World(), score=world.score)] == ["finished"] * 2


def test_a_pause_carries_the_seconds_and_says_what_it_is(tmp_path):
    _run(tmp_path, world.Recorder(leave_after=2))
    kept = json.loads((tmp_path / pause_name(48) / "checkpoint.json").read_text())
    assert kept["rung"] == -1 and kept["history"] == [] and kept["pause"]["seconds"] > 0
    assert sorted(kept["files"]) == ["model.safetensors", "train_state.safetensors"]
    assert read_checkpoint(tmp_path / pause_name(48)).pause.meter.steps == 3


def test_a_meter_goes_on_also_among_another_number_of_ranks():
    """Three ranks took two steps each, one goes on: its mean is over all seven; of two, the second begins with none."""
    meter = Meter(torch.device("cpu"))
    for loss in (1.0, 2.0):
        meter.add(torch.tensor(loss), torch.tensor(10 * loss))
    sums = meter.sums()
    sums = sums._replace(ranks=sums.ranks * 3)
    one = Meter(torch.device("cpu"))
    one.go_on(sums, rank=0, world_size=1)
    one.add(torch.tensor(7.0), torch.tensor(70.0))
    reading = one.read()
    assert reading.loss == pytest.approx((3 * 3.0 + 7.0) / 7) and reading.grad_norm == pytest.approx(10 * reading.loss)
    other = Meter(torch.device("cpu"))
    other.go_on(sums, rank=1, world_size=2)
    assert math.isclose(other.read().loss, 0.0)


class TwoEnds:
    """A slot as `watch` sees it."""

    def __init__(self):
        self.left, self.word = threading.Event(), threading.Event()

    def leave(self):
        self.left.set()

    def leaving(self):
        return self.word.wait(0.02)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_s_notice_reaches_the_slot(rank):
    slot, notice = TwoEnds(), Notice()
    watch(slot, rank, notice)
    assert not slot.left.wait(0.05)
    notice.give()
    assert slot.left.wait(10)


def test_the_slot_s_word_reaches_rank_0():
    slot, notice = TwoEnds(), Notice()
    watch(slot, 0, notice)
    slot.word.set()
    assert notice.wait(10)


def test_the_first_sigterm_is_a_notice_and_the_second_ends_the_process():
    code = """
import os, signal
from ambient_ray.training.notice import TERMINATION, note_termination
note_termination()
assert not TERMINATION.given()
os.kill(os.getpid(), signal.SIGTERM)
assert TERMINATION.given()
print("noted", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("noted\n", -signal.SIGTERM), done.stderr
