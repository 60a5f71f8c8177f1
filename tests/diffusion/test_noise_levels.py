import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ambient_ray.diffusion import AmbientObjective, Cosine, LogNormal, LogUniform, ObjectiveError


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("sigma_tn", "share"), [(0.3, 0.50), (0.4, 0.41), (0.5, 0.34), (1, 0.16), (2, 0.057), (4, 0.016)]
)
def test_share_of_levels_above_the_threshold_is_the_published_table(sigma_tn, share):
    assert LogNormal().mass_above(sigma_tn) == pytest.approx(share, abs=0.006 if share > 0.1 else 0.0006)
    drawn = LogNormal().sample(200_000, generator=_generator())
    assert (drawn > sigma_tn).double().mean().item() == pytest.approx(share, abs=0.007)


def test_mass_at_the_ends():
    assert LogNormal().mass_above(0) == 1.0
    assert LogNormal().mass_above(math.inf) == 0.0
    assert LogNormal().mass_above(1e6) == pytest.approx(stats.norm.sf((math.log(1e6) + 1.2) / 1.2), rel=1e-12)


@pytest.mark.parametrize(
    ("p_std", "low", "high"),
    [
        (1.2, 0, math.inf),
        (1.2, 0.001, math.inf),
        (1.2, 0.5, math.inf),
        (1.2, 4, math.inf),
        (1.2, 40, math.inf),
        (1.2, 0, 0.001),
        (1.2, 0, 0.5),
        (1.2, 0, 4),
        (1.2, 0, 40),
        (1.2, 0.3, 0.31),
        (1.2, 40, 41),
        (0.2, 40, math.inf),
        (0.05, 40, math.inf),
        (0.05, 0, 0.001),
        (0.05, 40, 40.01),
    ],
)
def test_truncated_levels_stay_inside_and_have_the_conditional_distribution(p_std, low, high):
    """Compared with the conditional log-probability itself, which scipy gives far beyond 1e-300."""
    levels = LogNormal(p_std=p_std)
    sigma = levels.sample(20_000, low=low, high=high, generator=_generator(1), dtype=torch.float64)
    assert bool(torch.isfinite(sigma).all())
    assert sigma.min() > low
    assert sigma.max() < high

    a, b = ((-np.inf if s == 0 else (np.log(s) + 1.2) / p_std) for s in (low, high))

    def conditional_cdf(s):
        # P(low < S < s) / P(low < S < high) from the side of the mode on which the numbers are small
        z = (np.log(s) + 1.2) / p_std
        if a > 0:
            sf = stats.norm.logsf
            return np.expm1(sf(z) - sf(a)) / np.expm1(sf(b) - sf(a))
        cdf = stats.norm.logcdf
        below = 0.0 if np.isinf(a) else np.exp(cdf(a) - cdf(b))
        return (np.exp(cdf(z) - cdf(b)) - below) / (1 - below)

    assert stats.kstest(sigma.numpy(), conditional_cdf).pvalue > 0.01


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-4, 100),
    st.floats(0.05, 3),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
)
def test_no_uniform_leaves_the_interval(sigma_tn, p_std, dtype, above):
    """The extreme uniforms 0 and 1 - 2^-53 included, and whatever the rounding to float32."""
    u = torch.tensor([0.0, 2.0**-60, 1e-12, 0.5, 1 - 1e-12, 1 - 2.0**-53], dtype=torch.float64)
    interval = {"low": sigma_tn} if above else {"high": sigma_tn}
    sigma = LogNormal(p_std=p_std).sample(u, **interval, dtype=dtype)
    assert bool(torch.isfinite(sigma).all() and (sigma > 0).all())
    assert bool((sigma > sigma_tn).all() if above else (sigma < sigma_tn).all())
    # But for the last place: uniforms 1e-12 apart have one level, and its two roundings may be in either order.
    last_place = torch.finfo(dtype).eps * sigma[1:]
    assert bool((sigma.diff() >= -last_place).all()), "the map from uniforms must be increasing"


def test_refuses_what_is_no_interval():
    with pytest.raises(ValueError, match="0 <= low < high"):
        LogNormal().sample(3, low=2, high=1)
    with pytest.raises(ValueError, match="strictly between"):
        LogNormal().sample(3, low=1.0, high=1.0 + 1e-9)
    with pytest.raises(ValueError, match="p_std"):
        LogNormal(p_std=0)


BOUNDED = {
    LogUniform: stats.loguniform(0.002, 80.0).cdf,
    # The cosine schedule: t = (2 / pi) atan(sigma) is uniform, between the ends.
    Cosine: lambda s: (np.arctan(s) - np.arctan(0.002)) / (np.arctan(80.0) - np.arctan(0.002)),
}


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (0.5, math.inf), (0.0, 0.5), (0.3, 0.31), (79.0, 200.0)])
def test_bounded_levels_stay_inside_and_have_their_conditional_distribution(kind, low, high):
    sigma = kind().sample(20_000, low, high, generator=_generator(), dtype=torch.float64)
    assert low < sigma.min() and sigma.max() < high
    assert sigma.min() >= 0.002 and sigma.max() <= 80.0
    whole = BOUNDED[kind]
    first, last = whole(max(low, 0.002)), whole(min(high, 80.0))
    assert stats.kstest(sigma.numpy(), lambda s: (whole(s) - first) / (last - first)).pvalue > 1e-3
    assert kind().mass_above(low) - kind().mass_above(high) == pytest.approx(last - first, abs=1e-12)


@pytest.mark.parametrize("kind", BOUNDED)
@settings(max_examples=40, deadline=None)
@given(sigma_tn=st.floats(0.0021, 79.0), dtype=st.sampled_from([torch.float32, torch.float64]), above=st.booleans())
def test_no_uniform_leaves_a_bounded_interval(kind, sigma_tn, dtype, above):
    u = torch.tensor([0.0, 2.0**-60, 1e-12, 0.5, 1 - 1e-12, 1 - 2.0**-53], dtype=torch.float64)
    sigma = kind().sample(u, **({"low": sigma_tn} if above else {"high": sigma_tn}), dtype=dtype)
    assert bool((sigma > sigma_tn).all() if above else (sigma < sigma_tn).all())
    assert bool((sigma.diff() >= 0).all())


def test_a_mean_cosine_level_is_where_signal_and_noise_are_even():
    """Nichol and Dhariwal's schedule reaches alpha-bar = 1/2, sigma = 1, in the middle of training time."""
    assert Cosine(1e-9, 1e9).mass_above(1.0) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("name", ["loguniform", "cosine"])
def test_an_objective_trains_the_distribution_that_it_names(name):
    u = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    plain = AmbientObjective(noise_distribution=name)
    assert torch.equal(plain.noise_levels(u)[0], plain.levels.sample(u))
    split = AmbientObjective(0.5, 0.3, noise_distribution=name)
    sigma, noisy = split.noise_levels(u)
    assert bool(((sigma > 0.5) == noisy).all()) and noisy.double().mean().item() == pytest.approx(0.3, abs=0.002)
    share = split.levels.mass_above(0.5)
    by_sigma = AmbientObjective(0.5, mixing="sigma_split", noise_distribution=name)
    assert by_sigma.noisy_share == pytest.approx(share)
    assert by_sigma.noise_levels(u)[1].double().mean().item() == pytest.approx(share, abs=0.002)


def test_a_threshold_outside_of_a_bounded_distribution_is_refused():
    with pytest.raises(ObjectiveError, match=r"sigma_tn must lie between 0.002 and 80.0 with noise_distribution="):
        AmbientObjective(100.0, noise_distribution="cosine")
    AmbientObjective(100.0, mixing="sigma_split", noise_distribution="cosine")
    with pytest.raises(ObjectiveError, match="must be one of lognormal, loguniform, cosine, got 'vp'"):
        AmbientObjective(noise_distribution="vp")
    with pytest.raises(ValueError, match="lies between 90"):
        LogUniform().sample(3, low=90.0)
    with pytest.raises(ValueError, match="sigma_min < sigma_max"):
        Cosine(1.0, 0.5)
