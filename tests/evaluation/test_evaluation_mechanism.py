"""The denoising gap of closed forms: the denoiser that knows S by heart, and that of the distribution."""

import numpy as np
import pytest
import torch

from ambient_ray.diffusion import empirical_denoiser
from ambient_ray.errors import UserError
from ambient_ray.evaluation import bootstrap_interval, denoising_gap, denoising_gaps, denoising_losses


def gaussian_images(n: int, seed: int) -> torch.Tensor:
    return 0.5 * torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def ideal(x, sigma, labels=None):
    """E[x0 | x] for pixels ~ N(0, 0.25)."""
    return x * 0.25 / (0.25 + sigma.view(-1, 1, 1, 1).square())


def test_the_ideal_denoiser_of_the_distribution_has_no_gap():
    train, heldout = gaussian_images(300, 0), gaussian_images(300, 1)
    estimate = denoising_gap(ideal, train, heldout)
    assert estimate.low < 0 < estimate.high
    assert estimate.high - estimate.low < 0.1


def test_its_loss_is_the_posterior_variance():
    sigmas = (0.2, 0.5, 1.0)
    losses = denoising_losses(ideal, gaussian_images(4000, 0), sigmas=sigmas).mean(axis=0)
    # lambda(s) * 0.25 s^2 / (s^2 + 0.25) = 1 at sigma_data = 0.5, whatever s.
    assert losses == pytest.approx([1, 1, 1], rel=0.02)


def test_the_denoiser_that_knows_the_subset_by_heart_has_gap_one():
    train, heldout = gaussian_images(50, 0), gaussian_images(80, 1)

    def memorized(x, sigma, labels=None):
        return torch.cat([empirical_denoiser(x[i : i + 1], sigma[i : i + 1], train) for i in range(len(x))])

    estimate = denoising_gap(memorized, train, heldout, sigmas=(0.05, 0.1))
    assert estimate.value > 0.99
    assert estimate.low > 0.98


def test_bands_say_at_which_levels_it_knows_its_images_by_heart():
    """Below sigma 1 the training images themselves, above it the distribution: as Ambient training is meant to be."""
    train, heldout = gaussian_images(60, 0), gaussian_images(200, 1)

    def mixed(x, sigma, labels=None):
        copied = torch.cat([empirical_denoiser(x[i : i + 1], sigma[i : i + 1], train) for i in range(len(x))])
        return torch.where(sigma.view(-1, 1, 1, 1) < 1, copied, ideal(x, sigma))

    sigmas = (0.05, 0.1, 1.5, 3.0)
    found = denoising_gaps(mixed, train, heldout, sigmas=sigmas)
    assert found.sigmas == sigmas
    low, lower, high, higher = found.bands
    assert min(low.low, lower.low) > 0.97
    assert high.low < 0 < high.high and higher.low < 0 < higher.high


def test_bands_are_the_gap_at_one_sigma_and_their_losses_make_the_whole():
    train, heldout = gaussian_images(30, 0), 1.3 * gaussian_images(50, 1)
    found = denoising_gaps(ideal, train, heldout, seed=4)
    assert found.overall == denoising_gap(ideal, train, heldout, seed=4)
    assert found.overall.value == pytest.approx(1 - found.train.mean() / found.heldout.mean())
    seen, unseen = (denoising_losses(ideal, images, seed=4) for images in (train, heldout))
    for k, band in enumerate(found.bands):
        alone = bootstrap_interval(lambda a, b: (b - a) / b, seen[:, k], unseen[:, k], seed=4)
        assert (band.value, band.low, band.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_noise_is_common_to_all_calls_and_batch_sizes():
    images = gaussian_images(40, 0)
    state = torch.get_rng_state()
    whole = denoising_losses(ideal, images, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_allclose(denoising_losses(ideal, images, seed=3, batch_size=7), whole, rtol=1e-5)
    np.testing.assert_allclose(denoising_losses(ideal, images[:10].numpy(), seed=3), whole[:10], rtol=1e-5)
    assert not np.allclose(denoising_losses(ideal, images, seed=4), whole)


def test_labels_reach_the_denoiser():
    seen = []

    def conditional(x, sigma, labels=None):
        seen.append(labels)
        return x

    images = gaussian_images(6, 0)
    denoising_gap(
        conditional,
        images,
        images,
        train_labels=np.arange(6),
        heldout_labels=torch.arange(6) + 10,
        sigmas=(1.0,),
    )
    assert [labels.tolist() for labels in seen] == [list(range(6)), list(range(10, 16))]


def test_refuses_stored_images_and_single_ones():
    with pytest.raises(UserError, match="float images"):
        denoising_losses(ideal, np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match="at least two"):
        denoising_gap(ideal, gaussian_images(1, 0), gaussian_images(5, 0))
