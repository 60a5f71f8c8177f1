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


def open_study(tmp_path, sampler=None):
    return Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES, sampler)


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
    first, second = study._trials()
    assert first.constraints == {"stopped": 0.0}
    assert second.constraints == {"stopped": 0.75}
    assert first.values == [90.0, 0.0]


def test_a_failed_trial_without_scores_never_stays_running(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    study.finish(0, "failed", "worker died")
    assert study._trials()[0].state is optuna.trial.TrialState.FAIL
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


def test_tpe_still_models_the_joint_space_beside_the_baseline(tmp_path):
    """A baseline has no searched parameters; without groups, that would switch the joint model off."""
    study = open_study(
        tmp_path,
        lambda seed: optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=3, seed=seed),
    )
    for number in range(6):
        study.ask(SPACE)
        study.record_rung(number, rung(0, 90.0 - number, 0.1 * number))
        study.finish(number, "finished")
    trial = study._study.ask()
    assert {"sigma_tn", "noisy_ratio"} <= set(trial.relative_params)


def test_the_front_runs_over_all_rungs_of_all_trials(tmp_path):
    study = open_study(tmp_path)
    for number, path in enumerate([[(90, 0.0), (60, 0.5)], [(80, 0.0), (61, 0.6)], [(70, 0.2)]]):
        study.ask(SPACE)
        for index, (fd, f_mem) in enumerate(path):
            study.record_rung(number, rung(index, float(fd), f_mem))
    land = study.landscape()
    assert [c.point for c in land.front] == [(60.0, 0.5), (70.0, 0.2), (80.0, 0.0)]
    assert land.reference == (90.0, 1.0)
    assert land.hypervolume == pytest.approx(10 * 1.0 + 10 * 0.8 + 10 * 0.5)


def test_a_trial_is_as_good_as_its_best_stop(tmp_path):
    study = open_study(tmp_path)
    study.ask(SPACE)
    for index, (fd, f_mem) in enumerate([(90, 0.0), (60, 0.2), (55, 0.9)]):
        study.record_rung(0, rung(index, float(fd), f_mem))
    best = study.landscape().best_of(study.trial(0))
    assert best is not None and best.rung.rung == 1


def test_an_empty_study_has_an_empty_landscape():
    land = Landscape.of([], OBJECTIVES)
    assert land.front == () and land.hypervolume == 0.0


def test_a_study_taken_up_again_does_not_draw_what_it_drew_before(tmp_path):
    def ask():
        study = open_study(tmp_path, lambda seed: optuna.samplers.RandomSampler(seed=seed))
        return [study.ask(SPACE).settings["sigma_tn"] for _ in range(3)][1:]

    assert not set(ask()) & set(ask())
