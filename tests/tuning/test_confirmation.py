"""Fresh seeds, counted once, never the search's own; and means with honest intervals over them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ambient_ray.interval import Interval, over_seeds
from ambient_ray.tuning.champion import Rule, knee_depth
from ambient_ray.tuning.confirmation import candidates_to_confirm, confirmed, failed_replicas, replicas_to_begin
from ambient_ray.tuning.records import Candidate, Landscape, Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")


def trial(number, arm, *path, of=None, seed=1, rungs=None, state="finished", ends=0.0, **own):
    records = tuple(
        RungRecord(i, 100 * 2**i, {"fd": fd, "f_mem": m} | ({"f_mem_high": m + ends} if ends else {}), {}, "c")
        for i, (fd, m) in enumerate(path)
    )
    settings = {"sigma_tn": 0.0 if arm == "ddpm" else 0.5, "x": number if of is None else of, **own}
    if of is not None:
        settings |= {"seed": seed, "rungs": list(rungs or [r.images_seen for r in records])}
    return TrialRecord(number, arm, settings, state, records, replica_of=of)


def chosen(*trials, top=3, rule=None, reference=None):
    found = candidates_to_confirm(Landscape.of(trials, OBJECTIVES, reference), rule or Rule(), top)
    return [(c.trial.number, c.rung.rung) for c in found]


SEARCH = [
    trial(0, "ddpm", (8.0, 0.1), (4.6, 0.4)),
    trial(1, "ambient", (7.0, 0.0), (4.7, 0.2)),
    trial(2, "ambient", (4.8, 0.1), (4.5, 0.3)),
    trial(3, "ambient", (9.0, 0.0), (5.5, 0.0)),
    trial(4, "ambient", (9.0, 0.0), (6.5, 0.0)),
]


def test_the_best_under_the_champion_rule_then_the_nearest_then_ddpm():
    assert chosen(*SEARCH) == [(2, 0), (1, 1), (0, 1)]  # a configuration once, at its best rung; DDPM is among them
    assert chosen(*SEARCH, top=2) == [(2, 0), (1, 1), (0, 1)]  # it comes on top
    assert chosen(*SEARCH, top=5) == [(2, 0), (1, 1), (0, 1), (3, 1), (4, 1)]
    assert chosen(*SEARCH, top=0) == [] and chosen() == []


def test_the_same_configuration_is_confirmed_once_and_replicas_are_no_candidates():
    twin = trial(5, "ambient", (4.8, 0.05), x=2)
    lucky = trial(6, "ambient", (4.6, 0.0), of=1, seed=7)
    assert chosen(*SEARCH, twin, lucky, top=1) == [(5, 0), (0, 1)]


def test_other_rules_confirm_other_candidates():
    assert chosen(*SEARCH, top=1, rule=Rule("knee"), reference=(9.2, 1.0))[0] == (2, 0)
    assert chosen(*SEARCH, top=1, rule=Rule("max_memorization", max_memorization=0.25))[0] == (1, 1)
    with pytest.raises(ValueError, match="bound"):
        Rule("max_memorization")


def test_a_study_without_ddpm_still_confirms():
    assert chosen(SEARCH[1], SEARCH[3], top=2) == [(1, 1), (3, 1)]


def begin(replica, number, state="finished", upto=None):
    """The replica as the study holds it, scored up to a rung."""
    scored = [(5.0, 0.1)] * (len(replica.rungs) if upto is None else upto)
    arm = SEARCH[replica.number].arm
    return trial(number, arm, *scored, of=replica.number, seed=replica.seed, rungs=replica.rungs, state=state)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["finished", "failed", "running"]), max_size=12), st.integers(1, 4), st.integers(0, 9))
def test_what_was_begun_is_never_begun_again(states, seeds, search_seed):
    """Whatever became of the first replicas, the rest of the plan completes it, with other seeds than the search's."""
    wanted = candidates_to_confirm(Landscape.of(SEARCH, OBJECTIVES), Rule(), 3)
    plan = replicas_to_begin(SEARCH, wanted, seeds, search_seed)
    assert len(plan) == 3 * seeds and len({(r.number, r.seed) for r in plan}) == len(plan)
    assert search_seed not in {r.seed for r in plan}
    for turn in range(seeds):  # everyone's first before anyone's second, and the longest before the shorter
        together = plan[3 * turn : 3 * turn + 3]
        assert {r.number for r in together} == {0, 1, 2}
        assert [r.rungs[-1] for r in together] == sorted((r.rungs[-1] for r in together), reverse=True)
    some = [begin(r, 10 + i, state, upto=1) for i, (r, state) in enumerate(zip(plan, states, strict=False))]
    assert replicas_to_begin([*SEARCH, *some], wanted, seeds, search_seed) == plan[len(some) :]


def test_ddpm_is_trained_to_its_end_and_others_to_their_rung():
    plan = {r.number: r.rungs for r in replicas_to_begin(SEARCH, candidates_to_confirm(
        Landscape.of(SEARCH, OBJECTIVES), Rule(), 3), 1, 0)}  # fmt: skip
    assert plan == {0: (100, 200), 1: (100, 200), 2: (100,)}


def test_a_later_rung_takes_seeds_that_are_fresh_for_it_and_more_seeds_only_add():
    first = Candidate(SEARCH[1], SEARCH[1].rungs[0], 7.0, 0.0)
    plan = replicas_to_begin(SEARCH, [first], 2, 0)
    assert [(r.seed, r.rungs) for r in plan] == [(1, (100,)), (2, (100,))]
    done = [*SEARCH, *(begin(r, 10 + i) for i, r in enumerate(plan))]
    later = Candidate(SEARCH[1], SEARCH[1].rungs[1], 4.7, 0.2)
    assert [(r.seed, r.rungs) for r in replicas_to_begin(done, [later], 2, 0)] == [(3, (100, 200)), (4, (100, 200))]
    assert [r.seed for r in replicas_to_begin(done, [first], 3, 0)] == [3]


def test_means_and_t_intervals_over_seeds():
    values = [(4.6, 0.41), (4.5, 0.43), (4.9, 0.38)]
    found = confirmed(
        [SEARCH[1], *(trial(10 + i, "ambient", (7, 0), v, of=1, seed=i) for i, v in enumerate(values))], OBJECTIVES
    )
    assert [(c.original.rung.rung, c.planned) for c in found] == [(0, False), (1, True)]
    last = found[1]
    for interval, column in ((last.of_fidelity, 0), (last.of_memorization, 1)):
        x = np.array(values)[:, column]
        low, high = stats.t.interval(0.95, 2, loc=x.mean(), scale=stats.sem(x))
        assert (interval.mean, interval.low, interval.high) == pytest.approx((x.mean(), low, high))
    assert last.seeds == (0, 1, 2) and last.typical.trial.number == 10  # neither the best nor the worst


def test_a_single_seed_has_no_interval_and_memorization_is_a_share():
    one = confirmed([SEARCH[2], trial(9, "ambient", (4.6, 0.1), of=2)], OBJECTIVES)[0]
    assert one.of_memorization == Interval(0.1) and one.of_memorization.text() == "0.100"
    wide = confirmed(
        [SEARCH[2], *(trial(9 + i, "ambient", (4.6, m), of=2, seed=i) for i, m in enumerate([0.0, 1.0]))], OBJECTIVES
    )
    assert (wide[0].of_memorization.low, wide[0].of_memorization.high) == (0.0, 1.0)


def test_runs_that_agree_by_chance_are_no_surer_than_their_samples():
    """One copy in 500 images on each of three seeds is not 0.002 exactly."""
    runs = [trial(9 + i, "ambient", (4.6, 0.002), of=2, seed=i, ends=0.009) for i in range(3)]
    found = confirmed([SEARCH[2], *runs], OBJECTIVES)[0]
    assert found.of_memorization.high == pytest.approx(0.002 + 0.009 / 3**0.5)


def test_failed_replicas_count_where_they_are_missing_and_diverged_ones_are_left_out():
    runs = [
        trial(10, "ddpm", (8.0, 0.1), (4.6, 0.4), of=0, seed=1),
        trial(11, "ddpm", (8.1, 0.1), (96.5, 0.0), of=0, seed=2),
        trial(12, "ddpm", (7.9, 0.1), of=0, seed=3, rungs=[100, 200], state="failed"),
        trial(13, "ddpm", (8.0, 0.1), (4.5, 0.4), of=0, seed=4),
        trial(14, "ddpm", of=0, seed=5, rungs=[100, 200], state="running"),
    ]
    early, late = confirmed([SEARCH[0], *runs], OBJECTIVES)
    assert (len(early.replicas), early.failed, early.diverged) == (4, 0, 0)
    assert (late.seeds, late.failed, late.diverged) == ((1, 4), 1, 1) and late.fidelity == pytest.approx(4.55)
    assert [t.number for t in failed_replicas([SEARCH[0], *runs])] == [12]
    bad = [trial(20 + i, "ddpm", (8, 0.1), (fd, 0.0), of=0, seed=i) for i, fd in enumerate([4.5, 90.0, 96.0])]
    most = confirmed([SEARCH[0], *bad], OBJECTIVES)[1]
    assert most.diverged == 0 and most.fidelity > 60  # most of them did: that is what the configuration does


def test_a_score_that_is_not_finite_is_no_score():
    runs = [trial(10 + i, "ambient", (fd, 0.1), of=2, seed=i) for i, fd in enumerate([4.5, float("nan"), 4.6])]
    found = confirmed([SEARCH[2], *runs], OBJECTIVES)[0]
    assert found.seeds == (0, 2) and found.failed == 1 and np.isfinite(found.fidelity)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 3))
def test_a_mean_is_inside_its_interval(values, error):
    found = over_seeds(values, error=(error, error), bounds=(-5.0, 5.0))
    if len(values) == 1:
        assert found.low is None and not found.below(Interval(99, 98, 100))
    else:
        assert found.low is not None and found.high is not None
        assert -5 <= found.low <= found.mean <= found.high <= 5
    with pytest.raises(ValueError, match="no runs"):
        over_seeds([])


def test_the_knee_is_the_point_farthest_below_the_chord():
    points = [
        Candidate(SEARCH[0], SEARCH[0].rungs[0], f, m) for f, m in [(4, 1.0), (5, 0.3), (8, 0.2), (9, 0.0), (9, 1.0)]
    ]
    depth = knee_depth(points)
    assert int(np.argmax(depth)) == 1 and depth[0] == depth[3] == pytest.approx(0) and depth[4] < 0
    assert knee_depth(points[:1]) == [0.0] and knee_depth([]) == []
    assert Rule("knee").order(points, 4.0)[0][0] is points[1]
    assert Rule("knee").order(points, 4.0, useful=4.5)[0] == [points[0]]  # what nobody can use bends no chord


def test_the_limit_of_a_fidelity_below_zero_is_still_worse_than_the_best():
    assert Rule(tolerance=0.1).limit(-2.0) == pytest.approx(-1.8) and Rule(tolerance=0.1).limit(2.0) == pytest.approx(
        2.2
    )
