import sys
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from gaussians import GaussianData

from ambient_ray.diffusion import (
    AmbientObjective,
    Draws,
    EDMPrecond,
    LogNormal,
    ObjectiveError,
    ambient_loss,
    denoising_loss,
    flip_together,
    shift_together,
)

DATA = GaussianData()


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x, c_noise, labels=None):
        return self.layers(x + c_noise.view(-1, 1, 1, 1))


def _batch(n=16):
    return torch.rand(n, 1, 6, 6, generator=_g(1)) * 2 - 1, torch.randn(n, 1, 6, 6, generator=_g(2))


@pytest.mark.parametrize(
    "objective",
    [AmbientObjective(0.0, mixing=m) for m in ("sigma_split", "set_split", "image_split")]
    + [AmbientObjective(0.0, weighting="compensated"), AmbientObjective(1e5, mixing="sigma_split")],
    ids=lambda o: f"{o.mixing}-{o.sigma_tn:g}-{o.weighting}",
)
def test_no_threshold_or_one_above_every_level_is_plain_edm_bit_for_bit(objective):
    """Losses, gradients and the state of the random stream: all equal, not close."""
    clean, noise = _batch()
    ours, plain = EDMPrecond(Net()), EDMPrecond(Net())
    g1, g2 = _g(3), _g(3)
    for _ in range(3):
        loss = objective.loss(ours, clean, noise, generator=g1)
        sigma = LogNormal().sample(len(clean), generator=g2)
        expected = denoising_loss(plain, clean, sigma, generator=g2)
        assert torch.equal(loss, expected)
        loss.mean().backward()
        expected.mean().backward()
    assert torch.equal(g1.get_state(), g2.get_state())
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours.parameters(), plain.parameters(), strict=True))


def test_a_mixed_batch_is_its_two_losses_in_one_forward_pass():
    clean, noise = _batch(64)
    model, calls = EDMPrecond(Net()), []

    def counted(x, sigma, labels=None):
        calls.append(x.shape)
        return model(x, sigma, labels)

    objective = AmbientObjective(0.5, 0.4, weighting="compensated")
    draws = Draws.new(clean, _g(4))
    loss = objective.loss(counted, clean, noise, draws=draws)
    assert calls == [clean.shape]
    sigma, noisy = objective.noise_levels(draws.uniform)
    assert 0 < noisy.sum() < len(clean)

    # The same noise through the two public losses, one image at a time.
    for i in range(len(clean)):
        x0, n, s, e = clean[i : i + 1], noise[i : i + 1], sigma[i : i + 1], draws.noise[i : i + 1]
        if noisy[i]:
            expected = _with_noise(e, ambient_loss, model, x0 + 0.5 * n, s, 0.5, weighting="compensated")
        else:
            expected = _with_noise(e, denoising_loss, model, x0, s)
        torch.testing.assert_close(loss[i : i + 1], expected, rtol=1e-4, atol=1e-6)


def _with_noise(e, loss, *args, **kwargs):
    real = torch.randn
    torch.randn = lambda *a, **k: e
    try:
        return loss(*args, **kwargs)
    finally:
        torch.randn = real


@pytest.mark.parametrize("sigma_tn", [0.3, 0.5, 2.0])
def test_set_split_at_the_implied_ratio_is_sigma_split(sigma_tn):
    """In distribution (Kolmogorov-Smirnov on independent draws), and draw by draw on the same uniforms."""
    share = LogNormal().mass_above(sigma_tn)
    by_set = AmbientObjective(sigma_tn, share, "set_split")
    by_sigma = AmbientObjective(sigma_tn, mixing="sigma_split")
    assert by_sigma.noisy_share == pytest.approx(share)
    u, v = (torch.rand(40_000, generator=_g(seed), dtype=torch.float64) for seed in (5, 6))
    s1, b1 = by_set.noise_levels(u)
    s2, b2 = by_sigma.noise_levels(v)
    assert stats.ks_2samp(s1.numpy(), s2.numpy()).pvalue > 0.01
    assert abs(b1.double().mean() - b2.double().mean()) < 0.015
    paired, _ = by_sigma.noise_levels(u)
    torch.testing.assert_close(s1, paired, rtol=1e-5, atol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sigma_tn", [0.1, 0.5, 4.0])
def test_set_split_keeps_ratio_and_sides(ratio, sigma_tn):
    sigma, noisy = AmbientObjective(sigma_tn, ratio).noise_levels(
        torch.rand(20_000, generator=_g(7), dtype=torch.float64)
    )
    assert noisy.double().mean().item() == pytest.approx(ratio, abs=0.012)
    assert bool(((sigma > sigma_tn) == noisy).all())
    above, below = sigma[noisy].numpy(), sigma[~noisy].numpy()
    levels = LogNormal()
    for drawn, interval in ((above, {"low": sigma_tn}), (below, {"high": sigma_tn})):
        if len(drawn):
            reference = levels.sample(20_000, **interval, generator=_g(8)).numpy()
            assert stats.ks_2samp(drawn, reference).pvalue > 0.01


def test_image_split_shows_noisy_images_above_the_threshold_only():
    objective = AmbientObjective(0.5, mixing="image_split")
    marked = torch.arange(20_000) % 3 == 0
    sigma, noisy = objective.noise_levels(torch.rand(20_000, generator=_g(9), dtype=torch.float64), marked)
    assert torch.equal(noisy, marked)
    assert bool((sigma[marked] > 0.5).all())
    clean_levels = LogNormal().sample(20_000, generator=_g(10)).numpy()
    assert stats.ks_2samp(sigma[~marked].numpy(), clean_levels).pvalue > 0.01
    with pytest.raises(ValueError, match="noisy_image"):
        objective.noise_levels(torch.rand(3, dtype=torch.float64))


@pytest.mark.parametrize("mixing", ["sigma_split", "set_split"])
def test_the_exact_denoiser_beats_its_neighbours_under_every_mixing(mixing):
    """E[x0 | x_s] is the minimum of the mixed loss, whatever the mixture."""
    clean = DATA.draw(100_000, _g(11)).float()
    noise = torch.randn(clean.shape, generator=_g(12))
    objective = AmbientObjective(0.5, 0.5, mixing)

    def value(denoiser):
        return objective.loss(denoiser, clean, noise, generator=_g(13)).mean().item()

    best = value(DATA.denoiser)
    for change in (lambda d: 1.05 * d, lambda d: 0.95 * d, lambda d: d + 0.05, lambda d: d - 0.05):
        assert value(lambda x, s, labels=None, change=change: change(DATA.denoiser(x, s))) > best


def test_flipping_image_and_noise_together_never_shows_the_other_side_clean():
    """Averaged over flips, un-flipped, the noisy images are one fixed y: nothing more about x leaks."""
    clean, noise = _batch(8)
    flip = torch.tensor([True, False] * 4)
    x, n = flip_together(clean, noise, flip)
    y = x + 0.5 * n
    restored = torch.where(flip.view(-1, 1, 1, 1), y.flip(-1), y)
    assert torch.equal(restored, clean + 0.5 * noise)
    assert torch.equal(x[1], clean[1])
    assert torch.equal(x[0], clean[0].flip(-1))
    assert flip_together(clean, None, flip)[1] is None


def test_shifting_image_and_noise_together_never_shows_a_pixel_in_another_light():
    """Moved back, every noisy image is the same fixed y: nothing more about x leaks, at the edges neither."""
    clean, noise = _batch(9)
    shift = torch.tensor([(y, x) for y in (-2, 0, 1) for x in (-1, 0, 2)])
    x, n = shift_together(clean, noise, shift)
    y = x + 0.5 * n
    for k, (down, right) in enumerate(shift.tolist()):
        assert torch.equal(y[k].roll((-down, -right), (-2, -1)), clean[k] + 0.5 * noise[k])
    assert torch.equal(x[4], clean[4].roll((0, 0), (-2, -1)))
    assert torch.equal(x[0, :, 0, 0], clean[0, :, 2, 1])  # two up and one to the left
    assert shift_together(clean, None, shift)[1] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma_tn": -1.0}, "sigma_tn must be a finite noise level of 0 or more, got -1.0"),
        ({"sigma_tn": float("nan")}, "sigma_tn"),
        ({"noisy_ratio": 1.5}, r"noisy_ratio must lie in \[0, 1\], got 1.5"),
        ({"mixing": "half"}, "mixing must be one of sigma_split, set_split, image_split, got 'half'"),
        ({"weighting": "none"}, "weighting must be one of"),
        ({"p_std": 0.0}, "p_std above 0"),
        ({"sigma_data": 0.0}, "sigma_data must be above 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ObjectiveError, match=message):
        AmbientObjective(**settings)


def test_a_threshold_needs_the_fixed_noise():
    clean, _ = _batch()
    with pytest.raises(ValueError, match="fixed_noise"):
        AmbientObjective(0.5).loss(EDMPrecond(Net()), clean, None, generator=_g())
