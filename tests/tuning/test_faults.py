"""Failures by cause: kept with the trial, counted once, and told from those that a trial cannot help."""

from ambient_ray.tuning.faults import BLAMELESS, CAUSES, MOST_BLAMELESS, Fault, counted, too_many
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))


def study(tmp_path):
    return Study("faces", f"journal:{tmp_path}/study.journal", Objectives("fd", "f_mem"))


def test_a_study_that_is_read_back_knows_what_each_trial_survived_and_what_it_failed_for(tmp_path):
    first = study(tmp_path)
    for _ in range(2):
        first.ask(SPACE)
    hang = Fault("hang", "it hung", 640, "a", 5.0)
    assert first.survived(0, hang) and first.survived(0, Fault("worker died", "its worker died", 1280, "b"))
    assert not first.survived(0, hang), "the same failure, told again"
    first.finish(0, "failed", "out of memory", cause="out of memory")
    trials = study(tmp_path).trials()
    assert trials == first.trials()
    assert [fault.cause for fault in trials[0].faults] == ["hang", "worker died"] and trials[0].faults[0] == hang
    assert (trials[0].cause, trials[1].cause, trials[1].faults) == ("out of memory", "", ())


def test_a_failure_says_what_happened_and_where_the_trial_goes_on():
    assert Fault("hang", "it hung", 12800).sentence == "it hung; taken up from image 12,800"
    assert Fault("hang", "it hung").sentence == "it hung; taken up from its beginning"


def test_a_trial_is_given_up_for_its_own_failures_first():
    assert not too_many(["worker died"], 1) and too_many(["worker died", "hang"], 1) and too_many(["hang"], 0)
    others = sorted(BLAMELESS) * MOST_BLAMELESS
    assert not too_many(others[:MOST_BLAMELESS], 0), "it cannot help what happens around it"
    assert too_many(others[: MOST_BLAMELESS + 1], 5), "but nothing is tried for ever"
    assert set(CAUSES) > BLAMELESS


def test_counts_tell_failed_trials_from_survived_failures():
    survived = [Fault("hang", ""), Fault("hang", ""), Fault("node died", "")]
    assert counted(["diverged", "hang", ""], survived) == {"hang": (1, 2), "node died": (0, 1), "diverged": (1, 0)}
