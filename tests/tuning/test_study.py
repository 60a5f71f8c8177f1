"""What the study promises: nothing told is lost, baselines come first, and results are never mixed."""

import optuna
import pytest

from ambient_ray.tuning.records import Landscape, Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study, StudySettingsChangedError, StudyStorageError

OBJECTIVES = Objectives("fd", "f_mem")
SPACE = Space(
    "ambient",
    {"sigma_tn": Range(0.1, 4.0, log=True), "noisy_ratio": Range(0.1, 0.9)},
    {"mixing": "set_split"},
    ({"sigma_tn": 0.0},),
)


def rung(index, fd, f_mem):
    return RungRecord(index, 100 * (index + 1), {"fd": fd, "f_mem": f_mem}, {"n": 10}, f"rung_{index}")


def open_study(tmp_path, proposer=None):
    return Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES, proposer)


def frozen(study):
    return study._study.get_trials()


def test_ddpm_is_asked_first_and_once(tmp_path):
    study = open_study(tmp_path)
    asked = [study.ask(SPACE) for _ in range(4)]
    assert [t.arm for t in asked] == ["ddpm", "ambient", "ambient", "ambient"]
    assert asked[0].settings == {"sigma_tn": 0.0, "mixing": "set_split"}
    assert all(0.1 <= t.settings["sigma_tn"] <= 4 and t.settings["mixing"] == "set_split" for t in asked[1:])
    assert open_study(tmp_path).ask(SPACE).arm == "ambient"


def test_a_study_that_died_is_read_back_whole(tmp_path):
    study = open_study(tmp_path)
    for _ in range(4):
        study.ask(SPACE)
    study.record_rung(0, rung(0, 90.0, 0.0))
    study.record_rung(0, rung(1, 50.0, 0.4))
    study.record_rung(0, rung(1, 50.0, 0.4))
    study.finish(0, "finished")
    study.record_rung(1, rung(0, 95.0, 0.1))
    study.finish(1, "stopped", "dominated at rung 0", rungs_left=0.75)
    study.finish(2, "failed", "the loss was not finite")

    again = open_study(tmp_path)
    assert again.trials() == study.trials()
    assert again.uid == study.uid
    assert [t.state for t in again.trials()] == ["finished", "stopped", "failed", "running"]
    assert [t.number for t in again.running()] == [3]
    assert again.trial(2).reason == "the loss was not finite"
    assert [r.scores["fd"] for r in again.trial(0).rungs] == [90.0, 50.0]


def test_a_stopped_trial_is_infeasible_to_the_sampler_and_a_finished_one_is_not(tmp_path):
    study = open_study(tmp_path)
    for number in range(2):
        study.ask(SPACE)
        study.record_rung(number, rung(0, 90.0, 0.0))
    study.finish(0, "finished")
    study.finish(1, "stopped", rungs_left=0.75)
    first, second = frozen(study)
    assert first.constraints == {"stopped": 0.0}
    assert second.constraints == {"stopped": 0.75}
    assert first.values == [90.0, 0.0]


def test_a_failed_trial_without_scores_never_stays_running(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    study.finish(0, "failed", "worker died")
    assert frozen(study)[0].state is optuna.trial.TrialState.FAIL
    assert study.running() == []


def test_a_trial_that_failed_late_keeps_its_earlier_rungs_as_candidates(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    study.record_rung(0, rung(0, 90.0, 0.0))
    study.finish(0, "failed", "the loss was not finite")
    assert [c.point for c in study.landscape().front] == [(90.0, 0.0)]


def test_changed_settings_are_refused_by_name(tmp_path):
    open_study(tmp_path).claim({"training.lr": 0.001, "dataset.n_train": 300})
    open_study(tmp_path).ask(SPACE)
    open_study(tmp_path).claim({"dataset.n_train": 300, "training.lr": 0.001})
    with pytest.raises(StudySettingsChangedError, match=r"training.lr=0.001 and is now given 0.002"):
        open_study(tmp_path).claim({"training.lr": 0.002, "dataset.n_train": 300})


def test_without_trials_there_is_nothing_to_mix_so_settings_may_change(tmp_path):
    open_study(tmp_path).claim({"training.lr": 0.001})
    open_study(tmp_path).claim({"training.lr": 0.002})
    open_study(tmp_path).ask(SPACE)
    with pytest.raises(StudySettingsChangedError, match=r"training.lr=0.002"):
        open_study(tmp_path).claim({"training.lr": 0.001})


def test_a_storage_that_cannot_be_opened_is_one_sentence():
    with pytest.raises(StudyStorageError, match="cannot be opened"):
        Study("x", "nonsense://nowhere", OBJECTIVES)


def test_the_front_runs_over_all_rungs_of_all_trials(tmp_path):
    study = open_study(tmp_path)
    for number, path in enumerate([[(90, 0.0), (60, 0.5)], [(80, 0.0), (61, 0.6)], [(70, 0.2)]]):
        study.ask(SPACE)
        for index, (fd, f_mem) in enumerate(path):
            study.record_rung(number, rung(index, float(fd), f_mem))
    assert study.landscape().hypervolume == 0  # nothing bounds it yet
    study.finish(0, "finished")
    land = study.landscape()
    assert [c.point for c in land.front] == [(60.0, 0.5), (70.0, 0.2), (80.0, 0.0)]
    assert land.reference == (120.0, 1.0)
    assert land.hypervolume == pytest.approx(40 * 1.0 + 10 * 0.8 + 10 * 0.5)


def test_a_trial_is_as_good_as_its_best_stop(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    for index, (fd, f_mem) in enumerate([(90, 0.0), (60, 0.2), (55, 0.9)]):
        study.record_rung(0, rung(index, float(fd), f_mem))
    assert study.landscape().best_of(study.trial(0)).rung.rung == 2  # nothing to measure by: the last
    study.finish(0, "finished")
    best = study.landscape().best_of(study.trial(0))
    assert best is not None and best.rung.rung == 1
    assert frozen(study)[0].values == [60.0, 0.2]


def test_the_reference_is_ddpms_and_never_moves(tmp_path):
    study = open_study(tmp_path)
    for _ in range(3):
        study.ask(SPACE)
    study.record_rung(1, rung(0, 10.0, 0.0))
    study.finish(1, "finished")
    assert study.reference is None  # DDPM still runs
    study.record_rung(0, rung(0, 100.0, 0.1))
    study.record_rung(0, rung(1, 80.0, 0.4))
    study.finish(0, "finished")
    assert study.reference == (160.0, 1.0)
    assert open_study(tmp_path).reference == (160.0, 1.0)
    replica = study.replicate(0, 7, [100, 200])
    study.record_rung(replica.number, rung(0, 1.0, 0.0))
    study.finish(replica.number, "finished")
    assert study.reference == (160.0, 1.0)


def test_without_a_scored_baseline_the_first_trial_that_ended_bounds_the_volume(tmp_path):
    study = open_study(tmp_path)
    for _ in range(3):
        study.ask(SPACE)
    study.finish(0, "failed", "the loss was not finite")
    study.record_rung(1, rung(0, 10.0, 0.0))
    study.finish(1, "finished")
    assert study.reference == (20.0, 1.0)


def test_replicas_repeat_a_configuration_and_are_no_candidates(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    study.ask(SPACE)
    replica = study.replicate(1, 11, [100, 200])
    assert replica.settings == {**study.trial(1).settings, "seed": 11, "rungs": [100, 200]}
    assert (replica.replica_of, replica.arm, replica.source) == (1, "ambient", "replica")
    study.record_rung(replica.number, rung(0, 1.0, 0.0))
    assert study.landscape().candidates == ()
    assert open_study(tmp_path).trials() == study.trials()
    assert study.ask(SPACE).number == 3


def test_ddpm_with_other_settings_searched_is_a_rival(tmp_path):
    space = Space("rivals", {"dropout": Range(0.0, 0.3)}, {"sigma_tn": 0.0}, ({"dropout": 0.0},))
    study = open_study(tmp_path)
    assert [study.ask(space).arm for _ in range(3)] == ["ddpm", "rival", "rival"]


def test_a_setting_that_is_newer_than_the_study_is_taken_in(tmp_path):
    open_study(tmp_path).claim({"training.lr": 0.001})
    open_study(tmp_path).ask(SPACE)
    open_study(tmp_path).claim({"training.lr": 0.001, "training.shift_pixels": 0})
    with pytest.raises(StudySettingsChangedError, match=r"shift_pixels=0 and is now given 2"):
        open_study(tmp_path).claim({"training.lr": 0.001, "training.shift_pixels": 2})


def test_the_seconds_of_searching_are_remembered(tmp_path):
    study = open_study(tmp_path)
    assert study.seconds == 0
    study.searched(12.5)
    assert open_study(tmp_path).seconds == 12.5


def test_an_empty_study_has_an_empty_landscape():
    land = Landscape.of([], OBJECTIVES)
    assert land.front == () and land.hypervolume == 0.0


def test_a_study_taken_up_again_does_not_draw_what_it_drew_before(tmp_path):
    def ask():
        study = open_study(tmp_path)
        return [study.ask(SPACE).settings["sigma_tn"] for _ in range(3)][1:]

    assert not set(ask()) & set(ask())


def test_a_trial_that_ended_before_its_end_was_one_entry_is_still_read(tmp_path):
    study = open_study(tmp_path)
    number = study.ask(SPACE).number
    trial_id = study._ids[number]
    for key, value in {"outcome": "stopped", "reason": "dominated at rung 1 of 2", "spared": 0.5}.items():
        study._storage.set_trial_user_attr(trial_id, key, value)
    study._study.tell(number, [1.0, 0.5])
    trial = open_study(tmp_path).trial(number)
    assert (trial.state, trial.reason, trial.spared) == ("stopped", "dominated at rung 1 of 2", 0.5)
