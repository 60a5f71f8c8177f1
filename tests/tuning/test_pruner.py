"""The pruner's promises, as properties: it never stops a non-dominated trial, and it does stop bad ones."""

import math
import random
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.tuning import Decision, ParetoPruner, pareto_front
from ambient_ray.tuning.pareto import ROUNDING, crowding_distance, epsilon_net_order

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")

NAMES = ("fd", "f_mem", "gap", "kid")
coarse = st.integers(0, 6).map(float)  # coarse values, so that ties and duplicates are common
etas = st.floats(1.01, 20)
orders = st.sampled_from(["crowding", "epsilon_net"])


@st.composite
def streams(draw, replicas=True, largest=25):
    """[(values, configuration or None)]: trials of 1 to 4 objectives, some of them replicas."""
    names = NAMES[: draw(st.integers(1, 4))]
    values = st.tuples(*[coarse for _ in names]).map(lambda row: dict(zip(names, row, strict=True)))
    configuration = st.one_of(st.none(), st.sampled_from("abcd")) if replicas else st.none()
    return draw(st.lists(st.tuples(values, configuration), min_size=1, max_size=largest))


def ask_all(stream, eta=3.0, within="crowding", rungs=(0, 1)):
    pruner = ParetoPruner(rungs, eta, within=within)
    return [pruner.decide(i, 0, values, configuration=c) for i, (values, c) in enumerate(stream)]


def own_points(stream):
    return [tuple(Fraction(values[name]) for name in sorted(values)) for values, _ in stream]


def means(stream):
    """configuration -> the exact mean of its replicas; a trial without one is its own, by its number."""
    members = {}
    for i, point in enumerate(own_points(stream)):
        members.setdefault(i if stream[i][1] is None else stream[i][1], []).append(point)
    return {name: tuple(map(mean_of, zip(*rows, strict=True))) for name, rows in members.items()}


def mean_of(column):
    return sum(column) / len(column)


def dominates(a, b):
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def fronts(points):
    """The rank of each point, by the definition: 0 for what nothing dominates, then again without those."""
    ranks, left, rank = {}, set(points), 0
    while left:
        first = {p for p in left if not any(dominates(q, p) for q in left)}
        ranks |= dict.fromkeys(first, rank)
        left, rank = left - first, rank + 1
    return [ranks[p] for p in points]


def by_definition(stream, eta, within):
    """Whether the stream's last trial goes on, said without a shortcut."""
    own, configuration = own_points(stream), stream[-1][1]
    if not any(dominates(p, own[-1]) for p in own):
        return True
    ranked = means(stream)
    if len(ranked) < eta:
        return True
    points, index = (
        list(ranked.values()),
        list(ranked).index(len(stream) - 1 if configuration is None else configuration),
    )
    ranks = fronts(points)
    same = [i for i, rank in enumerate(ranks) if rank == ranks[index]]
    front = np.array([points[i] for i in same], dtype=float)
    if within == "crowding":
        distance = crowding_distance(front)
        ahead = distance > distance[same.index(index)] + ROUNDING
    else:
        order = epsilon_net_order(front)
        ahead = order < order[same.index(index)]
    before = sum(rank < ranks[index] for rank in ranks) + int(ahead.sum())
    return ranks[index] == 0 or before < len(points) / eta


@given(streams(), etas, orders)
def test_a_non_dominated_trial_is_never_stopped(stream, eta, within):
    """Neither one that no trial dominates, nor a replica of a configuration that no configuration dominates."""
    points = own_points(stream)
    for i, decision in enumerate(ask_all(stream, eta, within)):
        ranked = means(stream[: i + 1])
        mean = ranked[i if stream[i][1] is None else stream[i][1]]
        if not any(dominates(q, points[i]) for q in points[: i + 1]) or not any(
            dominates(q, mean) for q in ranked.values()
        ):
            assert decision is Decision.CONTINUE


@given(streams(), etas, orders)
@settings(max_examples=300)
def test_each_decision_is_the_definitions(stream, eta, within):
    decisions = ask_all(stream, eta, within)
    expected = [by_definition(stream[: i + 1], eta, within) for i in range(len(stream))]
    assert [decision is Decision.CONTINUE for decision in decisions] == expected


@given(streams(replicas=False), orders)
def test_a_newcomer_dominated_by_every_earlier_trial_is_stopped(stream, within):
    pruner = ParetoPruner([0, 1], 2.0, within=within)
    for i, (values, _) in enumerate(stream):
        pruner.decide(i, 0, values)
    assert pruner.decide("worst", 0, dict.fromkeys(stream[0][0], 7.0)) is Decision.STOP


@pytest.mark.parametrize("fewest", [1, 2, 3, 5])
def test_nobody_is_stopped_before_so_many_configurations_are_there(fewest):
    """A configuration counts once, however many replicas it has."""
    pruner = ParetoPruner([0, 1], 2.0, fewest=fewest)
    for i in range(4):
        pruner.record(f"replica {i}", 0, {"fd": 0.0}, configuration="best")
    decisions = [pruner.decide(i, 0, {"fd": 1.0 + i}) for i in range(6)]
    there = [2 + i for i in range(6)]  # the best and those asked so far
    assert decisions == [Decision.STOP if n >= max(2, fewest) else Decision.CONTINUE for n in there]


@given(streams(), orders, st.randoms())
def test_the_decision_depends_on_the_set_seen_not_on_its_order(stream, within, rng):
    """And so a pruner that is told of the past decides as the one that lived through it."""

    def last(order, asked):
        pruner = ParetoPruner([0, 1], 3.0, within=within)
        for i in order:
            (pruner.decide if asked else pruner.record)(i, 0, stream[i][0], configuration=stream[i][1])
        return [pruner.decide(i, 0, values, configuration=c) for i, (values, c) in enumerate(stream)]

    order = list(range(len(stream)))
    shuffled = order.copy()
    rng.shuffle(shuffled)
    assert last(order, asked=True) == last(shuffled, asked=False)


@given(streams(), orders)
def test_asking_twice_changes_nothing(stream, within):
    once, twice = ParetoPruner([0, 1], 3.0, within=within), ParetoPruner([0, 1], 3.0, within=within)
    for i, (values, configuration) in enumerate(stream):
        first = once.decide(i, 0, values, configuration=configuration)
        twice.decide(i, 0, values, configuration=configuration)
        assert twice.decide(i, 0, values, configuration=configuration) is first


@given(streams(), st.floats(0, 1), st.floats(0, 1), orders)
def test_a_harder_selection_stops_whom_a_softer_one_stops(stream, one, other, within):
    """Once as many configurations as the harder factor have arrived: before, it stops nobody."""
    arrived = len(means(stream))
    softer, harder = (1.01 + share * max(arrived - 1.01, 0) for share in sorted((one, other)))
    if ask_all(stream, softer, within)[-1] is Decision.STOP:
        assert ask_all(stream, harder, within)[-1] is Decision.STOP


@given(streams(), etas, orders, st.lists(st.tuples(st.integers(-9, 9), st.integers(-50, 50)), min_size=4, max_size=4))
def test_units_and_origins_change_nothing(stream, eta, within, maps):
    """Powers of two and whole numbers, which floats carry without rounding, so that ties stay ties."""
    moved = [
        ({name: 2.0**k * value + 2.0**k * b for (name, value), (k, b) in zip(values.items(), maps, strict=False)}, c)
        for values, c in stream
    ]
    assert ask_all(moved, eta, within) == ask_all(stream, eta, within)


@given(
    streams(replicas=False), etas, orders,
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(-100, 100)), min_size=4, max_size=4),
)  # fmt: skip
def test_units_that_round_change_nothing_either(stream, eta, within, maps):
    moved = [
        ({name: scale * value + b for (name, value), (scale, b) in zip(values.items(), maps, strict=False)}, c)
        for values, c in stream
    ]
    assert ask_all(moved, eta, within) == ask_all(stream, eta, within)


def test_trials_that_only_rounding_tells_apart_share_their_place():
    """Evenly spaced trials are equally crowded, though 0.1 * k is not: two ends go before each of them."""
    pruner = ParetoPruner([0, 1], 2.0)
    front = [{"fd": 0.1 * k, "f_mem": 1.0 - 0.1 * k} for k in range(9)]
    for i, values in enumerate(front):
        pruner.record(i, 0, values)
    for i in range(4):  # all better than the front
        pruner.record(f"better {i}", 0, {"fd": -2.0 + 0.1 * i, "f_mem": -2.0 - 0.1 * i})
    assert {pruner.decide(i, 0, values) for i, values in enumerate(front)} == {Decision.CONTINUE}  # 6 of 13 before


@given(streams(), orders, st.sampled_from([None, math.inf]))
def test_without_a_reduction_factor_nobody_is_stopped(stream, within, never):
    assert set(ask_all(stream, never, within)) == {Decision.CONTINUE}


def test_with_one_objective_it_is_asynchronous_successive_halving():
    """ASHA keeps a trial iff its rank is within the best 1/eta of those seen so far."""
    rng, pruner, seen = random.Random(0), ParetoPruner([1, 2], 3.0), []
    for i in range(200):
        value = rng.random()
        seen.append(value)
        within = sorted(seen).index(value) < max(1, len(seen) / 3) or len(seen) < 3
        assert (pruner.decide(i, 1, {"fd": value}) is Decision.CONTINUE) == within


@pytest.mark.parametrize("within", ["crowding", "epsilon_net"])
@pytest.mark.parametrize("eta", [2.0, 4.0])
@pytest.mark.parametrize("agree", [0.0, 1.0])
def test_about_one_in_eta_of_the_dominated_goes_on(within, eta, agree):
    """Whether the objectives agree or not, over a long stream."""
    rng, pruner = np.random.default_rng(0), ParetoPruner([0, 1], eta, within=within)
    quality = rng.random(1500)
    points = np.stack([quality, agree * quality + (1 - 0.9 * agree) * rng.random(1500)], axis=1)
    stopped = []
    for i, (fd, f_mem) in enumerate(points):
        decision = pruner.decide(i, 0, {"fd": fd, "f_mem": f_mem})
        if not pareto_front(points[: i + 1])[i]:
            stopped.append(decision is Decision.STOP)
    assert np.mean(stopped) == pytest.approx(1 - 1 / eta, abs=0.05)


@pytest.mark.parametrize("within", ["crowding", "epsilon_net"])
@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("agree", [0.0, 0.9, 1.0])
def test_a_rung_with_thousands_of_trials_answers_at_once(objectives, agree, within):
    rng, pruner = np.random.default_rng(0), ParetoPruner([0, 1], 2.0, within=within)
    points = agree * rng.random((5000, 1)) + (1 - agree) * rng.random((5000, objectives))
    rows = [dict(zip(NAMES, row, strict=False)) for row in points.tolist()]
    for i, row in enumerate(rows):
        pruner.record(i, 0, row)
    seconds = []
    for i in range(0, 5000, 250):
        began = time.process_time()
        pruner.decide(i, 0, rows[i])
        seconds.append(time.process_time() - began)
    assert np.median(seconds) < 0.02


def test_replicas_take_one_place_together():
    """Ten lucky replicas of one configuration do not crowd out another that comes second."""

    def second(together):
        pruner = ParetoPruner([0, 1], 2.0)
        for i in range(10):
            pruner.record(i, 0, {"fd": 0.0 + 0.01 * i}, configuration="best" if together else None)
        for i in range(3):
            pruner.record(f"poor {i}", 0, {"fd": 9.0 + i})
        return pruner.decide("second", 0, {"fd": 1.0})

    assert second(together=True) is Decision.CONTINUE
    assert second(together=False) is Decision.STOP


def test_a_replica_is_judged_by_its_configurations_mean():
    pruner = ParetoPruner([0, 1], 2.0)
    for i in range(8):
        pruner.record(i, 0, {"fd": float(i)})
    assert pruner.decide("unlucky", 0, {"fd": 6.5}) is Decision.STOP
    assert pruner.decide("unlucky too", 0, {"fd": 6.5}, configuration=0) is Decision.CONTINUE  # their mean is 3.25
    assert pruner.decide("lucky", 0, {"fd": -1.0}, configuration=7) is Decision.CONTINUE  # nothing dominates it


def test_the_mean_of_equal_replicas_ties_with_their_value():
    """0.1 + 0.1 + 0.1 is not 3 * 0.1 in floats; a configuration may not lose its place to that."""
    for replicas in range(1, 12):
        pruner = ParetoPruner([0, 1], 2.0)  # two of the four places go on
        pruner.record("best", 0, {"fd": 0.0})
        pruner.record("worse", 0, {"fd": 0.2})
        for i in range(replicas):
            pruner.record(i, 0, {"fd": 0.1}, configuration="same")
        assert pruner.decide("equal", 0, {"fd": 0.1}) is Decision.CONTINUE
        assert pruner.decide(0, 0, {"fd": 0.1}, configuration="same") is Decision.CONTINUE


def test_a_trial_keeps_its_configuration():
    pruner = ParetoPruner([0, 1], 2.0)
    pruner.record(1, 0, {"fd": 1.0}, configuration=0)
    with pytest.raises(ValueError, match="trial 1 is of configuration 1 at rung 0, where it was of 0 before"):
        pruner.record(1, 0, {"fd": 1.0})


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


REFUSED = [
    ({"fd": math.nan, "f_mem": 0.0}, 0, r"trial new gave values that are not finite at rung 0: \{'fd': nan\}"),
    ({"fd": 0.0, "f_mem": -math.inf}, 0, r"not finite at rung 0: \{'f_mem': -inf\}"),
    ({"fd": 0.0, "f_mem": None}, 0, r"not finite at rung 0: \{'f_mem': None\}"),
    ({"fd": 10**400, "f_mem": 0.0}, 0, "not finite at rung 0"),
    ({}, 0, "trial new gave no value for anything at rung 0"),
    ({"fd": 0.0}, 0, r"gave \['fd'\] at rung 0, where earlier trials gave \['f_mem', 'fd'\]"),
    ({"fd": 0.0}, 1, r"trial new gave no value for \['f_mem'\] at rung 1"),
    ({"fd": 0.0, "f_mem": 0.0}, 7, r"trial new: rung 7 is not one of \[0, 1, 2\]"),
]


@pytest.mark.parametrize(("values", "rung", "message"), REFUSED)
@pytest.mark.parametrize("configuration", [None, 0])
def test_values_that_cannot_be_compared_are_refused_and_leave_no_trace(values, rung, message, configuration):
    told, spared = (ParetoPruner([0, 1, 2], 2.0, {1: ["fd", "f_mem"]}) for _ in range(2))
    for i in range(6):
        for pruner in (told, spared):
            pruner.decide(i, 0, {"fd": float(i), "f_mem": float(i)})
            pruner.decide(i, 1, {"fd": float(i), "f_mem": float(i)})
        with pytest.raises(ValueError, match=message):
            told.decide("new", rung, values, configuration=configuration)
        for name in ("new", 0):  # the name and the configuration that were refused
            point = {"fd": 2.5, "f_mem": 2.5}
            with_trace, without = told.decide(name, 0, point), spared.decide(name, 0, point)
            assert with_trace is without


@pytest.mark.parametrize("values", [{"fd": math.nan}, {"other": math.nan}, {}])
def test_a_refused_first_trial_does_not_say_what_counts(values):
    pruner = ParetoPruner([0, 1], 2.0)
    with pytest.raises(ValueError, match="trial 0 gave"):
        pruner.decide(0, 0, values)
    assert [pruner.decide(i, 0, {"f_mem": float(i)}) for i in range(3)][-1] is Decision.STOP


@pytest.mark.parametrize(
    "bad",
    [
        {"fewest": 0}, {"rungs": []}, {"rungs": [2, 1]}, {"reduction_factor": 1}, {"reduction_factor": math.nan},
        {"rung_values": {7: ["fd"]}}, {"rung_values": {0: []}}, {"within": "hypervolume"},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match="must"):
        ParetoPruner(**{"rungs": [0, 1], "reduction_factor": 2.0, **bad})
