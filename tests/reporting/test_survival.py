"""Every trial is counted at every rung that it reached, once."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.reporting.figures.study_figures import StudyView
from ambient_ray.reporting.figures.survival import spared_images, survival
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord

RUNGS = (100, 200, 400)


def trial(number, state, scored, arm="ambient", **more):
    rungs = tuple(RungRecord(k, RUNGS[k], {"fd": 1.0, "f_mem": 0.0}, {}, "") for k in range(scored))
    return TrialRecord(number, arm, {}, state, rungs, **more)


def test_a_study_by_hand():
    trials = [
        trial(0, "finished", 3),
        trial(1, "stopped", 1),
        trial(2, "stopped", 2),
        trial(3, "failed", 0),
        trial(4, "failed", 1),
        trial(5, "running", 0),
        trial(6, "running", 2),
    ]
    first, second, third = survival(trials, 3)
    assert (first.reached, first.scored, first.went_on, first.stopped, first.failed, first.running) == (
        7,
        5,
        4,
        1,
        1,
        1,
    )
    assert (second.reached, second.scored, second.went_on, second.stopped, second.failed, second.running) == (
        4, 3, 2, 1, 1, 0,
    )  # fmt: skip
    assert (third.reached, third.scored, third.went_on, third.stopped, third.failed, third.running) == (
        2,
        1,
        1,
        0,
        0,
        1,
    )


STATES = st.sampled_from(["finished", "stopped", "failed", "running"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(STATES, st.integers(0, 3)), max_size=20))
def test_those_who_went_on_are_those_who_reach_the_next_rung(kinds):
    kinds = [(state, 3 if state == "finished" else min(scored, 2)) for state, scored in kinds]
    kinds = [(state, max(scored, 1) if state == "stopped" else scored) for state, scored in kinds]
    trials = [trial(k, state, scored) for k, (state, scored) in enumerate(kinds)]
    found = survival(trials, 3)
    assert found[0].reached == len(trials)
    for here, after in pairwise(found):
        assert here.went_on == after.reached
    for entry in found:
        assert entry.reached == entry.scored + entry.failed + entry.running
        assert entry.scored == entry.went_on + entry.stopped
    ended = sum(entry.stopped + entry.failed + entry.running for entry in found) + found[-1].went_on
    assert ended == len(trials)


def test_what_stopping_spared_is_what_whole_trials_would_have_cost_more():
    trials = [
        trial(0, "finished", 3, arm="ddpm"),
        trial(1, "stopped", 1),
        trial(2, "stopped", 2),
        trial(3, "failed", 1),
    ]
    trials.append(trial(4, "finished", 2, replica_of=2))
    view = StudyView("s", trials, Objectives("fd", "f_mem"), None, RUNGS, ())
    spared, whole = spared_images(view)
    assert spared == 300 + 200
    assert whole == 400 + 400 + 400 + 100
    assert np.isclose(spared / whole, 0.3846, atol=1e-3)


@pytest.mark.parametrize("trials", [[], [trial(0, "running", 0)], [trial(0, "failed", 0)]])
def test_a_study_without_a_rung_has_spared_nothing(trials):
    assert spared_images(StudyView("s", trials, Objectives("fd", "f_mem"), None, RUNGS, ())) == (0, 0)
