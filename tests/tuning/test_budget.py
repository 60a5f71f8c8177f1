"""Budgets: whichever is reached first, over the study's whole life."""

import pytest

from ambient_ray.tuning.budget import Budget, seconds_per_image
from ambient_ray.tuning.records import RungRecord, TrialRecord


def trial(number, seconds=3600.0, images=100, replica_of=None):
    rungs = (RungRecord(0, images // 2, {}, {}, "", seconds / 2), RungRecord(1, images, {}, {}, "", seconds / 2))
    return TrialRecord(number, "ambient", {}, "finished", rungs, replica_of=replica_of)


def test_trials_count_without_replicas():
    trials = [trial(0), trial(1), trial(2, replica_of=0)]
    assert Budget(3).reached(trials, 1e9) == ""
    assert Budget(2).reached(trials, 0) == "2 of 2 trials have been begun"


def test_hours_count_from_the_studys_first_second():
    assert Budget(None, hours=2).reached([], 7199) == ""
    assert "2 of 2 hours" in Budget(None, hours=2).reached([], 7200)


def test_gpu_hours_are_what_trials_held():
    held = Budget(None, gpu_hours=4, gpus=2)
    assert held.reached([trial(0)], 1e9) == ""
    assert "4 of 4 GPU hours" in held.reached([trial(0), trial(1, replica_of=0)], 0)


def test_confirmations_share_is_kept_back():
    assert seconds_per_image([trial(0)]) == pytest.approx(36)
    budget = Budget(None, hours=3, replica_images=400, at_once=2)
    assert budget.reached([trial(0)], 3599) == ""
    assert "2 of them kept back" in budget.reached([trial(0)], 3601)
    assert Budget(None, hours=3).reached([trial(0)], 3601) == ""


def test_whichever_comes_first():
    budget = Budget(10, hours=1)
    assert "hours" in budget.reached([trial(0)], 3600)
    assert "trials" in budget.reached([trial(n) for n in range(10)], 10)
