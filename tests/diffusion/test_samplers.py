import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from gaussians import GaussianData

from ambient_ray.diffusion import (
    NonFiniteSamplesError,
    ambient_empirical_denoiser,
    empirical_denoiser,
    heun_sampler,
    karras_schedule,
    latents,
    sample,
)

DATA = GaussianData()


def _images(n=40, seed=0):
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def test_schedule_is_karras_equation_5():
    levels = karras_schedule(18, 0.002, 80.0, 7.0, "cpu")
    i = torch.arange(18, dtype=torch.float64)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(levels[:-1], expected)
    assert levels[-1] == 0
    assert len(levels) == 19
    assert karras_schedule(1).tolist() == [80.0, 0.0]
    for wrong in ({"steps": 0}, {"steps": 5, "sigma_min": 0.0}, {"steps": 5, "sigma_min": 90.0}):
        with pytest.raises(ValueError, match=r"steps|sigma_min"):
            karras_schedule(**wrong)


def test_heun_converges_at_second_order_on_gaussian_data():
    """The flow of N(mu, C) has a closed form: each mode shrinks by sqrt((c + s1^2)/(c + s0^2))."""
    z = torch.randn(64, *DATA.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(DATA.cov)
    start = (80.0 * z.flatten(1) - DATA.mu) @ vectors
    exact = (start * (values / (values + 80.0**2)).sqrt()) @ vectors.T + DATA.mu

    def error(steps):
        # sigma_min so small that the last Euler step does not count
        x = heun_sampler(DATA.denoiser, z, steps=steps, sigma_min=1e-4)
        return (x.flatten(1) - exact).norm(dim=1).mean().item()

    errors = [error(steps) for steps in (32, 64, 128, 256)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (orders > 1.8).all(), orders
    assert errors[-1] < 1e-3


def test_evaluations_and_labels():
    seen = []

    def denoiser(x, sigma, labels=None):
        seen.append((float(sigma[0]), labels))
        return torch.zeros_like(x)

    labels = torch.tensor([3, 4])
    heun_sampler(denoiser, torch.ones(2, 1, 2, 2), steps=5, labels=labels)
    assert len(seen) == 9
    assert seen[0][0] == 80.0
    assert all(given is labels for _, given in seen)


def test_one_row_of_noise_level_goes_to_those_denoisers_only_that_ask_for_it():
    class Denoiser:
        def __call__(self, x, sigma):
            self.rows = sigma.shape
            return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    usual, one = Denoiser(), Denoiser()
    one.broadcasts_noise_level = True
    z = torch.randn(3, 1, 2, 2)
    assert torch.equal(heun_sampler(usual, z), heun_sampler(one, z))
    assert (usual.rows, one.rows) == ((3,), (1,))


@pytest.mark.parametrize(
    ("n", "batch_size", "size"), [(500, 250, 250), (500, 256, 250), (7, 3, 3), (4, 9, 4), (9, 8, 5)]
)
def test_batches_are_as_even_as_their_bound_allows(n, batch_size, size):
    seen = set()
    sample(lambda x, sigma: seen.add(len(x)) or x, n, (1, 1, 1), seed=0, batch_size=batch_size, steps=1)
    assert seen == {size}


@pytest.mark.parametrize("sigma_tn", [0.0, 0.2, 0.5, 1.0, 2.0, 4.0])
def test_the_closed_form_sampler_copies_the_training_set(sigma_tn):
    """Infinite capacity memorizes 100 % at every sigma_tn: Ambient's gain must come from somewhere else."""
    images = _images()
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = images + sigma_tn * noise

    def denoiser(x, sigma, labels=None):
        level = float(sigma[0])
        if level > sigma_tn > 0:
            return ambient_empirical_denoiser(x, sigma, noisy, sigma_tn)
        return empirical_denoiser(x, sigma, images)

    x = heun_sampler(denoiser, latents(64, (1, 6, 6), seed=0).double(), steps=40)
    d1, d2 = torch.cdist(x.flatten(1), images.flatten(1)).topk(2, largest=False).values.unbind(1)
    assert (d1 / d2 < 1 / 3).double().mean() == 1.0
    assert d1.max() < 1e-3


def test_latent_j_depends_on_seed_and_j_only():
    whole = latents(10, (3, 4, 4), seed=5)
    assert torch.equal(latents(4, (3, 4, 4), seed=5, start=3), whole[3:7])
    torch.manual_seed(99)
    assert torch.equal(latents(10, (3, 4, 4), seed=5), whole)
    assert not torch.equal(latents(10, (3, 4, 4), seed=6), whole)
    many = latents(20_000, (1, 4, 4), seed=0)
    assert len(torch.unique(many[:, 0, 0, :2], dim=0)) == len(many), "two samples share a latent"
    assert many.mean().abs() < 0.01
    assert many.std().item() == pytest.approx(1.0, abs=0.01)
    corr = np.corrcoef(many[:-1].flatten(1).numpy().ravel(), many[1:].flatten(1).numpy().ravel())[0, 1]
    assert abs(corr) < 0.01


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_samples_do_not_depend_on_the_batch_size_or_the_part_drawn(batch_size):
    def draw(n, start=0, size=batch_size):
        return sample(DATA.denoiser, n, DATA.shape, seed=1, batch_size=size, steps=6, start=start)

    whole = draw(7, size=7)
    assert whole.shape == (7, 2, 2, 1)
    assert whole.dtype == np.uint8
    assert np.abs(draw(7).astype(int) - whole).max() <= 1
    assert np.abs(draw(3, start=4).astype(int) - whole[4:]).max() <= 1
    assert sample(DATA.denoiser, 0, DATA.shape, seed=1, batch_size=4).shape == (0, 2, 2, 1)


def test_a_compiled_network_would_see_one_shape_and_every_sample_its_label():
    shapes = set()

    def denoiser(x, sigma, labels=None):
        shapes.add(tuple(x.shape))
        return (labels.view(-1, 1, 1, 1) / 127.5 - 1).expand_as(x)

    labels = np.arange(7)
    images = sample(denoiser, 7, (1, 2, 2), seed=0, batch_size=3, labels=labels, steps=2)
    assert shapes == {(3, 1, 2, 2)}
    assert images[:, 0, 0, 0].tolist() == list(range(7))


def test_pixels_are_rounded_and_clipped():
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).view(5, 1, 1, 1)
    out = sample(lambda x, s: values, 5, (1, 1, 1), seed=0, batch_size=5, steps=1)
    assert out.ravel().tolist() == [0, 0, 128, 255, 255]


def test_non_finite_pixels_are_an_error_not_an_image():
    with pytest.raises(NonFiniteSamplesError, match="non-finite pixels in samples 0 to 2"):
        sample(lambda x, s: x * float("nan"), 3, (1, 2, 2), seed=0, batch_size=8, steps=2)


def test_a_module_is_sampled_in_evaluation_mode_and_put_back():
    class Noisy(nn.Module):
        def forward(self, x, sigma, labels=None):
            assert not self.training
            return torch.zeros_like(x)

    model = Noisy().train()
    sample(model, 2, (1, 2, 2), seed=0, batch_size=2, steps=2)
    assert model.training
