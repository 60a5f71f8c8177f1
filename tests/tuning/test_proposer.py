"""Who chooses: beliefs wash out, grids end, conditions hold, and the sampler learns what it should and no more."""

import math

import numpy as np
import optuna
import pytest

from ambient_ray.tuning.memory import MANY
from ambient_ray.tuning.opening import SpaceExhaustedError, prior_share
from ambient_ray.tuning.points import draw, grid_points
from ambient_ray.tuning.proposer import Proposer
from ambient_ray.tuning.records import Objectives, RungRecord, violations
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Choice, Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
PLAIN = Space(
    "plain",
    {"sigma_tn": Range(0.1, 4.0, log=True), "noisy_ratio": Range(0.1, 0.9)},
    {"mixing": "set_split"},
    ({"sigma_tn": 0.0},),
)
CONDITIONAL = Space(
    "conditional",
    {
        "noisy_ratio": Range(0.1, 0.9),
        "sigma_tn": Range(0.1, 4.0, log=True),
        "mixing": Choice(("set_split", "sigma_split")),
    },
    {},
    ({"sigma_tn": 0.0},),
    {"noisy_ratio": {"mixing": ("set_split",)}},
)


def rung(index, fd, f_mem):
    return RungRecord(index, 100 * (index + 1), {"fd": fd, "f_mem": f_mem}, {}, "")


def play(study, space, trials, outcome=lambda t: (50 + 10 * t.settings["sigma_tn"], 0.5), stop=lambda n: False):
    """Ask and tell so many trials."""
    for _ in range(trials):
        trial = study.ask(space)
        fd, f_mem = outcome(trial)
        study.record_rung(trial.number, rung(0, fd, f_mem))
        study.finish(trial.number, "stopped" if stop(trial.number) else "finished", rungs_left=0.5)
    return study


def study_with(key="random", storage="memory:", space=PLAIN, **options):
    return Study("s", storage, OBJECTIVES, choose_sampler(shipped_sampler(key), space).proposer(**options))


@pytest.mark.parametrize("key", ["tpe", "gp", "nsga2", "nsga3", "qmc", "random", "grid"])
@pytest.mark.parametrize("space", [PLAIN, CONDITIONAL], ids=lambda s: s.name)
def test_every_sampler_searches_two_objectives_and_keeps_conditions(key, space):
    study = play(study_with(key, space=space, seed=1), space, 20, stop=lambda n: n % 3 == 2)
    trials = study.trials()
    assert [t.arm for t in trials] == ["ddpm"] + 19 * ["ambient"]
    for trial in trials[1:]:
        assert 0.1 <= trial.settings["sigma_tn"] <= 4.0
        assert ("noisy_ratio" in trial.settings) == (trial.settings["mixing"] == "set_split")
    assert len({str(t.settings) for t in trials}) == 20


@pytest.mark.parametrize("key", ["tpe", "gp", "nsga2"])
def test_a_sampler_learns_where_the_good_ones_are(key):
    """Both objectives are best at sigma_tn = .3 and ratio = .3; random draws are a median of about 1 and .2 away."""

    def away(settings):
        return abs(math.log(settings["sigma_tn"] / 0.3)), abs(settings["noisy_ratio"] - 0.3)

    def outcome(trial):
        x, y = away({"noisy_ratio": 0.5, **trial.settings}) if trial.settings["sigma_tn"] else (3.0, 0.5)
        return 50 + 10 * x + 20 * y, min(1.0, 0.1 + 0.1 * x + 0.5 * y)

    late: list[tuple[float, float]] = []
    for seed in range(5) if key == "nsga2" else [2]:  # evolution's luck is larger
        study = play(study_with(key, seed=seed), PLAIN, 120 if key == "nsga2" else 60, outcome)
        late += [away(t.settings) for t in study.trials()[-20:]]
    late = np.array(late)
    assert np.median(late[:, 0]) < 0.6 and np.median(late[:, 1]) < 0.15


def test_tpe_models_the_joint_space_beside_baseline_and_failures():
    study = play(study_with("tpe"), PLAIN, 12, stop=lambda n: n % 2)
    memory = study._proposer._memory.study
    assert {"sigma_tn", "noisy_ratio"} <= set(memory.sampler.infer_relative_search_space(memory, memory.trials[-1]) or {
        name for group in memory.sampler._search_space_group.search_spaces for name in group
    })  # fmt: skip
    # The baseline has no searched parameters, so the sampler never sees it, and it sees the last when asked again.
    assert len(memory.trials) == 10


@pytest.mark.parametrize(
    ("lesson", "state", "constraints"),
    [
        ("infeasible", optuna.trial.TrialState.COMPLETE, {"fidelity": 0.0, "stopped": 0.5}),
        ("partial", optuna.trial.TrialState.COMPLETE, {"fidelity": 0.0, "stopped": 0.0}),
        ("pruned", optuna.trial.TrialState.PRUNED, {}),
    ],
)
def test_what_a_stopped_trial_teaches(lesson, state, constraints):
    study = study_with(lesson=lesson)
    play(study, PLAIN, 3, stop=lambda n: n == 1)
    study.ask(PLAIN)
    told = study._proposer._memory.study.trials[0]
    assert told.state is state
    assert dict(told.constraints) == constraints


def test_violations_grade_what_is_of_no_use():
    assert violations((90.0, 0.2), (100.0, 1.0), 0.0) == {"fidelity": 0.0, "stopped": 0.0}
    near, far = (violations((fd, 0.2), (100.0, 1.0), 0.0)["fidelity"] for fd in (110.0, 400.0))
    assert 0 < near < far < 1
    assert violations((90.0, 0.2), None, 0.25) == {"fidelity": 0.0, "stopped": 0.25}


def test_a_failed_trial_teaches_nothing_and_ends():
    study = study_with("tpe")
    for number in range(4):
        study.ask(PLAIN)
        study.finish(number, "failed", "the loss was not finite")
    study.ask(PLAIN)
    states = [t.state for t in study._proposer._memory.study.trials]
    assert states == 3 * [optuna.trial.TrialState.FAIL]


# -- beliefs --------------------------------------------------------------------------------------------------


BELIEVED = Space(
    "believed",
    {"sigma_tn": Range(0.1, 4.0, log=True, prior=0.5, spread=0.1), "noisy_ratio": Range(0.1, 0.9)},
    {"mixing": "set_split"},
    ({"sigma_tn": 0.0},),
)


def test_a_belief_is_tried_first_and_its_share_follows_the_bound():
    study = play(study_with(space=BELIEVED, prior_weight=0.5, seed=3), BELIEVED, 101)
    sources = [t.source for t in study.trials()]
    assert sources[:2] == ["baseline", "prior"]
    assert study.trial(1).settings["sigma_tn"] == 0.5
    for asked in (5, 20, 100):
        assert sources[1 : asked + 1].count("prior") <= 1 + prior_share(0.5, asked)
    assert sources[1:].count("prior") >= math.floor(prior_share(0.5, 100))


def test_a_belief_washes_out_whatever_its_weight():
    shares = [(1 + prior_share(1.0, n)) / n for n in (10, 100, 1000, 100_000)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.001


def test_a_wrong_belief_does_not_keep_tpe_from_the_optimum():
    wrong = Space(
        "wrong", {**BELIEVED.parameters, "sigma_tn": Range(0.1, 4.0, log=True, prior=4.0, spread=0.05)},
        BELIEVED.fixed, BELIEVED.baselines,
    )  # fmt: skip

    def outcome(trial):
        return 50 + 20 * trial.settings["sigma_tn"], 0.1 + 0.2 * trial.settings["sigma_tn"]

    study = play(study_with("tpe", space=wrong, prior_weight=1.0, seed=4), wrong, 80, outcome)
    late = [t.settings["sigma_tn"] for t in study.trials()[-20:] if t.source == "sampler"]
    assert np.median(late) < 0.5


def test_draws_from_a_belief_stay_inside_and_near_it():
    rng = np.random.default_rng(0)
    drawn = [draw(rng, Range(0.1, 4.0, log=True, prior=0.1, spread=0.1)) for _ in range(400)]
    assert min(drawn) >= 0.1 and max(drawn) <= 4.0 and np.median(drawn) < 0.15
    words = [draw(rng, Choice(("a", "b"), prior="b")) for _ in range(400)]
    assert 0.65 < words.count("b") / 400 < 0.85
    counts = [draw(rng, Range(1, 9, integer=True, prior=4)) for _ in range(50)]
    assert all(isinstance(c, int) and 1 <= c <= 9 for c in counts)


# -- grids ----------------------------------------------------------------------------------------------------


def test_a_grid_tries_every_point_once_and_then_says_so():
    choice = choose_sampler({"grid": 3}, CONDITIONAL)
    assert len(grid_points(CONDITIONAL, 3)) == 3 * 3 + 3
    study = Study("s", "memory:", OBJECTIVES, choice.proposer())
    play(study, CONDITIONAL, 1 + 12)
    with pytest.raises(SpaceExhaustedError, match="tried whole"):
        study.ask(CONDITIONAL)
    tried = [tuple(sorted(t.settings.items())) for t in study.trials()[1:]]
    assert len(set(tried)) == 12


# -- enqueued points ------------------------------------------------------------------------------------------


def test_enqueued_points_come_after_the_baseline_and_the_sampler_fills_the_rest(tmp_path):
    url = f"journal:{tmp_path}/study.journal"
    study = study_with("tpe", url)
    study.enqueue([{"sigma_tn": 0.7}, {"sigma_tn": 1.5, "noisy_ratio": 0.25}])
    asked = [study.ask(PLAIN) for _ in range(2)]
    again = study_with("tpe", url)
    again.enqueue([{"sigma_tn": 0.7}, {"sigma_tn": 1.5, "noisy_ratio": 0.25}])
    asked += [again.ask(PLAIN) for _ in range(2)]
    assert [t.source for t in asked] == ["baseline", "enqueued", "enqueued", "sampler"]
    assert [t.settings["sigma_tn"] for t in asked[1:3]] == [0.7, 1.5]
    assert 0.1 <= asked[1].settings["noisy_ratio"] <= 0.9 and asked[2].settings["noisy_ratio"] == 0.25


# -- many trials, and restarts --------------------------------------------------------------------------------


def test_of_many_trials_the_copy_keeps_the_best_and_an_even_choice():
    proposer = Proposer(lambda seed: optuna.samplers.TPESampler(seed=seed), remembers=40)
    study = Study("s", "memory:", OBJECTIVES, proposer)
    play(study, PLAIN, 200, lambda t: (50 + abs(t.number - 100), 0.5))
    study.ask(PLAIN)
    held = [t for t in proposer._memory.study.trials if t.state.is_finished()]
    assert 40 <= len(held) <= 51
    assert min(t.values[0] for t in held) == 50


@pytest.mark.parametrize("key", ["tpe", "nsga2", "qmc"])
def test_a_study_taken_up_again_goes_on_with_what_it_learnt(tmp_path, key):
    url = f"journal:{tmp_path}/study.journal"
    first = play(study_with(key, url, seed=5), PLAIN, 25)
    again = study_with(key, url, seed=5)
    new = again.ask(PLAIN)
    assert len(again._proposer._memory.study.trials) >= 24  # those that were searched
    assert str(new.settings) not in {str(t.settings) for t in first.trials()}
    if key == "nsga2":
        generations = [t.system_attrs["NSGAIISampler:generation"] for t in again._proposer._memory.study.trials]
        assert generations[:2] == [0, 0] and new.noted["NSGAIISampler:generation"] == 1


def test_a_limit_that_becomes_known_reaches_trials_that_were_told_before():
    study = study_with("tpe")
    ddpm = study.ask(PLAIN)
    early = study.ask(PLAIN)
    study.record_rung(early.number, rung(0, 500.0, 0.0))
    study.finish(early.number, "finished")
    study.ask(PLAIN)
    assert study._proposer._memory.study.trials[0].constraints["fidelity"] == 0
    study.record_rung(ddpm.number, rung(0, 100.0, 0.5))
    study.finish(ddpm.number, "finished")
    assert study.reference == (200.0, 1.0)
    study.ask(PLAIN)
    assert study._proposer._memory.study.trials[0].constraints["fidelity"] == pytest.approx(1.5 / 2.5)


# -- forecasts ------------------------------------------------------------------------------------------------


def test_by_default_a_stopped_trial_is_told_where_it_would_have_ended():
    study = study_with()
    ddpm = study.ask(PLAIN)
    for index, (fd, f_mem) in enumerate([(100.0, 0.0), (50.0, 0.2)]):
        study.record_rung(ddpm.number, rung(index, fd, f_mem))
    study.finish(ddpm.number, "finished")
    stopped = study.ask(PLAIN)
    study.record_rung(stopped.number, rung(0, 160.0, 0.0))
    study.finish(stopped.number, "stopped", rungs_left=0.5)
    study.ask(PLAIN)
    told = study._proposer._memory.study.trials[0]
    assert told.values == pytest.approx([80.0, 0.2]) and told.constraints["stopped"] == 0


# -- what else is told than ended trials' best rungs -------------------------------------------------------------


def told(study):
    study.ask(PLAIN)
    return [tuple(t.values) for t in study._proposer._memory.study.trials if t.state.is_finished()]


def train(study, trial, *points):
    for index, point in enumerate(points):
        study.record_rung(trial.number, rung(index, *point))


@pytest.mark.parametrize(("key", "whole"), [("tpe", True), ("random", False), ("nsga2", False)])
def test_tpe_is_told_each_rung_that_is_on_the_front_when_its_trial_ends(key, whole):
    study = study_with(key)
    ddpm = study.ask(PLAIN)
    train(study, ddpm, (100.0, 0.5))
    study.finish(ddpm.number, "finished")
    one, two = study.ask(PLAIN), study.ask(PLAIN)
    train(study, one, (190.0, 0.0), (100.0, 0.3), (110.0, 0.4))  # the last is dominated, the middle one is the best
    train(study, two, (300.0, 0.0), (150.0, 0.1), (130.0, 0.4), (90.0, 0.6))  # its third is dominated
    study.finish(one.number, "finished")
    study.finish(two.number, "finished")
    best, others = [(100.0, 0.3), (150.0, 0.1)], [(190.0, 0.0), (90.0, 0.6)]
    assert sorted(told(study)) == sorted(best + others if whole else best)  # (300, 0) does not meet the limit of 200
    copies = study._proposer._memory.study.trials
    of_two = [t.params for t in copies if t.values == [150.0, 0.1]]
    assert [t.params for t in copies if t.values == [90.0, 0.6]] == (of_two if whole else [])


def test_a_rung_that_was_beaten_is_told_as_another_trial_and_forgotten_when_the_copy_is_made_anew():
    study = study_with("tpe")
    ddpm, one, two = (study.ask(PLAIN) for _ in range(3))
    train(study, one, (150.0, 0.0), (100.0, 0.3))
    study.finish(one.number, "finished")
    assert sorted(told(study)) == [(100.0, 0.3), (150.0, 0.0)]
    train(study, two, (140.0, 0.0), (90.0, 0.3))
    study.finish(two.number, "finished")
    assert len(told(study)) == 4
    train(study, ddpm, (100.0, 0.5))
    study.finish(ddpm.number, "finished")  # the limit is known: a new copy
    assert sorted(told(study)) == [(90.0, 0.3), (100.0, 0.3), (140.0, 0.0)]


def test_of_many_running_trials_the_sampler_is_told_where_they_are_going():
    study = study_with("tpe")
    study.ask(PLAIN)
    trials = [study.ask(PLAIN) for _ in range(MANY + 1)]
    train(study, trials[0], (100.0, 0.0), (50.0, 0.2))
    train(study, trials[1], (80.0, 0.1))
    assert told(study) == [(50.0, 0.2), pytest.approx((40.0, 0.3))]
    copied = study._proposer._memory.study
    assert not copied._storage.get_trial(copied.trials[0]._trial_id).state.is_finished()
    train(study, trials[1], (80.0, 0.1), (60.0, 0.15))
    study.finish(trials[1].number, "finished")
    assert told(study)[:2] == [(50.0, 0.2), (60.0, 0.15)]


def test_few_running_trials_are_left_to_end():
    study = study_with("tpe")
    trials = [study.ask(PLAIN) for _ in range(4)]
    train(study, trials[1], (80.0, 0.1))
    assert told(study) == []


@pytest.mark.parametrize("key", ["tpe", "nsga2"])
@pytest.mark.parametrize("at_once", [3, MANY + 5])
def test_reading_what_may_have_changed_proposes_what_reading_the_whole_study_does(key, at_once):
    def search(whole):
        study = study_with(key, seed=5, remembers=40)
        rng, running, asked = np.random.default_rng(1), [], []
        for step in range(130):
            if whole:
                memory = study._proposer._memory
                memory._open, memory._read, memory._ended = [], 0, 0
            trial = study.ask(PLAIN)
            running, asked = [*running, trial.number], [*asked, trial.settings]
            if step == 60:
                running.append(study.replicate(trial.number, seed=9, rungs=(100, 200)).number)
            while len(running) >= at_once:  # one of those that run is scored, and may end
                number = running[int(rng.integers(len(running)))]
                index, sigma_tn = len(study.trial(number).rungs), study.trial(number).settings["sigma_tn"]
                study.record_rung(number, rung(index, 50 / (1 + index) + 10 * sigma_tn, min(1.0, 0.2 * index)))
                if index == 2 or rng.random() < 0.4:
                    study.finish(number, "finished" if index == 2 else "stopped", rungs_left=0.5)
                    running.remove(number)
        return asked

    assert search(whole=False) == search(whole=True)
