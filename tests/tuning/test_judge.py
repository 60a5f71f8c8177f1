"""The judge is a pure pruner with a memory in the study."""

from ambient_ray.tuning.judge import Judge, RungPolicy
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
POLICY = RungPolicy(2, 2.0, [["fd", "gap"], ["fd", "f_mem"]])
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))


def scores(quality):
    return {"fd": quality, "gap": quality, "f_mem": 0.0, "kid": 1.0}


def test_a_restarted_judge_decides_as_the_one_that_died(tmp_path):
    storage = f"journal:{tmp_path}/study.journal"
    study = Study("faces", storage, OBJECTIVES)
    first = Judge("faces", storage, OBJECTIVES, POLICY)
    for number in range(5):
        trial = study.ask(SPACE)
        first.decide(trial.number, trial.arm, 0, scores(float(number)))
        study.record_rung(number, RungRecord(0, 10, scores(float(number)), {}, "c"))
    second = Judge("faces", storage, OBJECTIVES, POLICY)
    for quality in (-1.0, 0.5, 1.5, 2.5, 9.0):
        assert first.decide(99, "ambient", 0, scores(quality)) == second.decide(99, "ambient", 0, scores(quality))
    assert second.decide(98, "ambient", 0, scores(9.5)) is False


def test_the_baseline_is_never_stopped_but_counts(tmp_path):
    storage = f"journal:{tmp_path}/study.journal"
    judge = Judge("faces", storage, OBJECTIVES, POLICY)
    assert judge.decide(1, "ambient", 0, scores(1.0))
    assert judge.decide(2, "ambient", 0, scores(0.5))
    assert judge.decide(0, "ddpm", 0, scores(5.0)) is True
    assert judge.decide(3, "ambient", 0, scores(6.0)) is False


def test_heartbeats_are_the_latest_of_each_trial(tmp_path):
    judge = Judge("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES, POLICY)
    judge.beat(0, 100, 1.0)
    judge.beat(0, 200, 0.5)
    judge.beat(3, 50, 2.0)
    assert judge.beats() == {0: (200, 0.5), 3: (50, 2.0)}
