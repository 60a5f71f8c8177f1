"""Which models a study registers: the front with both ends, the champion, DDPM's stop; no more than are asked for."""

import pytest

from ambient_ray.reporting.registered import models_to_register
from ambient_ray.reporting.verdict import conclude
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")


def trial(number, arm, *path, of=None, seed=1):
    scores = [{"fd": fd, "f_mem": m, "f_mem_low": max(0.0, m - 0.01), "f_mem_high": m + 0.01} for fd, m in path]
    rungs = tuple(RungRecord(i, 100 * 2**i, s, {"n": 500}, f"c{number}-{i}") for i, s in enumerate(scores))
    own = {"sigma_tn": 0.5 if arm == "ambient" else 0.0, "number": number if of is None else of}
    if of is not None:
        own |= {"seed": seed, "rungs": [100 * 2**i for i in range(len(path))]}
    return TrialRecord(number, arm, own, "finished", rungs, replica_of=of)


def chosen(trials, most=8, reference=(9.0, 1.0)):
    land, rule = Landscape.of(trials, OBJECTIVES, reference), Rule()
    verdict = conclude(land, trials, OBJECTIVES, rule)
    found, left_out = models_to_register(land, verdict, OBJECTIVES, rule, most)
    return land, verdict, found, left_out


def names(found):
    return {alias: (c.candidate.trial.number, c.candidate.rung.rung) for c in found for alias in c.aliases}


DDPM = trial(0, "ddpm", (30.0, 0.0), (8.0, 0.05), (4.5, 0.4))
SEARCH = [DDPM, trial(1, "ambient", (12.0, 0.0), (4.6, 0.2)), trial(2, "ambient", (6.0, 0.1), (4.4, 0.5))]


def test_the_whole_front_is_registered_once_the_champion_first():
    land, verdict, found, left_out = chosen(SEARCH)
    registered = [c.candidate for c in found]
    assert registered[0] == verdict.champion and found[0].evidence == verdict.evidence
    assert set(map(id, land.front)) <= set(map(id, registered)) and left_out == 0
    assert len(registered) == len({id(c) for c in registered})
    assert [c.on_front for c in found] == [any(c.candidate is f for f in land.front) for c in found]


def test_the_descriptive_aliases_are_the_fronts_ends_and_ddpms_stop():
    _, verdict, found, _ = chosen(SEARCH)
    held = names(found)
    assert held["best-fidelity"] == (2, 1)
    assert held["lowest-memorization"] == (0, 1), "not (1, 0), whose fidelity is beyond the reference"
    assert held["ddpm-baseline"] == (0, 2) and verdict.ddpm.rung.rung == 2
    assert held["champion"] == (1, 1)
    useless = [c for c in found if not c.useful]
    assert [(c.candidate.trial.number, c.aliases) for c in useless] == [(1, ())]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 19, 20, 50])
def test_of_a_long_front_both_ends_and_all_that_are_named_stay(most):
    front = [trial(n, "ambient", (5.0 + n / 10, 1.0 - n / 25)) for n in range(1, 21)]
    land, _, found, left_out = chosen([*front, trial(30, "ddpm", (7.5, 0.9))], most, reference=(6.0, 1.0))
    kept = [c.candidate.trial.number for c in found if c.on_front]
    assert len(land.front) == 20 and left_out == 20 - len(kept)
    assert {1, 20} <= set(kept) and names(found)["lowest-memorization"][0] == 10 and 10 in kept
    assert len(kept) <= max(most, 5) and len(kept) >= min(most, 20)
    assert names(found)["ddpm-baseline"] == (30, 0), "though it is not on the front"
    if most == 5:
        gaps = [b - a for a, b in zip(sorted(kept), sorted(kept)[1:], strict=False)]
        assert max(gaps) <= 8, "they are spread over the front"


def test_zero_is_the_champion_alone_and_moves_no_other_alias():
    _, verdict, found, _ = chosen(SEARCH, most=0)
    assert [c.candidate for c in found] == [verdict.champion] and found[0].aliases == ("champion",)


def test_what_was_confirmed_stands_with_its_typical_replica_and_its_means():
    replicas = [
        *(trial(10 + s, "ddpm", (30.0, 0.0), (8.0, 0.05), (4.5, 0.40 + s / 100), of=0, seed=s) for s in (1, 2, 3)),
        *(trial(20 + s, "ambient", (12.0, 0.0), (4.6, 0.25 + s / 100), of=1, seed=s) for s in (1, 2, 3)),
    ]
    _, verdict, found, _ = chosen([*SEARCH, *replicas])
    by = {(c.candidate.trial.number, c.candidate.rung.rung): c for c in found}
    baseline, champion, single = by[0, 2], by[1, 1], by[2, 1]
    assert baseline.aliases == ("ddpm-baseline",) and baseline.weights.trial.number == 12
    assert baseline.evidence.confirmed and baseline.evidence.memorization.mean == pytest.approx(0.42)
    assert champion.weights == verdict.weights and champion.evidence == verdict.evidence
    assert not single.evidence.confirmed and single.weights == single.candidate
    assert single.evidence.memorization.low == pytest.approx(0.49) and single.evidence.limit == verdict.evidence.limit
    assert all(c.evidence.sentence == verdict.sentence for c in found)


def test_a_study_without_a_champion_still_registers_its_front():
    trials, rule = SEARCH[1:], Rule("max_memorization", max_memorization=0.0)
    high = [TrialRecord(t.number, t.arm, t.settings, t.state, t.rungs[1:]) for t in trials]
    land = Landscape.of(high, OBJECTIVES, (9.0, 1.0))
    verdict = conclude(land, high, OBJECTIVES, rule)
    found, _ = models_to_register(land, verdict, OBJECTIVES, rule, 8)
    assert verdict.champion is None and len(found) == 2 and "champion" not in names(found)
    empty = Landscape.of([], OBJECTIVES, None)
    assert models_to_register(empty, conclude(empty, [], OBJECTIVES, rule), OBJECTIVES, rule, 8) == ([], 0)
