"""Another study's trials: scaled, thinned, and gone once the study has its own."""

import optuna
import pytest

from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study
from ambient_ray.tuning.transfer import Transfer, WarmStartError

OBJECTIVES = Objectives("fd", "f_mem")
NARROW = Space("narrow", {"sigma_tn": Range(0.1, 4.0, log=True)}, {}, ({"sigma_tn": 0.0},))
WIDE = Space("wide", {**NARROW.parameters, "lr": Range(1e-4, 1e-2, log=True)}, {}, ({"sigma_tn": 0.0},))


def play(study, space, trials, scale=1.0, best=0.2):
    for _ in range(trials):
        trial = study.ask(space)
        x = trial.settings["sigma_tn"] - best
        scores = {"fd": scale * (100 + 200 * abs(x)), "f_mem": min(1.0, 0.1 + 0.3 * abs(x))}
        study.record_rung(trial.number, RungRecord(0, 100, scores, {}, ""))
        study.finish(trial.number, "finished")
    return study


def source(trials=60, scale=1.0):
    return play(Study("source", "memory:", OBJECTIVES), NARROW, trials, scale)


def transfer(study, space=NARROW, defaults=None):
    return Transfer.of(study.trials(), OBJECTIVES, study.reference, defaults or {}, space)


def test_fidelities_are_scaled_to_the_studys_own_limit():
    known = transfer(source(scale=7.0))
    told = known.trials(NARROW, (50.0, 1.0), 10)
    assert len(told) == 10
    assert min(t.values[0] for t in told) < 50.0 * 0.6  # near half of the limit, as in the source
    assert all(t.state is optuna.trial.TrialState.COMPLETE for t in told)


def test_half_as_many_count_for_every_ten_own_trials_and_none_in_the_end():
    known = transfer(source())
    assert [known.kept(ended) for ended in (0, 9, 10, 20, 60)] == [40, 40, 20, 10, 0]


def test_parameters_that_the_source_did_not_vary_take_the_value_that_it_had():
    known = transfer(source(), WIDE, {"lr": 3e-3})
    assert {point[0]["lr"] for point in known.points} == {3e-3}
    with pytest.raises(WarmStartError, match="none of its 60 trials"):
        transfer(source(), WIDE)


def test_a_warm_start_finds_the_good_region_sooner():
    def first_five(known):
        proposer = choose_sampler(shipped_sampler("tpe"), NARROW).proposer(transfer=known, seed=3)
        study = play(Study("target", "memory:", OBJECTIVES, proposer), NARROW, 6)
        return sorted(abs(t.settings["sigma_tn"] - 0.2) for t in study.trials()[1:])[2]

    assert first_five(transfer(source())) < 0.2 < first_five(None)


def test_a_wrong_warm_start_washes_out():
    """The source's optimum is at 4, the target's at .2: after enough own trials the search is where it should be."""
    wrong = transfer(play(Study("source", "memory:", OBJECTIVES), NARROW, 60, best=4.0))
    proposer = choose_sampler(shipped_sampler("tpe"), NARROW).proposer(transfer=wrong, seed=1)
    study = play(Study("target", "memory:", OBJECTIVES, proposer), NARROW, 80)
    late = sorted(abs(t.settings["sigma_tn"] - 0.2) for t in study.trials()[-20:])
    assert late[10] < 0.2
