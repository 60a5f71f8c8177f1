"""What is collected was dominated, and stays so: nothing on any front is ever lost, however the study goes on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ambient_ray.storage import MODEL, SAMPLES, TRAIN_STATE
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.confirmation import candidates_to_confirm
from ambient_ray.tuning.kept import EVERYTHING, RESUME, needless, own_front
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord, best_rung, candidates_of

OBJECTIVES = Objectives("fd", "f_mem")
# Few values, so that ties are common.
SCORE = st.integers(0, 4).map(float)
STATES = st.sampled_from(["running", "finished", "stopped", "failed"])


def trial(number, points, state="finished", arm="ambient", replica_of=None):
    rungs = tuple(RungRecord(k, 10 * (k + 1), {"fd": f, "f_mem": m}, {}, f"/c/{k}") for k, (f, m) in enumerate(points))
    return TrialRecord(number, arm, {"sigma_tn": float(number)}, state, rungs, replica_of=replica_of)


TRIALS = st.lists(
    st.tuples(st.lists(st.tuples(SCORE, SCORE), max_size=5), STATES, st.sampled_from(["ambient", "ddpm", "rival"])),
    max_size=6,
).map(lambda found: [trial(k, *one) for k, one in enumerate(found)])


def has(study, candidate, names):
    gone = needless(candidate.trial, OBJECTIVES).get(candidate.rung.rung, frozenset())
    return not gone & set(names)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRIALS)
def test_the_studys_front_its_champions_and_what_is_confirmed_are_never_collected_as_the_study_grows(trials):
    for length in range(len(trials) + 1):
        now = trials[:length]
        land = Landscape.of(now, OBJECTIVES, (3.0, 1.0))
        assert all(has(now, c, (MODEL, SAMPLES)) for c in land.front)
        for rule in (Rule("matched"), Rule("knee"), Rule("max_memorization", max_memorization=0.5)):
            if land.candidates:
                best = min(c.fidelity for c in land.candidates)
                admitted, others = rule.order(land.candidates, best, 3.0)
                assert has(now, [*admitted, *others][0], (MODEL, SAMPLES)), rule
                assert all(has(now, c, (MODEL, SAMPLES)) for c in candidates_to_confirm(land, rule, 1)[:1])
        for one in now:
            own = candidates_of([one], OBJECTIVES)
            best_one = best_rung(own, (3.0, 1.0))
            assert best_one is None or has(now, best_one, (MODEL, SAMPLES)), "what stands for the trial in pictures"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRIALS, st.lists(st.tuples(SCORE, SCORE), min_size=1, max_size=4))
def test_what_was_collected_was_dominated_and_stays_so_whatever_comes_later(trials, later):
    grown = [*trials, trial(len(trials), later)]
    front = {(c.trial.number, c.rung.rung) for c in Landscape.of(grown, OBJECTIVES).front}
    for one in trials:
        for rung, names in needless(one, OBJECTIVES).items():
            if MODEL in names:
                assert (one.number, rung) not in front


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRIALS)
def test_of_a_trial_that_may_be_taken_up_nothing_goes_and_of_none_its_last(trials):
    for one in trials:
        go = needless(one, OBJECTIVES)
        assert one.ended or not go
        assert not one.rungs or one.rungs[-1].rung not in go
        assert set(go) <= {r.rung for r in one.rungs}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TRIALS)
def test_ddpms_stops_and_replicas_keep_weights_and_samples_of_every_rung(trials):
    for one in trials:
        for kept in (replace(one, arm="ddpm"), replace(one, replica_of=0)):
            assert all(names == RESUME for names in needless(kept, OBJECTIVES).values())


def test_equal_rungs_are_on_the_front_together_and_the_dominated_one_goes():
    one = trial(1, [(5.0, 0.1), (3.0, 0.3), (3.0, 0.3), (4.0, 0.4), (2.0, 0.9)])
    assert own_front(one, OBJECTIVES) == {0, 1, 2, 4}
    assert needless(one, OBJECTIVES) == {0: RESUME, 1: RESUME, 2: RESUME, 3: EVERYTHING}
    assert {TRAIN_STATE} == RESUME


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_on_no_front(bad):
    assert needless(trial(1, [(bad, 0.1), (3.0, 0.3)], "failed"), OBJECTIVES) == {0: EVERYTHING}
    assert needless(trial(1, [(bad, 0.1)], "failed"), OBJECTIVES) == {}
