"""The Frechet distance's interval and its limit for many images, against weights moved by hand and simulated sets."""

import numpy as np
import pytest

from ambient_ray.errors import UserError
from ambient_ray.evaluation import GaussianStatistics, frechet_distance, frechet_estimate, frechet_limit

SETS = 1000
LAWS = ("shifted", "skewed")


def drawn(law: str, n: int, d: int, generator: np.random.Generator) -> np.ndarray:
    """n samples of a law whose spectrum decays as features' do; `same` is the reference's own."""
    scale = np.arange(1, d + 1) ** -0.75
    x = generator.normal(size=(n, d)) * scale
    return {"same": x, "shifted": 0.8 * x + 0.3 * scale, "skewed": 1.2 * np.maximum(x, -0.5 * scale)}[law]


def reference(d: int) -> GaussianStatistics:
    return GaussianStatistics.of(drawn("same", 2000, d, np.random.default_rng(99)))


@pytest.mark.parametrize(("n", "d", "m"), [(40, 100, 2000), (300, 20, 2000), (30, 100, 50), (60, 100, 20)])
def test_the_estimate_is_the_distance(n, d, m):
    other = GaussianStatistics.of(drawn("same", m, d, np.random.default_rng(1)))
    x = drawn("shifted", n, d, np.random.default_rng(0))
    found = frechet_estimate(x, other)
    assert found.value == pytest.approx(frechet_distance(x, other), rel=1e-6)
    assert found.low < found.value < found.high and found.n == n


@pytest.mark.parametrize(("n", "d"), [(60, 8), (30, 60)])
def test_the_standard_error_is_how_the_distance_answers_to_each_samples_weight(n, d):
    """The derivative by one sample's weight, taken numerically on weighted moments, squared and summed."""
    other, x = reference(d), drawn("skewed", n, d, np.random.default_rng(3))

    def weighted(weights: np.ndarray) -> float:
        mean = weights @ x
        root = np.sqrt(weights * n / (n - 1))[:, None] * (x - mean)
        return frechet_distance(GaussianStatistics(mean, root), other)

    even, step = np.full(n, 1 / n), 1e-5
    slopes = [(weighted((1 - step) * even + step * e) - weighted((1 + step) * even - step * e)) for e in np.eye(n)]
    error = np.sqrt(np.square(np.array(slopes) / (2 * step)).sum() / (n * (n - 1)))
    found = frechet_estimate(x, other)
    assert (found.high - found.value) / 1.959964 == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("law", LAWS)
def test_intervals_hold_the_mean_distance_of_as_many_samples(law):
    other = reference(24)
    found = [frechet_estimate(drawn(law, 300, 24, np.random.default_rng(seed)), other) for seed in range(SETS)]
    truth = np.mean([e.value for e in found])
    assert 0.93 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.97


@pytest.mark.parametrize("law", LAWS)
def test_intervals_of_the_limit_hold_the_distance_of_very_many_samples(law):
    other = reference(12)
    truth = frechet_distance(drawn(law, 400_000, 12, np.random.default_rng(7)), other)
    found = [frechet_limit(drawn(law, 400, 12, np.random.default_rng(seed)), other) for seed in range(SETS)]
    assert 0.93 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.97


def test_where_samples_follow_the_references_law_both_intervals_are_too_wide_and_never_too_narrow():
    other = reference(24)
    truth = frechet_distance(drawn("same", 400_000, 24, np.random.default_rng(7)), other)
    sets = [drawn("same", 300, 24, np.random.default_rng(seed)) for seed in range(300)]
    distances, limits = [frechet_estimate(x, other) for x in sets], [frechet_limit(x, other) for x in sets]
    mean = np.mean([e.value for e in distances])
    assert np.mean([e.low <= mean <= e.high for e in distances]) >= 0.93
    assert np.mean([e.low <= truth <= e.high for e in limits]) >= 0.93


def test_the_limit_takes_most_of_the_small_sample_bias_away():
    other = reference(64)
    truth = frechet_distance(drawn("same", 200_000, 64, np.random.default_rng(7)), other)
    sets = [drawn("same", 300, 64, np.random.default_rng(seed)) for seed in range(40)]
    bias = np.mean([frechet_distance(x, other) for x in sets]) - truth
    left = np.mean([frechet_limit(x, other).value for x in sets]) - truth
    assert abs(left) < 0.25 * bias


def test_the_limit_repeats_and_says_what_it_cannot_do():
    other, x = reference(12), drawn("shifted", 100, 12, np.random.default_rng(0))
    assert frechet_limit(x, other) == frechet_limit(x, other)
    with pytest.raises(UserError, match="too few images, 10; at least 15 are needed"):
        frechet_limit(x[:10], other)
    with pytest.raises(UserError, match="at least 2 points"):
        frechet_limit(x, other, points=1)
    with pytest.raises(UserError, match="both need the same extractor"):
        frechet_limit(x[:, :5], other)
