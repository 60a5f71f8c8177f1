import json

import numpy as np
import pytest

from ambient_ray.simulation import Curves, RecordingError
from ambient_ray.simulation.coordinates import described_space, settings_at, unit_coordinates
from ambient_ray.simulation.recordings import Recordings, accidents
from ambient_ray.simulation.scales import scale_for
from ambient_ray.tuning.space import Choice, Range, Space

from .conftest import RUNGS, SECONDS, SPACE, recorded, rows_of, scores, write


@pytest.fixture(scope="module")
def curves(parquet):
    return Curves.load(parquet)


def a_lot_of(curves, count=200):
    rng = np.random.default_rng(0)
    return [settings_at(curves.space, rng.random(2)) for _ in range(count)]


def test_a_file_says_what_was_searched_and_what_it_cost(curves):
    assert curves.space.describe() == SPACE.describe()
    assert curves.rungs == RUNGS
    assert curves.seconds == pytest.approx(SECONDS)
    assert (curves.objectives.fidelity, curves.objectives.memorization) == ("fd", "f_mem")


@pytest.mark.parametrize("mode", ["surrogate", "mean"])
def test_the_surrogate_passes_through_recorded_means_within_their_noise(tmp_path, mode):
    curves = Curves.load(write(tmp_path / "quiet.parquet", recorded(noise=0.001)), mode=mode)
    for settings in curves.recordings.settings:
        for rung, found in enumerate(curves.curve(settings, 0).truth):
            truth = scores(settings["sigma_tn"], settings["noisy_ratio"], rung)
            # Components that explain less than a two-hundredth of the variance are left out.
            assert found["fd"] == pytest.approx(truth["fd"], rel=0.05)
            assert found["f_mem"] == pytest.approx(truth["f_mem"], abs=0.02)


def test_the_surrogate_predicts_between_them(tmp_path):
    curves = Curves.load(write(tmp_path / "quiet.parquet", recorded(noise=0.001)), mode="mean")
    for settings in a_lot_of(curves, 40):
        for rung, found in enumerate(curves.curve(settings, 0).truth):
            truth = scores(settings["sigma_tn"], settings["noisy_ratio"], rung)
            assert found["fd"] == pytest.approx(truth["fd"], rel=0.2)
    last = [row for row in curves.quality() if row.images == RUNGS[-1] and row.score == "fd"]
    assert last[0].spearman > 0.9 and last[0].r2 > 0.8


def test_every_draw_is_possible(curves):
    for seed, settings in enumerate(a_lot_of(curves)):
        drawn = curves.draw(settings, seed)
        assert len(drawn) == len(RUNGS)
        for found in drawn:
            assert 0 <= found["f_mem"] <= 1 and found["fd"] > 0 and np.isfinite(found["gap"])
            assert found["f_mem"] * 100 == pytest.approx(round(found["f_mem"] * 100))  # counted among 100 samples


def test_the_same_settings_and_seed_have_the_same_curve_in_every_process(parquet, curves):
    again = Curves.load(parquet)
    for settings in a_lot_of(curves, 5):
        assert curves.draw(settings, 3) == again.draw(settings, 3)
        assert curves.draw(settings, 3) != curves.draw(settings, 4)


def test_every_seed_is_a_world_of_its_own_that_agrees_with_what_was_recorded(parquet, curves):
    """Between recorded points worlds differ; at them they agree; their mean is the mean mode's, which is smoother."""

    def fd(world, settings, seed):
        return np.log(world.curve(settings, seed).truth[-1]["fd"])

    mean = Curves.load(parquet, mode="mean")
    known, between = curves.recordings.settings[12], {"sigma_tn": 0.1, "noisy_ratio": 0.1}
    spread = {
        name: np.std([fd(curves, s, seed) for seed in range(30)])
        for name, s in [("known", known), ("between", between)]
    }
    assert (
        0 < spread["known"] < 0.12 and spread["between"] > spread["known"]
    )  # a mean of two recorded seeds: 0.1 / sqrt 2
    assert np.mean([fd(curves, between, seed) for seed in range(60)]) == pytest.approx(
        fd(mean, between, 0), abs=4 * spread["between"] / 60**0.5
    )
    assert fd(mean, between, 0) == fd(mean, between, 1)


def test_rungs_stay_as_correlated_as_they_were_recorded(parquet, curves):
    from scipy.stats import spearmanr

    recorded = np.array([[np.nanmean(run[:, rung, 0]) for rung in (0, 2)] for run in curves.recordings.values])
    drawn = np.array([[curves.curve(s, 0).truth[rung]["fd"] for rung in (0, 2)] for s in a_lot_of(curves)])
    assert spearmanr(*drawn.T)[0] == pytest.approx(spearmanr(*recorded.T)[0], abs=0.15)


def test_drawn_noise_is_as_large_as_recorded_noise_and_whole_curves_share_it(curves):
    settings = {"sigma_tn": 0.6, "noisy_ratio": 0.5}
    runs = [curves.curve(settings, seed) for seed in range(400)]
    logs = [[[np.log(found["fd"]) for found in rungs] for rungs in (run.observed, run.truth)] for run in runs]
    drawn = np.array(logs)[:, 0] - np.array(logs)[:, 1]
    assert drawn.std(axis=0) == pytest.approx(0.1, rel=0.5)  # the recorded world's luck has s.d. 0.1
    assert np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1] > 0.9  # and is the same at every rung


def test_what_a_training_seed_does_to_all_is_shared_by_all_trials_of_a_search(tmp_path):
    """Recorded seeds are .3 above and .3 below in log fd, whatever is trained, and .05 apart by themselves."""
    curves = Curves.load(write(tmp_path / "shared.parquet", recorded(noise=0.05, shared=0.3)))

    def off(settings, seed):
        run = curves.curve(settings, seed)
        return [np.log(seen["fd"] / true["fd"]) for seen, true in zip(run.observed, run.truth, strict=True)]

    even, odd = (np.array([off(settings, seed) for settings in a_lot_of(curves)]) for seed in (0, 1))
    sd = 0.3 * 2**0.5  # of two runs that are .6 apart
    assert even.mean(axis=0) == pytest.approx(-sd, abs=0.05) and odd.mean(axis=0) == pytest.approx(sd, abs=0.05)
    assert even.std(axis=0) == pytest.approx(0.05, rel=0.5)


def test_ddpm_replays_its_recorded_seeds(curves):
    fd = {round(curves.draw({"sigma_tn": 0.0}, seed)[-1]["fd"], 9) for seed in range(12)}
    assert fd == {round(v, 9) for v in curves.recordings.baseline[:, -1, 0].tolist()} and len(fd) == 4


def test_nearest_returns_recorded_curves_only(parquet):
    curves = Curves.load(parquet, mode="nearest")
    known = {tuple(row) for runs in curves.recordings.values for row in runs[:, -1].tolist()}
    for seed, settings in enumerate(a_lot_of(curves)):
        assert tuple(curves.draw(settings, seed)[-1].values()) in known
    first = curves.recordings.settings[0]
    assert curves.draw(first, 0)[0]["fd"] == curves.recordings.values[0][0, 0, 0]


@pytest.mark.parametrize("mode", ["surrogate", "nearest"])
def test_an_accident_is_luck_of_one_run_and_spoils_its_truth_too(tmp_path, mode):
    curves = Curves.load(write(tmp_path / "diverging.parquet", recorded(diverges=(1,))), mode=mode)
    ends = [curves.curve({"sigma_tn": 0.0}, seed) for seed in range(4)]
    assert [end.observed[-1]["fd"] == 500 for end in ends] == [False, True, False, False]
    assert [end.truth[-1]["fd"] == 500 for end in ends] == [False, True, False, False]
    assert ends[1].truth[1] == ends[0].truth[1]  # before it, nothing had happened
    assert curves.reference()[0] < 20  # nor does it move the reference


def test_drawn_runs_meet_with_accidents_as_often_as_recorded_ones(tmp_path):
    curves = Curves.load(write(tmp_path / "diverging.parquet", recorded(diverges=(0, 1))))
    settings = {"sigma_tn": 0.6, "noisy_ratio": 0.5}
    share = np.mean([curves.draw(settings, seed)[-1]["fd"] == 500 for seed in range(3000)])
    assert share == pytest.approx(2 / 54, abs=0.012)


def test_accidents_are_told_from_configurations_that_diverge():
    nan = np.nan
    fidelity = np.array([[10, 5, 90], [11, 6, 5], [10, nan, nan]])
    assert accidents(fidelity).tolist() == [2, 3, 1]
    assert accidents(np.array([[10, 90, 95], [10, 80, 99]])).tolist() == [3, 3]


def test_a_run_that_failed_ends_early(tmp_path):
    rows = [r for r in recorded() if not (r["configuration"] == 3 and r["seed"] == 1 and r["rung"] > 0)]
    curves = Curves.load(write(tmp_path / "failing.parquet", rows), mode="nearest")
    own = curves.recordings.settings[3]
    assert [len(curves.draw(own, seed)) for seed in (0, 1)] == [3, 1]


def test_coordinates():
    space = Space("s", {"a": Range(0.01, 1.0, True), "b": Choice(("x", "y", "z")), "c": Range(0, 10, integer=True)})
    assert unit_coordinates(space, {"a": 0.1, "b": "y", "c": 5}).tolist() == pytest.approx([0.5, 0, 1, 0, 0.5])
    assert unit_coordinates(space, {"a": 0.1, "b": "y"})[-1] == 0.5  # exists only under another: in the middle
    assert settings_at(space, np.array([0.5, 0.4, 0.5])) == {"a": pytest.approx(0.1), "b": "y", "c": 5}
    described = described_space(json.loads(json.dumps({**space.describe(), "name": "s"})))
    assert described.describe() == space.describe()


@pytest.mark.parametrize("name", ["f_mem", "fd", "gap"])
def test_scales_go_there_and_back(name):
    values = np.array([0.0, 0.25, 1.0]) if name == "f_mem" else np.array([0.02, 5.0, 90.0])
    scale = scale_for(name, values)
    assert scale.back(scale.forward(values)) == pytest.approx(values)
    assert (scale.back(np.array([-9.0, 9.0])) >= 0).all() == (name != "gap")


def test_errors_say_what_is_wrong(tmp_path):
    with pytest.raises(RecordingError, match="not readable"):
        Recordings.read(tmp_path / "absent.parquet")
    with pytest.raises(RecordingError, match="'unheard_of' was not recorded"):
        Recordings.read(write(tmp_path / "a.parquet", recorded()), ("unheard_of",))
    with pytest.raises(RecordingError, match="needs plain DDPM"):
        Recordings.read(write(tmp_path / "b.parquet", rows_of(0, {"sigma_tn": 1.0, "noisy_ratio": 0.5}, 2)))
