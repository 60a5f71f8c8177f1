import time
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.simulation import Curves, Front, StudySearch, replay
from ambient_ray.tuning.judge import RungPolicy
from ambient_ray.tuning.pareto import hypervolume
from ambient_ray.tuning.proposer import Proposer
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.study import Study

from .conftest import RUNGS, SECONDS

WHOLE = sum(SECONDS)
OBJECTIVES = Objectives("fd", "f_mem")


@pytest.fixture(scope="module")
def curves(parquet):
    return Curves.load(parquet)


def search(curves, reduction_factor=None, seed=0, **limits):
    study = Study("toy", "memory:", OBJECTIVES, Proposer(lambda s: optuna.samplers.RandomSampler(seed=s), seed=seed))
    policy = RungPolicy(len(RUNGS), reduction_factor, [["fd"], ["fd", "f_mem"], ["fd", "f_mem"]])
    return study, replay(StudySearch(study, curves.space, curves, policy), curves, seed=seed, **limits)


class Fixed:
    """Asks for one configuration again and again; the trials that `ends` names stop at their first rung."""

    def __init__(self, ends=(), slow=0.0):
        self.ends, self.slow, self.asked, self.states = set(ends), slow, 0, {}

    def ask(self):
        until = time.process_time() + self.slow
        while time.process_time() < until:
            pass
        self.asked += 1
        return self.asked - 1, {"sigma_tn": 0.5, "noisy_ratio": 0.5}

    def scored(self, number, rung, scores):
        return number not in self.ends

    def ended(self, number, state):
        self.states[number] = state


def test_one_worker_is_always_busy_and_trains_everything_one_after_the_other(curves):
    study, result = search(curves, workers=1, trials=5)
    assert result.busy == pytest.approx(1)
    assert result.moments[-1].images == 5 * RUNGS[-1]
    assert result.moments[-1].seconds == pytest.approx(5 * WHOLE)
    assert [t.state for t in study.trials()] == ["finished"] * 5
    assert [m.images for m in result.moments[:4]] == [100, 200, 400, 500]


@pytest.mark.parametrize(("workers", "trials"), [(4, 8), (4, 6), (3, 3), (5, 2)])
def test_equal_trials_run_in_waves(curves, workers, trials):
    _, result = search(curves, workers=workers, trials=trials)
    waves = -(-trials // workers)
    assert result.moments[-1].seconds == pytest.approx(waves * WHOLE)
    assert result.busy == pytest.approx(trials / (waves * workers))
    assert result.moments[-1].images == trials * RUNGS[-1]


def test_what_is_half_trained_is_spent(curves):
    fixed = Fixed(ends={0})
    result = replay(fixed, curves, workers=2, trials=3)
    # Trial 0 stops at 10 s and trial 2 begins there; trial 1's second rung ends at 20 s, with trial 2's first.
    at_twenty = [m for m in result.moments if m.seconds == pytest.approx(20)]
    assert [m.images for m in at_twenty] == [pytest.approx(100 + 200 + 100)] * 2
    assert fixed.states == {0: "stopped", 1: "finished", 2: "finished"}
    assert result.busy == pytest.approx((10 + 40 + 40) / (2 * 50))


def test_a_budget_of_images_ends_the_search_where_it_is(curves):
    _, result = search(curves, workers=4, images=2000)
    assert 2000 <= result.moments[-1].images < 2000 + 4 * 200
    assert all(m.images < 2000 for m in result.moments[:-1])
    assert result.busy == pytest.approx(1)  # nobody waits for the last one


def test_time_and_training_only_grow_and_so_does_the_front(curves):
    _, result = search(curves, reduction_factor=2, workers=3, trials=40)
    for a, b in pairwise(result.moments):
        assert b.seconds >= a.seconds and b.images >= a.images
        assert b.hypervolume >= a.hypervolume and b.observed >= a.observed


def test_the_hypervolume_is_that_of_the_true_scores_of_all_rungs(curves):
    study, result = search(curves, workers=2, trials=10)
    true = [OBJECTIVES.of(s) for t in study.trials() for s in curves.curve(t.settings, 0).truth]
    seen = [OBJECTIVES.of(s) for t in study.trials() for s in curves.curve(t.settings, 0).observed]
    assert result.moments[-1].hypervolume == pytest.approx(hypervolume(true, curves.reference()))
    assert result.moments[-1].observed == pytest.approx(hypervolume(seen, curves.reference()))
    assert hypervolume(result.front, result.reference) == pytest.approx(result.moments[-1].hypervolume)
    _, without = search(curves, workers=2, trials=10, baselines=False)
    found = [OBJECTIVES.of(s) for t in study.trials()[1:] for s in curves.curve(t.settings, 0).truth]
    assert without.moments[-1].hypervolume == pytest.approx(hypervolume(found, curves.reference()))


def test_stopped_trials_are_stopped_in_the_study_and_their_training_is_saved(curves):
    study, result = search(curves, reduction_factor=3, workers=2, trials=60)
    states = [t.state for t in study.trials()]
    assert states.count("stopped") == result.stopped > 20
    assert "running" not in states and study.trial(0).state == "finished"
    assert result.moments[-1].images == sum(t.rungs[-1].images_seen for t in study.trials())
    for trial in study.trials():
        if trial.state == "stopped":
            assert trial.spared == pytest.approx(1 - trial.rungs[-1].images_seen / RUNGS[-1])
            assert trial.reason.startswith("dominated")


def test_the_same_seed_is_the_same_search(curves):
    first, again, other = (search(curves, reduction_factor=2, seed=s, workers=3, trials=30)[1] for s in (1, 1, 2))
    assert first.moments == again.moments and first.front == again.front
    assert first.moments != other.moments


def test_a_slow_driver_makes_many_workers_wait(curves):
    from dataclasses import replace

    quick = Curves(replace(curves.recordings, seconds=(0.01, 0.01, 0.02)))  # a trial takes 40 ms, an ask 10 ms
    crowd = replay(Fixed(slow=0.01), quick, workers=32, trials=64, measured=True)
    assert crowd.busy < 4.5 / 32 + 0.05  # four workers' worth of asks, at the most
    assert crowd.driver_seconds > 64 * 0.01
    assert replay(Fixed(slow=0.001), quick, workers=32, trials=64).busy == pytest.approx(1)


def test_a_run_that_fails_ends_as_failed(curves):
    from dataclasses import replace

    values = tuple(runs.copy() for runs in curves.recordings.values)
    for runs in values:
        runs[:, 1:] = np.nan
    broken = Curves(replace(curves.recordings, values=values), mode="nearest")
    fixed = Fixed()
    result = replay(fixed, broken, workers=1, trials=2)
    assert fixed.states == {0: "failed", 1: "failed"}
    assert [m.images for m in result.moments] == [100, 300]  # the rung in which a run failed was paid for


def test_images_to_reach(curves):
    _, result = search(curves, workers=1, trials=12)
    final = result.moments[-1].hypervolume
    reached = result.images_to_reach(final)
    assert reached is not None and result.hypervolume_at(reached) == final > result.hypervolume_at(reached - 100)
    assert result.images_to_reach(final + 1) is None
    assert result.hypervolume_at(0) == 0


@pytest.mark.parametrize(
    "limits", [{"workers": 0, "trials": 1}, {"workers": 1}, {"workers": 1, "trials": 1, "images": 1.0}]
)
def test_limits_that_make_no_sense(curves, limits):
    with pytest.raises(ValueError, match="one or more workers"):
        replay(Fixed(), curves, **limits)


@settings(deadline=None)  # the first call imports the geometry
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25))
def test_a_growing_front_has_the_hypervolume_of_all_its_points(points):
    front = Front((10.0, 10.0))
    for point in points:
        front.add((float(point[0]), float(point[1])))
    assert front.hypervolume == pytest.approx(hypervolume(np.array(points, float).reshape(-1, 2), (10.0, 10.0)))
    for a, b in pairwise(front.points):
        assert a[0] < b[0] and a[1] > b[1]
