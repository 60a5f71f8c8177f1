"""The judge is a pure pruner with a memory in the study."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.tuning.judge import Judge, RungPolicy, usual_rung_values
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")

OBJECTIVES = Objectives("fd", "f_mem")
POLICY = RungPolicy(2, 2.0, [["fd", "gap"], ["fd", "f_mem"]])
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))


def scores(quality, gap=None):
    return {"fd": quality, "gap": quality if gap is None else gap, "f_mem": 0.0, "kid": 1.0}


def live(study, judge, trials, seed):
    """A search of so many trials and their replicas through a judge; what it answered."""
    rng, answers = random.Random(seed), []

    def rung(trial, arm, index, configuration=None):
        values = scores(float(rng.randint(1, 9)), float(rng.randint(1, 9)))
        answers.append(judge.decide(trial.number, arm, index, values, configuration))
        study.record_rung(trial.number, RungRecord(index, 10 * (index + 1), values, {}, "c"))
        return answers[-1]

    for _ in range(trials):
        trial = study.ask(SPACE)
        goes_on = all(rung(trial, trial.arm, index) for index in range(2))
        study.finish(trial.number, "finished" if goes_on else "stopped")
        if rng.random() < 0.3:
            original = rng.randrange(trial.number + 1)
            if study.trial(original).replica_of is None:
                replica = study.replicate(original, seed=rng.randrange(99), rungs=[10])
                assert rung(replica, "replica", 0, original) is True
    return answers


@pytest.mark.parametrize("within", ["crowding", "epsilon_net"])
@pytest.mark.parametrize("seed", range(3))
def test_a_judge_rebuilt_from_the_storage_decides_as_the_one_that_lived(tmp_path, seed, within):
    storage = f"journal:{tmp_path}/study.journal"
    policy = RungPolicy(2, 2.0, POLICY.values, within=within)
    study, lived = Study("faces", storage, OBJECTIVES), Judge("faces", storage, OBJECTIVES, policy)
    answers = live(study, lived, 25, seed)
    assert any(trial.replica_of is not None for trial in study.trials()) and len(set(answers)) == 2
    rebuilt = Judge("faces", storage, OBJECTIVES, policy)
    assert rebuilt.left_out() == []
    rng = random.Random(seed)
    later = []
    for number in range(100, 160):  # newcomers, some of them replicas of trials that it never heard of itself
        configuration = rng.choice([None, None, rng.randrange(25)])
        asked = (number, "ambient", 0, scores(10 * rng.random(), 10 * rng.random()), configuration)
        later.append(lived.decide(*asked))
        assert rebuilt.decide(*asked) == later[-1]
    assert len(set(later)) == 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, 0, 1])), max_size=15))
def test_the_judge_answers_what_its_pruner_does(points):
    judge, pruner = POLICY.judge(), POLICY.pruner()
    for number, (fd, gap, configuration) in enumerate(points):
        values = scores(float(fd), float(gap))
        decision = pruner.decide(number, 0, values, configuration=configuration)
        assert judge.decide(number, "ambient", 0, values, configuration) == (decision.value == "continue")


def test_baselines_and_replicas_are_never_stopped_but_count():
    replicated, single = POLICY.judge(), POLICY.judge()
    for judge in (replicated, single):
        assert judge.decide(1, "ambient", 0, scores(1.0)) is True
        assert judge.decide(2, "ambient", 0, scores(0.5)) is True
        assert judge.decide(0, "ddpm", 0, scores(5.0)) is True
        assert judge.decide(3, "rival", 0, scores(6.0)) is False
    assert replicated.decide(4, "replica", 0, scores(9.5), 2) is True  # the last of all
    for judge in (replicated, single):
        assert judge.decide(5, "ambient", 0, scores(1.2)) is True
    # Trial 2 stands at (.5 + 9.5) / 2 = 5 with its replica, and leaves its place among the best half to trial 6.
    assert replicated.decide(6, "ambient", 0, scores(2.0)) is True
    assert single.decide(6, "ambient", 0, scores(2.0)) is False


@pytest.mark.parametrize("never", [None, math.inf])
def test_a_policy_without_a_reduction_factor_stops_nobody(never):
    judge = RungPolicy(2, never, POLICY.values).judge()
    assert all(judge.decide(i, "ambient", 0, scores(float(i))) for i in range(20))


@pytest.mark.parametrize(
    "policy",
    [
        RungPolicy(2, 1.0, POLICY.values),
        RungPolicy(2, 2.0, POLICY.values, within="alphabet"),
        RungPolicy(2, 2.0, [["fd"], ["fd"], ["fd"]]),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy):
    with pytest.raises(ValueError, match="must"):
        policy.judge()


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_score_that_cannot_be_judged_is_named_and_leaves_no_trace(bad):
    told, spared = POLICY.judge(), POLICY.judge()
    for judge in (told, spared):
        for i in range(4):
            judge.decide(i, "ambient", 0, scores(float(i)))
    with pytest.raises(ValueError, match=r"trial 7 .*rung 0: \{'gap': "):
        told.decide(7, "ddpm", 0, {**scores(0.0), "gap": bad})
    missing = scores(0.0)
    del missing["gap"]
    with pytest.raises(ValueError, match=r"trial 7 gave no value for \['gap'\] at rung 0"):
        told.decide(7, "ambient", 0, missing)
    assert told.decide(8, "ambient", 0, {**scores(1.5), "kid": bad}) == spared.decide(8, "ambient", 0, scores(1.5))


def test_a_rung_that_a_changed_policy_cannot_judge_is_left_out_and_counted(tmp_path):
    storage = f"journal:{tmp_path}/study.journal"
    study = Study("faces", storage, OBJECTIVES)
    for quality, kid in ((0.0, math.nan), (1.0, 1.0), (2.0, 1.0)):
        number = study.ask(SPACE).number
        study.record_rung(number, RungRecord(0, 10, {**scores(quality), "kid": kid}, {}, "c"))
    judge = Judge("faces", storage, OBJECTIVES, RungPolicy(2, 2.0, [["fd", "kid"], ["fd"]]))
    assert judge.left_out() == ["trial 0 gave values that are not finite at rung 0: {'kid': nan}"]
    assert judge.decide(9, "ambient", 0, {"fd": 0.5, "kid": 1.0}) is True  # only trial 0 would dominate it
    assert judge.decide(8, "ambient", 0, {"fd": 3.0, "kid": 1.0}) is False


def test_heartbeats_are_the_latest_of_each_trial(tmp_path):
    judge = Judge("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES, POLICY)
    judge.beat(0, 100, 1.0)
    judge.beat(0, 200, 0.5)
    judge.beat(3, 50, 2.0)
    assert judge.beats() == {0: (200, 0.5), 3: (50, 2.0)}


@pytest.mark.parametrize(
    ("rungs", "values"),
    [
        (1, [["fd"]]),
        (2, [["fd"], ["fd", "f_mem"]]),
        (3, [["fd"], ["fd"], ["fd", "f_mem"]]),
        (4, [["fd"], ["fd"], ["fd", "f_mem"], ["fd", "f_mem"]]),
    ],
)
def test_unless_a_user_says_else_memorization_counts_in_the_second_half(rungs, values):
    assert usual_rung_values(rungs, Objectives("fd", "f_mem")) == values
