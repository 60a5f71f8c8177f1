"""A study that was read back says what the search itself said, and counts every trial."""

import math
from dataclasses import replace

import pytest

from ambient_ray.reporting.report.recall import StudyIncompleteError, recall
from ambient_ray.reporting.verdict import conclude
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd_tiny", "f_mem")


def as_the_search_had_it(study):
    """The same trials with what MLflow does not keep: checkpoints, sources, notes."""
    return [
        TrialRecord(
            t.number, t.arm, t.settings, t.state,
            tuple(RungRecord(r.rung, r.images_seen, r.scores, r.facts, f"/c/{t.number}") for r in t.rungs),
            t.reason, t.replica_of, source="sampler", noted={"x": 1},
        )
        for t in study.trials
    ]  # fmt: skip


def test_the_answer_the_front_and_the_volume_are_the_searchs_own(stored):
    study = stored()
    theirs = as_the_search_had_it(study)
    land = Landscape.of(theirs, OBJECTIVES, (9.2, 1.0))  # twice DDPM's best
    found = recall(study)
    assert found.verdict.sentence == conclude(land, theirs, OBJECTIVES, Rule()).sentence
    assert "Ambient copies less, confirmed on 2 and 3 fresh training seeds" in found.verdict.sentence
    assert found.land.reference == land.reference and found.land.hypervolume == land.hypervolume
    assert [c.point for c in found.land.front] == [c.point for c in land.front]
    assert [t.number for t in found.trials] == [t.number for t in study.trials]
    assert found.searched == ("sigma_tn", "noisy_ratio") and found.rungs == (1000, 2000, 4000)


def test_the_rule_is_the_studys(stored):
    confirm = {"confirm": {"rule": "max_memorization", "max_memorization": 0.3}}
    found = recall(stored(config=confirm | {"evaluation": {"tolerance": 0.5, "delta": 0.25}}))
    assert found.rule == Rule("max_memorization", 0.5, 0.3) and found.land.reference == (4.6 * 1.25, 1.0)
    assert "Champion by the rule max_memorization" in found.verdict.sentence


def test_a_study_without_its_tags_is_understood_by_its_settings(stored):
    found = recall(stored(tags={}))
    assert found.objectives == OBJECTIVES
    assert set(found.searched) == {"sigma_tn", "noisy_ratio", "weight_decay"}
    limit = recall(stored(tags={}, config={"evaluation": {"fidelity": "fd_inf", "tolerance": 0.05, "delta": 1}}))
    assert limit.objectives.fidelity == "fd_tiny_inf"


def test_a_killed_trial_is_still_to_be_done_and_holds_back_the_confirmation(stored):
    trials = stored().trials
    killed = [replace(t, state="killed") if t.number == 9 else t for t in trials]
    found = recall(stored(killed))
    assert found.trials[9].state == "running" and not found.verdict.confirmed
    assert "not confirmed on fresh seeds" in found.verdict.sentence


def test_a_rung_without_a_score_is_named_and_no_candidate(stored):
    first = stored().trials[2]
    lost = replace(first.rungs[0], scores={"fd_tiny": math.nan, "f_mem": 0.0})
    trials = [replace(t, rungs=(lost,)) if t.number == 2 else t for t in stored().trials]
    found = recall(stored(trials))
    assert found.unscored == ((2, 1000),) and len(found.land.candidates) == len(recall(stored()).land.candidates) - 1


def test_a_run_that_no_search_wrote_is_refused(stored):
    with pytest.raises(StudyIncompleteError, match=r"not written by ambient_ray's search.*rungs"):
        recall(stored(config={"trial": {}}))
    with pytest.raises(StudyIncompleteError, match="expected two names as JSON"):
        recall(stored(tags={"ambient_ray.objectives": "fd"}))


def test_nothing_scored_yet_is_no_error(stored):
    found = recall(stored([], status="RUNNING"))
    assert found.land.candidates == () and "nothing can be compared" in found.verdict.sentence
