"""Importances are what they say: a known share, its interval, and a null that holds."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from ambient_ray.reporting.figures.importance import ABSENT, importances
from ambient_ray.reporting.figures.importance_figure import study_importances


def columns(X):
    return {f"x{k}": column.tolist() for k, column in enumerate(X.T)}


def by_name(found):
    return {each.name: each for each in found.each}


def test_the_only_parameter_that_matters_is_found_though_its_best_value_lies_in_between():
    rng = np.random.default_rng(0)
    X = rng.random((120, 5))
    y = np.exp(4 * (X[:, 2] - 0.5) ** 2) + 0.02 * rng.standard_normal(120)
    found = by_name(importances(columns(X), y))
    assert found["x2"].found and found["x2"].share > 0.8
    assert max(found[name].share for name in found if name != "x2") < 0.1


@pytest.mark.parametrize(("n", "parameters"), [(14, 2), (60, 6)])
def test_a_parameter_without_effect_exceeds_its_null_in_one_of_twenty_studies(n, parameters):
    """Beside one that matters, and with a heavy tail, as fidelities have."""
    rng = np.random.default_rng(1)
    exceeded, studies = 0, 300
    for _ in range(studies):
        X = rng.random((n, parameters))
        y = np.exp(2 * X[:, 0] + rng.standard_normal(n))
        exceeded += by_name(importances(columns(X), y))[f"x{parameters - 1}"].found
    assert exceeded / studies == pytest.approx(0.05, abs=0.03)


def test_what_only_varies_along_with_a_parameter_that_matters_is_not_blamed():
    """As a sampler makes it, which narrows all parameters at once."""
    rng = np.random.default_rng(2)
    exceeded, studies = 0, 200
    for _ in range(studies):
        cause = rng.random(80)
        along = cause + 0.2 * rng.standard_normal(80)
        y = cause + 0.2 * rng.standard_normal(80)
        found = by_name(importances({"cause": cause.tolist(), "along": along.tolist()}, y))
        assert found["cause"].found
        exceeded += found["along"].found
    assert exceeded / studies < 0.1


def test_intervals_hold_the_share_of_endless_trials():
    rng = np.random.default_rng(3)

    def draw(n):
        X = rng.random((n, 3))
        return columns(X), 2 * X[:, 0] + X[:, 1] + 0.5 * rng.standard_normal(n)

    endless = [each.share for each in importances(*draw(100_000)).each]
    held, studies = np.zeros(3), 200
    for _ in range(studies):
        found = importances(*draw(150)).each
        held += [each.low <= share <= each.high for each, share in zip(found, endless, strict=True)]
    assert (held / studies > 0.9).all()


def test_it_agrees_with_optunas_functional_anova():
    """Both say what share of the variance is one parameter's; Optuna's forest is scaled to 1 over all of them."""
    rng = np.random.default_rng(4)
    X = rng.random((150, 3))
    ranks = np.argsort(np.argsort(2 * X[:, 0] + np.abs(X[:, 1] - 0.5) + 0.05 * rng.standard_normal(150)))
    study = optuna.create_study()
    uniform = {f"x{k}": optuna.distributions.FloatDistribution(0, 1) for k in range(3)}
    for row, value in zip(X, ranks, strict=True):
        params = {f"x{k}": v for k, v in enumerate(row)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=uniform, value=float(value)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)
    forest = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ours = by_name(importances(columns(X), ranks.astype(float)))
    total = sum(each.share for each in ours.values())
    for name, share in forest.items():
        assert ours[name].share / total == pytest.approx(share, abs=0.06)


def test_only_the_order_of_scores_and_of_values_counts():
    rng = np.random.default_rng(5)
    X = rng.random((40, 2))
    y = X[:, 0] + 0.3 * rng.standard_normal(40)
    plain = importances(columns(X), y)
    bent = importances({"x0": np.exp(5 * X[:, 0]).tolist(), "x1": (X[:, 1] ** 3).tolist()}, np.exp(3 * y))
    for a, b in zip(plain.each, bent.each, strict=True):
        assert (a.share, a.low, a.high) == pytest.approx((b.share, b.low, b.high))


def test_choices_and_parameters_that_exist_only_under_one():
    """The child matters where it exists; that it is absent elsewhere is its parent's doing."""
    rng = np.random.default_rng(6)
    n = 150
    mixing = rng.choice(["set_split", "sigma_split"], n)
    ratio = [float(rng.random()) if m == "set_split" else ABSENT for m in mixing]
    flip = [bool(b) for b in rng.random(n) < 0.5]
    effect = [2 * r if r is not ABSENT else 0.0 for r in ratio]
    y = np.array(effect) + 3 * (mixing == "sigma_split") + 0.2 * rng.standard_normal(n)
    found = by_name(importances({"mixing": mixing.tolist(), "ratio": ratio, "flip": flip}, y))
    assert found["mixing"].found and found["ratio"].found and not found["flip"].found
    assert found["ratio"].trials == int((mixing == "set_split").sum())


def test_few_trials_or_no_difference_say_nothing():
    rng = np.random.default_rng(7)
    assert importances(columns(rng.random((5, 2))), rng.random(5)) is None
    assert importances(columns(rng.random((20, 10))), rng.random(20)) is None
    assert importances(columns(rng.random((50, 2))), np.zeros(50)) is None
    assert importances({"fixed": [1.0] * 50}, rng.random(50)) is None


def test_a_parameter_that_never_varied_is_no_more_than_chance():
    rng = np.random.default_rng(8)
    x = rng.random(40)
    found = by_name(importances({"x": x.tolist(), "fixed": [3] * 40, "twice": (2 * x).tolist()}, x + rng.random(40)))
    assert not found["fixed"].found and not found["twice"].found and not found["x"].found  # x or twice, who knows


def test_trials_are_compared_at_one_training_length(make_study):
    """Memorization grows with training: over best rungs, whatever lets a trial go on would seem to make it copy."""
    view = make_study(150)
    first, last = study_importances(view, lambda c: c.fidelity)
    assert (first.images, last.images) == (1_000, 4_000)
    assert first.of.n == 149
    assert by_name(first.of)["sigma_tn"].found and not by_name(first.of)["noisy_ratio"].found
    assert study_importances(replace(view, searched=()), lambda c: c.fidelity) == ()
