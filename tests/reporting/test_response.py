"""A response surface predicts points that it has not seen, says how well, and stays where there are points."""

from dataclasses import replace

import numpy as np
import pytest

from ambient_ray.reporting.figures.response import Scale, axes_of, response_figure, responses
from ambient_ray.reporting.figures.surface import fit_surface


def test_leave_one_out_is_leaving_one_out():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (30, 2))
    values = points[:, 0] ** 2 - points[:, 1] + 0.1 * rng.standard_normal(30)
    found = fit_surface(points, values)
    powers = [(i, j) for i in range(5) for j in range(5 - i) if i + j <= found.degree]
    terms = np.stack([points[:, 0] ** i * points[:, 1] ** j for i, j in powers], axis=1)
    off = []
    for k in range(30):
        rest = np.arange(30) != k
        weights = np.linalg.lstsq(terms[rest], values[rest], rcond=None)[0]
        off.append(terms[k] @ weights - values[k])
    assert found.error == pytest.approx(np.sqrt(np.mean(np.square(off))))
    means = [values[np.arange(30) != k].mean() - values[k] for k in range(30)]
    assert found.mean_error == pytest.approx(np.sqrt(np.mean(np.square(means))))


def test_a_best_value_in_between_is_found_and_its_error_is_the_noise():
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (200, 2))
    values = (points[:, 0] - 0.3) ** 2 + 0.5 * points[:, 1] + 0.1 * rng.standard_normal(200)
    found = fit_surface(points, values)
    assert found.error == pytest.approx(0.1, rel=0.2)
    along = np.stack([np.linspace(-1, 1, 201), np.zeros(201)], axis=1)
    assert along[np.argmin(found(along)), 0] == pytest.approx(0.3, abs=0.15)


def test_noise_alone_mostly_has_no_surface():
    rng = np.random.default_rng(2)
    drawn = [fit_surface(rng.uniform(-1, 1, (12, 2)), rng.standard_normal(12)) is not None for _ in range(200)]
    assert np.mean(drawn) < 0.35


def test_it_is_shown_near_to_points_only():
    rng = np.random.default_rng(3)
    points = np.stack([rng.uniform(-1, 0, 60), rng.uniform(-1, 1, 60)], axis=1)  # nothing in the right half
    found = fit_surface(points, points[:, 0])
    assert found.near(points).all()
    assert not found.near(np.array([[0.6, 0.0], [1.0, 1.0]])).any()


def test_scales_are_told_from_where_the_values_lie():
    rng = np.random.default_rng(4)
    assert Scale.of("sigma_tn", np.exp(rng.uniform(np.log(0.1), np.log(4), 40))).log
    assert not Scale.of("noisy_ratio", rng.uniform(0.1, 0.9, 40)).log
    assert not Scale.of("dropout", rng.uniform(0.0, 0.3, 400)).log  # its smallest value is nearly 0
    for scale in (Scale("a", 0.1, 4.0, True), Scale("b", -1.0, 3.0, False)):
        values = np.linspace(scale.low, scale.high, 7)
        assert scale.value(scale.unit(values)) == pytest.approx(values)


def test_sigma_tn_and_the_ratio_come_first_and_choices_never(make_study):
    view = make_study(20)
    trials = [
        replace(t, settings={**t.settings, "lr": 1e-4 * (1 + t.number), "noise_draws": t.number % 3})
        for t in view.trials
    ]
    view = replace(view, trials=trials, searched=("noise_draws", "lr", "noisy_ratio", "sigma_tn"))
    assert [scale.name for scale in axes_of(view)] == ["sigma_tn", "noisy_ratio"]
    assert [scale.name for scale in axes_of(replace(view, searched=("noise_draws", "lr")))] == ["lr"]
    assert axes_of(replace(view, searched=("noise_draws",))) == ()


def test_rungs_are_apart_and_ddpm_stands_beside(make_study):
    view = make_study(120)
    found = responses(view, axes_of(view), lambda c: c.fidelity)
    assert [r.images for r in found] == [1_000, 4_000]  # the first and the last
    assert len(found[0].values) == 119 and 8 <= len(found[1].values) < 40
    few = make_study(30)
    assert [r.images for r in responses(few, axes_of(few), lambda c: c.fidelity)] == [1_000, 2_000, 4_000]
    assert found[0].ddpm == view.trials[0].rungs[0].scores["fd"]


@pytest.mark.parametrize("searched", [("sigma_tn", "noisy_ratio"), ("sigma_tn",), ("noisy_ratio",)])
@pytest.mark.parametrize("n", [6, 40])
def test_it_is_drawn_over_one_or_two_parameters(make_study, tmp_path, searched, n):
    path = response_figure(replace(make_study(n), searched=searched), tmp_path / "response.png")
    assert path.is_file()


def test_it_is_left_out_where_nothing_is_searched_continuously(make_study, tmp_path):
    assert response_figure(replace(make_study(20), searched=()), tmp_path / "response.png") is None
    assert response_figure(make_study(3), tmp_path / "response.png") is None
