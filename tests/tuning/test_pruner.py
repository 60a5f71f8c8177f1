"""The pruner's promises, as properties: it never stops a non-dominated trial, and it does stop bad ones."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.tuning import Decision, ParetoPruner, pareto_front

coarse = st.integers(0, 6).map(float)  # coarse values, so that ties and duplicates are common
streams = st.lists(st.tuples(coarse, coarse), min_size=1, max_size=25)


def ask_all(points, eta=3.0):
    pruner = ParetoPruner([0, 1], eta)
    return [pruner.decide(i, 0, {"fd": a, "f_mem": b}) for i, (a, b) in enumerate(points)]


@given(streams, st.floats(1.01, 20))
def test_a_non_dominated_trial_is_never_stopped(points, eta):
    for i, decision in enumerate(ask_all(points, eta)):
        if pareto_front(points[: i + 1])[i]:
            assert decision is Decision.CONTINUE


@given(streams)
def test_a_newcomer_dominated_by_every_earlier_trial_is_stopped(points):
    pruner = ParetoPruner([0, 1], 2.0)
    for i, (a, b) in enumerate(points):
        pruner.decide(i, 0, {"fd": a, "f_mem": b})
    decision = pruner.decide("worst", 0, {"fd": 7.0, "f_mem": 7.0})
    assert decision is Decision.STOP if len(points) > 1 else Decision.CONTINUE


@given(streams, st.randoms())
def test_the_decision_depends_on_the_set_seen_not_on_its_order(points, rng):
    def last(order):
        pruner = ParetoPruner([0, 1], 3.0)
        for i in order:
            pruner.record(i, 0, {"fd": points[i][0], "f_mem": points[i][1]})
        return pruner.decide(0, 0, {"fd": points[0][0], "f_mem": points[0][1]})

    order = list(range(len(points)))
    shuffled = order.copy()
    rng.shuffle(shuffled)
    assert last(order) is last(shuffled)


@given(streams)
def test_asking_twice_changes_nothing(points):
    once, twice = ParetoPruner([0, 1], 3.0), ParetoPruner([0, 1], 3.0)
    for i, (a, b) in enumerate(points):
        first = once.decide(i, 0, {"fd": a, "f_mem": b})
        twice.decide(i, 0, {"fd": a, "f_mem": b})
        assert twice.decide(i, 0, {"fd": a, "f_mem": b}) is first


def test_with_one_objective_it_is_asynchronous_successive_halving():
    """ASHA keeps a trial iff its rank is within the best 1/eta of those seen so far."""
    rng, pruner, seen = random.Random(0), ParetoPruner([1, 2], 3.0), []
    for i in range(200):
        value = rng.random()
        seen.append(value)
        within = sorted(seen).index(value) < max(1, len(seen) / 3) or len(seen) < 3
        assert (pruner.decide(i, 1, {"fd": value}) is Decision.CONTINUE) == within


def test_about_one_in_eta_goes_on_when_objectives_agree():
    rng, pruner = np.random.default_rng(0), ParetoPruner([0, 1], 4.0)
    kept = 0
    for i, quality in enumerate(rng.random(1000)):
        decision = pruner.decide(i, 0, {"fd": quality, "f_mem": quality + 1e-3 * rng.random()})
        kept += decision is Decision.CONTINUE
    assert 0.2 < kept / 1000 < 0.35


def test_rung_values_narrow_what_counts():
    pruner = ParetoPruner([0, 1, 2], 2.0, {0: ["fd"]})
    for i in range(4):
        pruner.decide(i, 0, {"fd": float(i), "f_mem": -float(i)})
    assert pruner.decide("late", 0, {"fd": 9.0, "f_mem": -9.0}) is Decision.STOP
    for i in range(4):
        pruner.decide(i, 1, {"fd": float(i), "f_mem": -float(i)})
    assert pruner.decide("late", 1, {"fd": 9.0, "f_mem": -9.0}) is Decision.CONTINUE


def test_the_last_rung_stops_nobody():
    pruner = ParetoPruner([0, 1], 2.0)
    assert all(pruner.decide(i, 1, {"fd": float(i)}) is Decision.CONTINUE for i in range(9))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"fd": float("nan")}, "not finite"), ({}, "no value"), ({"f_mem": 1.0}, "where earlier trials gave")],
)
def test_values_that_cannot_be_compared_are_refused(values, message):
    pruner = ParetoPruner([0, 1], 2.0)
    pruner.decide(0, 0, {"fd": 1.0})
    with pytest.raises(ValueError, match=message):
        pruner.decide(1, 0, values)


@pytest.mark.parametrize(
    "bad", [{"rungs": []}, {"rungs": [2, 1]}, {"reduction_factor": 1}, {"rung_values": {7: ["fd"]}}]
)
def test_a_policy_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="must"):
        ParetoPruner(**{"rungs": [0, 1], "reduction_factor": 2.0, **bad})
