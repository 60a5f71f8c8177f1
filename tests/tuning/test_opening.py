import numpy as np
import pytest
from scipy.stats.qmc import discrepancy

from ambient_ray.tuning.opening import even_start
from ambient_ray.tuning.points import point_at, uniform
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.space import Choice, Range, Space
from ambient_ray.tuning.study import Study

SQUARE = Space("square", {"x": Range(0.0, 1.0), "y": Range(0.0, 1.0)}, {}, ())
CONDITIONAL = Space(
    "conditional",
    {"split": Choice(("no", "yes")), "ratio": Range(0.1, 10.0, log=True), "depth": Range(2, 4, integer=True)},
    {},
    (),
    conditions={"ratio": {"split": ("yes",)}},
)


def coordinates(points):
    return np.array([[p["x"], p["y"]] for p in points])


@pytest.mark.parametrize("seed", range(5))
def test_an_even_start_is_more_even_than_draws(seed):
    """Centred discrepancy, the usual measure of how evenly points fill a cube."""
    rng = np.random.default_rng(seed)
    even = discrepancy(coordinates([even_start(SQUARE, seed, i) for i in range(8)]))
    drawn = np.median([discrepancy(coordinates([uniform(rng, SQUARE) for _ in range(8)])) for _ in range(50)])
    assert even < 0.5 * drawn


def test_an_even_start_is_one_sequence_of_its_seed():
    first = [even_start(SQUARE, 3, i) for i in range(8)]
    assert first == [even_start(SQUARE, 3, i) for i in range(8)]
    assert len({tuple(p.items()) for p in first}) == 8
    assert first != [even_start(SQUARE, 4, i) for i in range(8)]


@pytest.mark.parametrize(
    ("unit", "point"),
    [
        ((0.0, 0.5, 0.0), {"split": "no", "depth": 2}),
        ((0.9, 0.5, 1.0), {"split": "yes", "ratio": 1.0, "depth": 4}),
        ((1.0, 0.0, 0.5), {"split": "yes", "ratio": 0.1, "depth": 3}),
        ((1.0, 1.0, 0.5), {"split": "yes", "ratio": 10.0, "depth": 3}),
    ],
)
def test_a_point_lies_where_its_coordinates_say(unit, point):
    assert point_at(CONDITIONAL, unit) == pytest.approx(point)


def test_a_study_starts_evenly_and_goes_on_after_a_restart(tmp_path):
    """Eight configurations before the model; a second process takes the sequence up where the first left it."""
    objectives, storage = Objectives("fd", "f_mem"), f"journal:{tmp_path / 's.journal'}"
    for _ in range(2):
        proposer = choose_sampler(shipped_sampler("tpe"), SQUARE).proposer(seed=5)
        study = Study("s", storage, objectives, proposer)
        for _ in range(4):
            trial = study.ask(SQUARE)
            study.record_rung(trial.number, RungRecord(0, 100, {"fd": 1.0 + trial.number, "f_mem": 0.0}, {}, ""))
            study.finish(trial.number, "finished")
    asked = [t.settings for t in study.trials()]
    assert asked == [pytest.approx(even_start(SQUARE, 5, i)) for i in range(8)]
    assert study.ask(SQUARE).settings != pytest.approx(even_start(SQUARE, 5, 8))


def test_as_long_as_nothing_has_ended_all_workers_start_evenly():
    proposer = choose_sampler(shipped_sampler("tpe"), SQUARE).proposer(seed=1)
    study = Study("s", "memory:", Objectives("fd", "f_mem"), proposer)
    asked = [study.ask(SQUARE).settings for _ in range(32)]
    assert asked == [pytest.approx(even_start(SQUARE, 1, i)) for i in range(32)]
