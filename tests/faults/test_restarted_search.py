"""The same promise as `test_driver_faults.py` without Ray and MLflow, at every place where a search can be cut in two.

Training, checkpoints, sampling, judge, proposer, study and searcher are the search's own; Ray's calls are direct ones.
A kill throws all of them away but what is on disk.
"""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import small_world

from ambient_ray.training import Scored, loop
from ambient_ray.training.ray_worker import run_jobs
from ambient_ray.training.trial import World
from ambient_ray.tuning.judge import Judge, RungPolicy
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.running.searcher import StudySearcher
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
RUNGS = (160, 320, 480)
POLICY = RungPolicy(len(RUNGS), 2.0, [["fd"], ["fd", "f_mem"], ["fd", "f_mem"]])
SPACE = Space("s", {"sigma_tn": Range(0.1, 2.0, log=True), "lr": Range(1e-4, 1e-1, log=True)}, {}, ({"sigma_tn": 0.0},))


class KilledError(BaseException):
    """No part of a search may catch this."""


class Fate:
    """Kills at the given steps: a search is a row of steps, counted over all its lives."""

    def __init__(self, kills=()):
        self.kills, self.steps = set(kills), 0

    def step(self):
        self.steps += 1
        if self.steps in self.kills:
            raise KilledError


def score(denoiser, samples):
    pixels = samples / 255
    scores = {"fd": 1.0 + float(pixels.var()), "f_mem": float(pixels.mean())}
    return Scored(scores, {"n": len(samples)})


def life(folder, trials, fate, data, training):
    """One driver's life: until the study holds so many trials and all have ended, or until it is killed."""
    sampler = choose_sampler({**shipped_sampler("tpe"), "n_startup_trials": 3}, SPACE)
    study = Study("s", f"journal:{folder}/study.journal", OBJECTIVES, sampler.proposer(seed=3))
    fate.step()
    judge = Judge("s", study.storage_url, OBJECTIVES, POLICY)
    handle = SimpleNamespace(
        beat=SimpleNamespace(remote=lambda *told: None),
        record=SimpleNamespace(remote=judge.record),
        decide=SimpleNamespace(remote=lambda *asked: fate.step() or judge.decide(*asked)),
    )

    def spent(seconds):
        return "all of them" if len(study.trials()) >= trials else ""

    searcher = StudySearcher(study, SPACE, {}, RUNGS, study.running(), slots=(0,), spent=spent)
    while True:
        config = searcher.suggest("a")
        if not isinstance(config, dict):
            return
        fate.step()
        job = {key: config[key] for key in ("number", "arm", "settings", "replica_of")}
        job |= {"training": training, "data": None, "judge": handle, "needed": POLICY.needed(OBJECTIVES)}
        job["folder"] = f"{folder}/{config['number']:04d}-{study.uid}"

        def tell(number, message):
            fate.step()  # the worker has kept its checkpoint, and the driver has not heard of the rung
            searcher.on_trial_result("a", dict(message))
            fate.step()
            return True

        (end,) = run_jobs([job], data, World(), SimpleNamespace(tell=tell))
        fate.step()
        searcher.on_trial_result("a", dict(end))
        fate.step()
        searcher.on_trial_complete("a", {})


def rungs_of(trial):
    """Scores; how fast a rung was trained is no score, though it stands among them."""
    return [(rung.rung, {k: v for k, v in rung.scores.items() if k != "images_per_second"}) for rung in trial.rungs]


@pytest.fixture
def searched(monkeypatch):
    """searched(folder, trials, kills) -> (what the search found out, its lives, its steps)."""
    run_trial = loop.run_trial
    monkeypatch.setattr(loop, "run_trial", lambda *a, **k: run_trial(*a, **k, score=score))
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    data, training = small_world.data(), small_world.settings(rungs=RUNGS, mixing="set_split").to_dict()

    def search(folder, trials, kills=()):
        fate, lives = Fate(kills), 0
        while True:
            lives += 1
            try:
                life(folder, trials, fate, data, training)
                break
            except KilledError:
                continue
        found = [
            (t.number, t.source, dict(t.settings), t.state, t.reason, t.spared, rungs_of(t))
            for t in Study("s", f"journal:{folder}/study.journal", OBJECTIVES).trials()
        ]  # fmt: skip
        return found, lives, fate.steps

    return search


def test_a_search_that_is_killed_anywhere_finds_bit_for_bit_what_it_would_have(tmp_path, searched, long, count):
    trials, kills, repeats = (12, 10, 10) if long else (8, 6, 2)
    (tmp_path / "whole").mkdir()
    wanted, _, steps = searched(tmp_path / "whole", trials)
    assert {trial[3] for trial in wanted} >= {"finished", "stopped"}, "the judge had something to say"
    assert {trial[1] for trial in wanted} == {"baseline", "sampler"}
    rng, lives, differing = random.Random(5), 0, 0
    for repeat in range(repeats):
        folder = tmp_path / f"killed{repeat}"
        folder.mkdir()
        found, lived, _ = searched(folder, trials, rng.sample(range(2, steps), kills))
        lives += lived
        differing += sum(a != b for a, b in zip(found, wanted, strict=True))
    count("search_cut", kills=lives - repeats, searches=repeats, trials=trials, trials_that_differ=differing)
    assert lives > repeats * (kills // 2) and differing == 0
