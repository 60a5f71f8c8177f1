"""A search that is killed and taken up again asks for what it would have asked for: the study decides, not who asks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ambient_ray.tuning.history import history
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Choice, Range, Space
from ambient_ray.tuning.study import Study
from ambient_ray.tuning.transfer import Transfer

OBJECTIVES = Objectives("fd", "f_mem")
PLAIN = Space(
    "plain",
    {"sigma_tn": Range(0.1, 4.0, log=True, prior=0.5), "noisy_ratio": Range(0.1, 0.9)},
    {},
    ({"sigma_tn": 0.0},),
)
CONDITIONAL = Space(
    "conditional",
    {
        "noisy_ratio": Range(0.1, 0.9),
        "sigma_tn": Range(0.1, 4.0, log=True),
        "mixing": Choice(("set_split", "sigma_split")),
        "width": Range(1, 9, integer=True),
    },
    {},
    ({"sigma_tn": 0.0},),
    {"noisy_ratio": {"mixing": ("set_split",)}},
)
RUNGS = 3


class Search:
    """A driver with synthetic trials, `at_once` of them, which can be killed between any two things that happen."""

    def __init__(self, url, key, space, at_once, **options):
        self.url, self.key, self.space, self.at_once, self.options = url, key, space, at_once, options
        self.rng = np.random.default_rng(1)  # the world's, not the driver's
        self.restart()

    def restart(self):
        proposer = choose_sampler(shipped_sampler(self.key), self.space).proposer(seed=5, **self.options)
        if self.url == "memory:" and hasattr(self, "study"):
            self.study._proposer = proposer
        else:
            self.study = Study("s", self.url, OBJECTIVES, proposer)

    def run(self, trials, killed=lambda asked: False):
        """The settings asked for; `killed(n)`: whether the driver dies before it asks for trial n."""
        while True:
            running = [t.number for t in self.study.running()]
            asked = len(self.study.trials())
            if asked == trials and not running:
                return [t.settings for t in self.study.trials()]
            if len(running) < self.at_once and asked < trials:
                if killed(asked):
                    self.restart()
                if asked == 9:
                    self.study.replicate(3, seed=9, rungs=(100, 200))
                else:
                    self.study.ask(self.space)
                continue
            self.score(running[int(self.rng.integers(len(running)))])

    def score(self, number):
        trial = self.study.trial(number)
        index, sigma_tn = len(trial.rungs), trial.settings["sigma_tn"]
        if sigma_tn > 3:
            self.study.finish(number, "failed", "the loss was not finite")
            return
        fd = 50 / (1 + index) + 10 * abs(sigma_tn - 0.7) + trial.settings.get("noisy_ratio", 0.3)
        record = RungRecord(index, 100 * (index + 1), {"fd": fd, "f_mem": min(1.0, 0.2 * index + sigma_tn / 9)}, {}, "")
        self.study.record_rung(number, record)
        if index == RUNGS - 1 or (number and self.rng.random() < 0.4):
            left = 1 - (index + 1) / RUNGS
            self.study.finish(number, "stopped" if left else "finished", rungs_left=left)


TRIALS = {"gp": 13, "grid": 20, "nsga2": 50, "nsga3": 50}
CASES = [(key, space) for key in ("tpe", "nsga2", "nsga3", "qmc", "random", "grid") for space in (PLAIN, CONDITIONAL)]


@pytest.mark.parametrize(("key", "space"), [*CASES, ("gp", PLAIN)], ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("at_once", [1, 4])
def test_a_proposer_made_anew_before_every_trial_proposes_what_one_that_lived_does(key, space, at_once):
    trials = TRIALS.get(key, 30)
    lived = Search("memory:", key, space, at_once).run(trials)
    died = Search("memory:", key, space, at_once).run(trials, killed=lambda asked: True)
    assert died == lived
    assert len({str(settings) for settings in lived}) >= trials - 1  # a replica may have its trial's settings


@pytest.mark.parametrize("key", ["tpe", "nsga2"])
def test_what_the_copy_forgets_and_another_study_knows_is_forgotten_and_known_again(key):
    def transfer():
        source = Search("memory:", "random", PLAIN, 1)
        source.run(30)
        study = source.study
        return Transfer.of(study.trials(), OBJECTIVES, study.reference, {}, PLAIN)

    runs = []
    for killed in (lambda asked: False, lambda asked: asked % 7 == 3):
        search = Search("memory:", key, PLAIN, 3, transfer=transfer(), remembers=20)
        search.study.enqueue([{"sigma_tn": 1.5}, {"sigma_tn": 0.2, "noisy_ratio": 0.5}])
        runs.append(search.run(70, killed))
    assert runs[0] == runs[1]


def test_another_process_proposes_the_same(tmp_path):
    """Words are hashed otherwise in every process, and numbers go through the journal's text."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_restarts as t\n"
        "for key in ('tpe', 'nsga2', 'qmc'):\n"
        "    search = t.Search(f'journal:{sys.argv[2]}/{key}.journal', key, t.CONDITIONAL, 1)\n"
        "    print(search.run(24, killed=lambda asked: sys.argv[3] == 'killed' and asked % 5 == 0))\n"
    )
    found = []
    for seed, kind in (("1", "killed"), ("2", "lived")):
        (tmp_path / kind).mkdir()
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / kind), kind]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1] and found[0].count("sigma_tn") > 60


def test_a_sampler_of_ones_own_is_one_object_for_a_whole_search():
    import optuna

    made = []

    class Own(optuna.samplers.RandomSampler):
        def __init__(self):
            super().__init__(seed=3)
            made.append(self)

    globals()["Own"] = Own
    sys.modules.setdefault("own_sampler", sys.modules[__name__])
    sys.modules["own_sampler"].Own = Own
    choice = choose_sampler({"_target_": "own_sampler.Own"}, PLAIN)
    study = Study("s", "memory:", OBJECTIVES, choice.proposer())
    before = len(made)
    asked = [study.ask(PLAIN).settings["sigma_tn"] for _ in range(6)]
    assert len(made) == before + 1 and len(set(asked)) == 6


def test_a_seed_of_the_users_own_gives_another_search():
    def asked(seed):
        content = {"_target_": "optuna.samplers.RandomSampler", "seed": seed}
        study = Study("s", "memory:", OBJECTIVES, choose_sampler(content, CONDITIONAL).proposer())
        return [study.ask(CONDITIONAL).settings["sigma_tn"] for _ in range(5)][1:]

    assert asked(3) == asked(3) and not set(asked(3)) & set(asked(4)) and len(set(asked(3))) == 4


# -- the history ------------------------------------------------------------------------------------------------


def test_a_studys_history_is_what_was_known_at_each_start(tmp_path):
    search = Search(f"journal:{tmp_path}/study.journal", "random", PLAIN, 3)
    seen = []
    ask, replicate = search.study.ask, search.study.replicate

    def noting(begin):
        def begun(*arguments, **options):
            known = [(t.number, t.state, len(t.rungs)) for t in search.study.trials()]
            seen.append((known, begin(*arguments, **options).number))

        return begun

    search.study.ask, search.study.replicate = noting(ask), noting(replicate)
    search.run(30)
    again = Study("s", search.url, OBJECTIVES)
    assert again.trials() == search.study.trials()
    kept = [
        ([(t.number, t.state, len(t.rungs)) for t in known], trial.number) for known, trial in history(again.trials())
    ]
    assert kept == seen


def test_a_study_that_kept_no_order_is_taken_to_have_run_one_trial_after_the_other():
    search = Search("memory:", "tpe", PLAIN, 1)
    search.run(20)
    from dataclasses import replace

    trials = [
        replace(t, begun=0, over=0, rungs=tuple(replace(r, turn=0) for r in t.rungs)) for t in search.study.trials()
    ]
    old = [[t.state for t in known] for known, _ in history(trials)]
    assert old == [[t.state for t in known] for known, _ in history(search.study.trials())]
