"""A score that cannot be judged ends its trial as failed, with its reason: the whole way from the worker to the study.

Ray's calls are replaced by direct ones; the driver, the worker, the reporter, the judge and the searcher are the
search's own.
"""

import math
from types import SimpleNamespace

import pytest
import ray
import ray.train.collective
import ray.tune
from ray.exceptions import RayTaskError

from ambient_ray.training import loop
from ambient_ray.training.ray_reporter import RayReporter, UnjudgeableError
from ambient_ray.training.ray_worker import run_jobs
from ambient_ray.training.settings import TrainSettings
from ambient_ray.training.trial import Outcome, RungResult, World, checkpoint_name
from ambient_ray.tuning.judge import RungPolicy
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.running.searcher import StudySearcher
from ambient_ray.tuning.running.slots import TrialEnd
from ambient_ray.tuning.running.trial import drive_trial
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
POLICY = RungPolicy(2, 2.0, [["fd", "gap"], ["fd", "f_mem"]])
NEEDED = POLICY.needed(OBJECTIVES)
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))
RUNGS = (10, 20)
TRAINING = TrainSettings(backbone={"_target_": "nobody.builds.it"}, rungs=RUNGS, batch_size=10)
GOOD = {"fd": 1.0, "f_mem": 0.1, "gap": 0.5}


class JudgeHandle:
    """A judge as its Ray handle shows it: an error arrives wrapped, when the answer is fetched."""

    def __init__(self, judge):
        self.decide = SimpleNamespace(remote=lambda *asked: lambda: self._decide(judge, asked))
        self.beat = SimpleNamespace(remote=lambda *told: None)

    def _decide(self, judge, asked):
        try:
            return judge.decide(*asked)
        except ValueError as error:
            raise RayTaskError(
                "decide", "Traceback (most recent call last): ...", error
            ).as_instanceof_cause() from None


class DirectSlot(TrialEnd):
    """A slot whose worker is called at once."""

    def run(self, job):
        told = []
        slot = SimpleNamespace(tell=lambda number, message: told.append(message) or True)
        ends = run_jobs([job], None, World(), slot)
        return iter([*told, *ends])


@pytest.fixture
def search(tmp_path, monkeypatch):
    """run(scores at each rung, needed) -> the study, after its only trial has gone through with those scores."""

    def run(rungs, needed=NEEDED):
        study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
        shared = {
            "training": TRAINING.to_dict(), "data": None, "needed": needed,
            "judge": JudgeHandle(POLICY.judge()), "uid": study.uid, "folder": str(tmp_path),
        }  # fmt: skip
        tune = StudySearcher(study, SPACE, shared, RUNGS, slots=(DirectSlot(None, 0),))

        def run_trial(settings, data, world, reporter, *, workdir, resume, patience):
            for index, scores in enumerate(rungs):
                folder = tmp_path / checkpoint_name(index, RUNGS[index])
                folder.mkdir()
                if not reporter.rung(RungResult(index, RUNGS[index], scores, {}, folder, 1.0)):
                    return Outcome("stopped", "stopped")
            return Outcome("finished", "finished")

        def report(metrics):
            tune.on_trial_result("a", metrics)

        monkeypatch.setattr(ray, "get", lambda answer: answer())
        monkeypatch.setattr(ray.tune, "report", report)
        monkeypatch.setattr(loop, "run_trial", run_trial)
        config = tune.suggest("a")
        drive_trial(config)
        tune.on_trial_complete("a", {})
        return study

    return run


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize("name", ["fd", "f_mem", "gap"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
@pytest.mark.parametrize("rung", [0, 1])
def test_the_trial_has_failed_and_keeps_what_it_had(search, name, bad, rung):
    spoilt = without(name) if bad is None else {**GOOD, name: bad}
    study = search([GOOD] * rung + [spoilt])
    trial = study.trial(0)
    assert (trial.state, trial.reason) == (
        "failed", f"{name} is missing or not finite at rung {rung}, image {RUNGS[rung]}",
    )  # fmt: skip
    assert [r.rung for r in trial.rungs] == list(range(rung)) and study.running() == []
    assert len(study.landscape().candidates) == rung


@pytest.mark.parametrize("bad", [math.nan, None])
def test_the_judges_refusal_is_the_reason_and_not_a_crash_of_the_worker(search, bad):
    """A worker that was told to need less than the judge does: its rung is recorded before the judge refuses it."""
    study = search([without("gap") if bad is None else {**GOOD, "gap": bad}], needed=("fd", "f_mem"))
    trial = study.trial(0)
    assert trial.state == "failed" and study.running() == []
    assert trial.reason in (
        "trial 0 gave values that are not finite at rung 0: {'gap': nan}",
        "trial 0 gave no value for ['gap'] at rung 0",
    )


def test_good_scores_finish(search):
    """What the tests above rest on: the same way, with nothing wrong, ends well."""
    study = search([GOOD, GOOD])
    assert (study.trial(0).state, len(study.trial(0).rungs), study.running()) == ("finished", 2, [])


def test_every_rank_fails_with_the_first_ones_reason(monkeypatch):
    monkeypatch.setattr(
        ray.train.collective, "broadcast_from_rank_zero", lambda answer: (False, "gap is missing", "unjudgeable")
    )
    job = {
        "number": 0, "arm": "ambient", "replica_of": None, "needed": ("gap",), "folder": "folder",
        "judge": JudgeHandle(POLICY.judge()),
    }  # fmt: skip
    reporter = RayReporter(job, World(rank=1, size=2), SimpleNamespace())
    with pytest.raises(UnjudgeableError, match="gap is missing"):
        reporter.rung(RungResult(0, 10, {}, {}, None, 1.0))


def test_a_judge_that_began_after_a_trial_did_hears_of_its_earlier_rungs_before_it_decides(monkeypatch):
    """The search died with rungs that the study had not heard of; the trial's own checkpoint knows them."""
    monkeypatch.setattr(ray, "get", lambda answer: answer())
    lived, reborn = (RungPolicy(3, 2.0, [["fd"]] * 3).judge() for _ in range(2))
    heard = []
    handle = JudgeHandle(reborn)
    handle.record = SimpleNamespace(remote=lambda *told: heard.append(told) or reborn.record(*told))
    job = {"number": 0, "arm": "ambient", "replica_of": None, "needed": ("fd",), "folder": "folder", "judge": handle}
    reporter = RayReporter(job, World(), SimpleNamespace(tell=lambda number, message: True))
    results = [RungResult(index, 10 * (index + 1), {"fd": 1.0}, {}, None, 1.0) for index in range(2)]
    for result in results:
        lived.decide(0, "ambient", result.rung, result.scores, 0)
    reporter.earlier = (results[0],)
    assert reporter.rung(results[1], resumed=True) and heard == [(0, 0, {"fd": 1.0}, 0)]
    for number, fd in ((1, 0.5), (2, 0.7), (3, 2.0), (4, 0.9)):
        answers = {judge.decide(number, "ambient", 0, {"fd": fd}, number) for judge in (lived, reborn)}
        assert len(answers) == 1
