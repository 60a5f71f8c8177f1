"""Tune's view of a study: nothing is lost, nothing counts twice, nobody stays RUNNING."""

from types import SimpleNamespace

from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.running.searcher import DriverDeaths, StudySearcher
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {"mixing": "set_split"}, ({"sigma_tn": 0.0},))
RUNGS = (10, 20, 40)
SLOTS = tuple("uvwxyz")


class Witness:
    def __init__(self):
        self.events = []

    def trial_started(self, trial, resumed):
        self.events.append(("started", trial.number, resumed))

    def trial_told(self, trial, told):
        self.events.append(("told", trial.number, dict(told)))

    def rung_scored(self, trial, rung):
        self.events.append(("rung", trial.number, rung.rung))

    def trial_survived(self, trial, fault):
        self.events.append(("survived", trial.number, fault.cause, fault.images_seen))

    def trial_noted(self, trial, text):
        self.events.append(("noted", trial.number, text))

    def trial_ended(self, trial):
        self.events.append(("ended", trial.number, trial.state))


def searcher(tmp_path, witness, unfinished=()):
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    return study, StudySearcher(study, SPACE, {"uid": study.uid}, RUNGS, unfinished, (witness,), SLOTS)


def rung(index):
    return RungRecord(index, RUNGS[index], {"fd": 90.0 - index, "f_mem": 0.1 * index}, {}, "c").to_dict()


def test_a_rung_that_is_told_twice_counts_once(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    config = tune.suggest("a")
    assert (config["number"], config["arm"], config["shared"]) == (0, "ddpm", {"uid": study.uid})
    tune.on_trial_result("a", {"rungs": [rung(0)]})
    tune.on_trial_result("a", {"rungs": [rung(0), rung(1)]})
    tune.on_trial_result("a", {"state": "finished", "reason": ""})
    tune.on_trial_complete("a", {"state": "finished"})
    assert witness.events == [
        ("started", 0, False), ("rung", 0, 0), ("rung", 0, 1), ("ended", 0, "finished"),
    ]  # fmt: skip


def test_what_workers_tell_besides_rungs_reaches_the_listeners(tmp_path):
    witness = Witness()
    _, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    place = {"rank": 0, "host": "gpu1", "address": "10.0.0.7", "pid": 12, "gpus": [3]}
    tune.on_trial_result("a", {"told": [{"place": place}], "training_iteration": 1})
    tune.on_trial_result("a", {"rungs": [rung(0)], "told": [{"judged": {"rung": 0}}]})
    assert witness.events[1:] == [("told", 0, {"place": place}), ("told", 0, {"judged": {"rung": 0}}), ("rung", 0, 0)]


def test_a_driver_that_dies_without_a_word_is_a_failed_trial(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    tune.on_trial_complete("a", None, error=True)
    assert study.trial(0).state == "failed" and "without a word" in study.trial(0).reason
    assert study.trial(0).cause == "driver died"
    assert study.running() == []


def test_trials_of_a_dead_search_come_first_under_their_own_numbers(tmp_path):
    study, tune = searcher(tmp_path, Witness())
    for name in "abc":
        tune.suggest(name)
    tune.on_trial_result("b", {"rungs": [rung(0)]})
    tune.on_trial_result("b", {"state": "stopped"})
    witness = Witness()
    study, tune = searcher(tmp_path, witness, study.running())
    configs = [tune.suggest(name) for name in "xyz"]
    assert [config["number"] for config in configs] == [0, 2, 3]
    assert [resumed for _, _, resumed in witness.events] == [True, True, False]
    assert configs[0]["settings"] == {"sigma_tn": 0.0, "mixing": "set_split"}


def test_a_stopped_trial_says_where_and_how_much_it_was_spared(tmp_path):
    study, tune = searcher(tmp_path, Witness())
    tune.suggest("a")
    tune.on_trial_result("a", {"rungs": [rung(0)]})
    tune.on_trial_result("a", {"state": "stopped", "reason": "whatever"})
    assert study.trial(0).reason == "dominated at rung 1 of 3"
    assert study._study.get_trials()[0].constraints == {"stopped": 0.75}
    assert study.trial(0).spared == 0.75


def test_tune_pickles_nothing_of_it(tmp_path):
    import pickle

    _, tune = searcher(tmp_path, Witness())
    assert pickle.loads(pickle.dumps(tune)).__dict__ == {}


def test_a_spent_budget_ends_the_asking_and_says_why(tmp_path):
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    tune = StudySearcher(
        study, SPACE, {}, RUNGS, slots=SLOTS, spent=lambda seconds: "2 of 2 trials" if len(study.trials()) > 1 else ""
    )
    assert isinstance(tune.suggest("a"), dict) and isinstance(tune.suggest("b"), dict)
    assert tune.suggest("c") == tune.FINISHED
    assert tune.ended_because == "2 of 2 trials" and len(study.trials()) == 2
    assert study.seconds > 0


def test_replicas_are_run_as_what_they_are(tmp_path):
    study, tune = searcher(tmp_path, Witness())
    tune.suggest("a")
    study.replicate(0, 5, [10, 20])
    tune = StudySearcher(study, SPACE, {}, RUNGS, [study.trial(1)], slots=SLOTS, spent=lambda seconds: "enough")
    config = tune.suggest("b")
    assert (config["arm"], config["replica_of"], config["settings"]["seed"]) == ("replica", 0, 5)
    assert tune.suggest("c") == tune.FINISHED


def test_every_running_trial_has_a_slot_of_its_own_and_gives_it_back(tmp_path):
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    tune = StudySearcher(study, SPACE, {}, RUNGS, slots=("first", "second"))
    assert [tune.suggest(name)["slot"] for name in "ab"] == ["first", "second"]
    assert tune.suggest("c") is None and len(study.trials()) == 2
    tune.on_trial_result("b", {"state": "finished"})
    tune.on_trial_complete("b", {})
    assert tune.suggest("c")["slot"] == "second" and tune.suggest("d") is None


def test_what_a_trial_waits_for_is_heard_by_all_and_remembered(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    tune.on_trial_result("a", {"note": "waits: no space left on device at /x; free some, it tries again every 30 s"})
    assert witness.events[-1][0] == "noted" and study.trial(0).waits.startswith("waits: no space left")
    tune.on_trial_result("a", {"note": "goes on after 60 s: /x takes what it is given again"})
    again = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    assert len(again.trial(0).notes) == 2 and again.trial(0).waits == ""


def test_a_rung_that_was_trained_again_is_known_by_its_new_checkpoint_and_its_first_scores(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    tune.on_trial_result("a", {"rungs": [{**rung(0), "digest": "a" * 64}]})
    tune.on_trial_result("a", {"rungs": [{**rung(0), "digest": "b" * 64, "scores": {"fd": 1.0, "f_mem": 1.0}}]})
    kept = study.trial(0).rungs[0]
    assert kept.digest == "b" * 64 and kept.scores == rung(0)["scores"]
    assert [event[0] for event in witness.events] == ["started", "rung"]


def test_a_survived_failure_is_told_once_with_the_checkpoint_that_the_trial_goes_on_from(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    hang = {"cause": "hang", "reason": "it hung", "key": "17"}
    tune.on_trial_result("a", {"rungs": [rung(0), rung(1)]})
    tune.on_trial_result("a", {"faults": [hang]})
    tune.on_trial_result("a", {"faults": [hang]})  # from a slot that is asked again
    assert witness.events[-2:] == [("rung", 0, 1), ("survived", 0, "hang", 20)]
    tune.on_trial_result("a", {"state": "failed", "reason": "again", "cause": "worker died"})
    tune.on_trial_result("a", {"faults": [{**hang, "key": "18"}]})
    assert study.trial(0).cause == "worker died" and len(study.trial(0).faults) == 1


def test_a_driver_that_is_started_again_is_a_survived_failure_and_the_trial_runs_on(tmp_path):
    witness = Witness()
    study, tune = searcher(tmp_path, witness)
    tune.suggest("a")
    DriverDeaths(tune).on_trial_recover(1, [], SimpleNamespace(trial_id="a"))
    assert witness.events[-1] == ("survived", 0, "driver died", 0) and study.running()
    tune.on_trial_result("a", {"state": "finished"})
    assert study.trial(0).state == "finished" and study.trial(0).cause == ""


def test_a_wall_clock_that_jumps_spends_no_budget(tmp_path, monkeypatch):
    asked = []
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    spent = {"spent": lambda seconds: asked.append(seconds) or ""}
    tune = StudySearcher(study, SPACE, {}, RUNGS, (), (), SLOTS, **spent)
    for name, wall in (("a", 4e9), ("b", 0.0)):
        monkeypatch.setattr("time.time", lambda wall=wall: wall)
        tune.suggest(name)
        tune.on_trial_result(name, {"rungs": [rung(0)]})
    assert all(0 <= seconds < 60 for seconds in asked) and len(asked) == 2
