import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from gaussians import Affine, GaussianData

from ambient_ray.diffusion import (
    ambient_coefficient,
    ambient_loss,
    ambient_weight,
    denoising_loss,
    edm_weight,
)

DATA = GaussianData()


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


def test_weight_is_one_over_c_out_squared():
    sigma = torch.tensor([0.002, 0.5, 80.0])
    c_out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    torch.testing.assert_close(edm_weight(sigma), c_out**-2)


def test_the_coefficient_keeps_its_digits_next_to_the_threshold():
    sigma = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    exact = 1 - (0.5 / float(sigma)) ** 2
    assert ambient_coefficient(sigma, 0.5).item() == pytest.approx(exact, rel=1e-6)


def test_losses_are_their_formulas():
    """Both written out by hand with the same noise."""
    x0, n = DATA.draw(5, _g(1)), torch.randn(5, 1, 2, 2, dtype=torch.float64, generator=_g(2))
    s = torch.tensor([0.6, 0.8, 1.0, 2.0, 5.0], dtype=torch.float64)
    e = torch.randn(5, 1, 2, 2, dtype=torch.float64, generator=_g(3))
    col, tn = s.view(-1, 1, 1, 1), 0.5
    lam = (s**2 + 0.25) / (s * 0.5) ** 2

    by_hand = lam * (DATA.denoiser(x0 + col * e, s) - x0).pow(2).mean((1, 2, 3))
    torch.testing.assert_close(denoising_loss(DATA.denoiser, x0, s, generator=_g(3)), by_hand)

    y = x0 + tn * n
    ys = y + (col**2 - tn**2).sqrt() * e
    a = (col**2 - tn**2) / col**2
    h = a * DATA.denoiser(ys, s) + (1 - a) * ys
    torch.testing.assert_close(
        ambient_loss(DATA.denoiser, y, s, tn, generator=_g(3)), lam * (h - y).pow(2).mean((1, 2, 3))
    )


@pytest.mark.parametrize("loss", ["denoising", "ambient", "compensated"])
def test_the_minimiser_of_either_loss_is_the_posterior_mean(loss):
    """An affine denoiser fitted at one noise level lands on mu + C (C + s^2)^-1 (x - mu)."""
    s, tn, n = 0.8, 0.5, 60_000
    g = _g(4)
    x0 = DATA.draw(n, g)
    sigma = torch.full((n,), s, dtype=torch.float64)
    y = x0 + tn * torch.randn(x0.shape, generator=g, dtype=torch.float64)
    model = Affine()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        noise = _g(5)  # the same noise at each evaluation: a fixed least-squares problem
        if loss == "denoising":
            value = denoising_loss(model, x0, sigma, generator=noise).mean()
        else:
            weighting = "paper" if loss == "ambient" else loss
            value = ambient_loss(model, y, sigma, tn, weighting=weighting, generator=noise).mean()
        value.backward()
        return value

    optimizer.step(closure)
    gain = DATA.gain(s)
    error = 0.03 if loss != "denoising" else 0.015
    assert (model.layer.weight - gain).abs().max() < error
    assert (model.layer.bias - (DATA.mu - gain @ DATA.mu)).abs().max() < error


def test_redrawing_the_noise_is_clean_training_weighted_by_a_squared():
    """With n_i drawn afresh, E|h - y|^2 = a^2 E|D - x0|^2 + what no denoiser changes: nothing is hidden."""
    n, tn = 400_000, 0.5
    x0 = DATA.draw(n, _g(6))
    s = torch.full((n,), 0.9, dtype=torch.float64)
    a = 1 - (tn / 0.9) ** 2

    def both(denoiser):
        y = x0 + tn * torch.randn(x0.shape, generator=_g(7), dtype=torch.float64)
        ambient = ambient_loss(denoiser, y, s, tn, generator=_g(8)).mean()
        return ambient, denoising_loss(denoiser, x0, s, generator=_g(9)).mean()

    def other(x, sigma, labels=None):
        return 0.3 * x + 0.1

    ambient_1, clean_1 = both(DATA.denoiser)
    ambient_2, clean_2 = both(other)
    assert (ambient_2 - ambient_1).item() == pytest.approx(a**2 * (clean_2 - clean_1).item(), rel=0.03)


def test_residual_variance_near_the_threshold_needs_the_cap():
    """At s = .51, sigma_tn = .5 the exact denoiser's residual over a^2 is sigma_tn^2/a + posterior variance.

    That is 6.65 for unit-variance data; the cap keeps the loss within cap * sigma_tn^2 and a bit.
    """
    n, s, tn, cap = 400_000, 0.51, 0.5, 4.0
    a = 1 - (tn / s) ** 2
    x0 = torch.randn(n, 1, 1, 1, generator=_g(10), dtype=torch.float64)
    y = x0 + tn * torch.randn(x0.shape, generator=_g(11), dtype=torch.float64)
    sigma = torch.full((n,), s, dtype=torch.float64)

    def exact(x, sigma, labels=None):
        return x / (1 + s**2)

    paper = ambient_loss(exact, y, sigma, tn, generator=_g(12)).mean() / edm_weight(sigma[0])
    uncapped = paper.item() / a**2
    assert uncapped == pytest.approx(tn**2 / a + s**2 / (1 + s**2), rel=0.02)
    assert uncapped == pytest.approx(6.65, rel=0.02)
    capped = ambient_loss(exact, y, sigma, tn, weighting="compensated", cap=cap, generator=_g(12)).mean()
    assert capped.item() / edm_weight(sigma[0]).item() < cap * tn**2
    assert capped.item() / edm_weight(sigma[0]).item() == pytest.approx(uncapped * (a * cap) ** 2, rel=1e-6)


def test_compensation_undoes_a_far_from_the_threshold():
    sigma = torch.tensor([1.0, 3.0], dtype=torch.float64)
    a = ambient_coefficient(sigma, 0.5)
    torch.testing.assert_close(
        ambient_weight(sigma, 0.5, weighting="compensated"),
        ambient_weight(sigma, 0.5, weighting="paper") / a**2,
    )


def test_refuses_an_unknown_weighting_and_an_uncapped_one():
    sigma = torch.ones(1)
    with pytest.raises(ValueError, match="weighting must be one of paper, compensated, got 'uncapped'"):
        ambient_weight(sigma, 0.5, weighting="uncapped")
    with pytest.raises(ValueError, match="cap must be finite"):
        ambient_weight(sigma, 0.5, weighting="compensated", cap=math.inf)


def test_a_level_below_the_threshold_is_loud():
    noisy = torch.zeros(2, 1, 2, 2)
    loss = ambient_loss(lambda x, s: x, noisy, torch.tensor([0.4, 0.6]), 0.5, generator=_g())
    assert torch.isnan(loss).tolist() == [True, False]
