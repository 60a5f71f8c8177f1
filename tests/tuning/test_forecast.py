"""Where stopped trials would have ended, as the others went on."""

import math

import numpy as np
import pytest

from ambient_ray.tuning.forecast import Forecast
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")


def rung(index, fd, f_mem):
    return RungRecord(index, 100 * (index + 1), {"fd": fd, "f_mem": f_mem}, {}, "")


def curve(number, *points, state="finished"):
    rungs = tuple(rung(index, fd, f_mem) for index, (fd, f_mem) in enumerate(points))
    return TrialRecord(number, "ambient", {}, state, rungs)


def test_a_stopped_trial_is_carried_on_by_the_median_step_of_those_that_went_on():
    forecast = Forecast()
    forecast.learn(
        [
            curve(0, (80, 0.0), (40, 0.0), (20, 0.2)),
            curve(1, (80, 0.0), (20, 0.1), (10, 0.3)),
            curve(2, (80, 0.0), (60, 0.0)),
        ],
        OBJECTIVES,
    )
    stopped = curve(3, (40, 0.05), state="stopped")
    # Median factor and difference of the first step: 1/2 and 0; of the second: 1/2 and .2.
    assert forecast.of(stopped, OBJECTIVES, None) == pytest.approx((10.0, 0.25))
    # Against (25, .3) the middle rung, (20, .05), dominates more: 5 * .25 > 15 * .05.
    assert forecast.of(stopped, OBJECTIVES, (25.0, 0.3)) == pytest.approx((20.0, 0.05))


def test_nothing_is_forecast_where_nobody_has_been():
    assert Forecast().of(curve(0, (40, 0.05)), OBJECTIVES, None) == (40, 0.05)


def test_telling_the_same_trial_again_changes_no_forecast():
    forecast, one = Forecast(), curve(0, (80, 0.0), (40, 0.1))
    forecast.learn([one], OBJECTIVES)
    forecast.learn([one, one, one, curve(1, (80, 0.0), (20, 0.3))], OBJECTIVES)
    assert forecast.of(curve(2, (100, 0.0)), OBJECTIVES, None) == pytest.approx((100 * (0.5 * 0.25) ** 0.5, 0.2))


def test_a_forecast_is_of_the_median_step_in_whatever_order_trials_are_taken_in():
    rng = np.random.default_rng(0)
    trials = [curve(n, *((float(f), float(m)) for f, m in rng.random((3, 2)))) for n in range(12)]
    forecast = Forecast()
    for number in rng.permutation(12):
        part = trials[number]
        for rungs in (1, 2, 3):  # as it grows
            forecast.learn([TrialRecord(part.number, "ambient", {}, "running", part.rungs[:rungs])], OBJECTIVES)
        expected = np.array([[OBJECTIVES.of(r.scores) for r in trials[n].rungs] for n in forecast._learnt])
        factors = np.median(np.log(expected[:, 1:, 0] / expected[:, :-1, 0]), axis=0)
        copied = np.median(np.diff(expected[:, :, 1], axis=1), axis=0)
        fidelity, memorization = forecast.of(curve(99, (1.0, 0.5)), OBJECTIVES, None)
        assert fidelity == pytest.approx(math.exp(factors.sum()))
        first = min(max(0.5 + copied[0], 0.0), 1.0)
        assert memorization == pytest.approx(min(max(first + copied[1], 0.0), 1.0))
