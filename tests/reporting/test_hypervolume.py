"""The hypervolume's curve is what recomputing it after every rung would give."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ambient_ray.reporting.figures.hypervolume import GrowingFront, hypervolume_curve, hypervolume_figure
from ambient_ray.tuning.pareto import hypervolume
from ambient_ray.tuning.records import TrialRecord

# Few distinct values, so that points share a coordinate, coincide, or lie on the reference.
LEVELS = st.one_of(st.integers(0, 6).map(float), st.floats(0, 6))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS), max_size=25))
def test_a_growing_front_has_the_volume_of_moocore_after_every_point(points):
    front = GrowingFront((5.0, 4.0))
    for k, point in enumerate(points):
        before = front.volume
        grown = front.add(point)
        assert front.volume == pytest.approx(hypervolume(points[: k + 1], (5.0, 4.0)), abs=1e-9)
        assert grown or front.volume == before
        assert front.volume >= before - 1e-9


def test_the_curve_follows_the_search_and_counts_its_images(make_study):
    view = make_study(30)
    images, volumes = hypervolume_curve(view)
    heard = sorted((r.at, t.number, r.rung) for t in view.trials for r in t.rungs)
    assert len(images) == len(volumes) == len(heard)
    trials = {t.number: t for t in view.trials}
    points, spent = [], 0
    for k, (_, number, index) in enumerate(heard):
        rungs = trials[number].rungs
        spent += rungs[index].images_seen - (rungs[index - 1].images_seen if index else 0)
        points.append(view.objectives.of(rungs[index].scores))
        assert images[k] == spent
        assert volumes[k] == pytest.approx(hypervolume(points, view.reference))
    assert spent == sum(t.rungs[-1].images_seen for t in view.trials)


def test_without_times_the_order_is_that_of_trials_and_rungs(make_study):
    view = make_study(8)
    trials = [replace(t, rungs=tuple(replace(r, at=0.0) for r in t.rungs)) for t in view.trials]
    images, volumes = hypervolume_curve(replace(view, trials=trials[::-1]))
    points = [view.objectives.of(r.scores) for t in trials for r in t.rungs]
    assert volumes == pytest.approx([hypervolume(points[: k + 1], view.reference) for k in range(len(points))])
    assert images[2] == trials[0].rungs[2].images_seen


def test_replicas_and_models_that_diverged_add_no_volume(make_study, make_rung):
    view = make_study(5)
    lucky = TrialRecord(5, "ddpm", {"seed": 1}, "finished", (make_rung(0, 0.1, 0.0, at=1.0),), replica_of=0)
    nan = TrialRecord(6, "ambient", {}, "failed", (make_rung(0, float("nan"), 0.0, at=9e9),))
    images, volumes = hypervolume_curve(replace(view, trials=[*view.trials, lucky, nan]))
    alone_images, alone = hypervolume_curve(view)
    assert volumes[:-1] == pytest.approx(alone) and volumes[-1] == alone[-1]
    assert images[-1] == alone_images[-1] + 1_000  # it was trained all the same


def test_before_there_is_a_reference_there_is_no_curve(make_study, tmp_path):
    view = replace(make_study(5), reference=None)
    assert [len(part) for part in hypervolume_curve(view)] == [0, 0]
    assert hypervolume_figure(view, tmp_path / "h.png") is None


def test_ten_times_the_trials_cost_about_ten_times_the_time(make_study):
    """Recomputing the front after every rung would cost a hundred times."""
    small, large = make_study(200, stop=False), make_study(2_000, stop=False)
    _ = small.candidates, large.candidates

    def seconds(view):
        best = np.inf
        for _ in range(3):
            began = time.process_time()
            hypervolume_curve(view)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(large) < 40 * seconds(small)
