"""Intervals contain the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ambient_ray.evaluation import bootstrap_interval, wilson_interval


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_equals_scipy_and_holds_its_value(n, share):
    successes = round(share * n)
    estimate = wilson_interval(successes, n)
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert estimate.low == pytest.approx(expected.low, abs=1e-9)
    assert estimate.high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.parametrize(("n", "share"), [(500, 0.02), (500, 0.1), (300, 0.5), (1000, 0.9)])
def test_wilson_covers(n, share):
    draws = np.random.default_rng(0).binomial(n, share, size=4000)
    estimates = {k: wilson_interval(int(k), n) for k in np.unique(draws)}
    covered = np.mean([estimates[k].low <= share <= estimates[k].high for k in draws])
    assert 0.93 <= covered <= 0.97


def test_no_copy_in_n_is_not_no_copying():
    estimate = wilson_interval(0, 500)
    assert estimate.low == 0
    assert 0.005 < estimate.high < 0.01


def test_bootstrap_covers_a_ratio_and_is_seeded():
    generator = np.random.default_rng(0)

    def gap(seen, unseen):
        return (unseen - seen) / unseen

    hits = 0
    for trial in range(250):
        a, b = generator.gamma(4, 0.25, size=200), generator.gamma(4, 0.5, size=300)
        estimate = bootstrap_interval(gap, a, b, seed=trial, resamples=500)
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.92 <= hits / 250 <= 0.98
    assert bootstrap_interval(gap, a, b, seed=1) == bootstrap_interval(gap, a, b, seed=1)
    assert bootstrap_interval(gap, a, b, seed=1) != bootstrap_interval(gap, a, b, seed=2)
