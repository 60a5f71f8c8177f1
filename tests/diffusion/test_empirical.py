import pytest
import torch

from ambient_ray.diffusion import ambient_empirical_denoiser, ambient_loss, empirical_denoiser


def _images(n=30):
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_limits_of_the_empirical_denoiser():
    """The mean of the set under overwhelming noise, the nearest image under none, in either precision."""
    images = _images()
    near = images[:5] + 0.01 * torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        x, data = near.to(dtype), images.to(dtype)
        for sigma in (0.002, 0.01):
            found = empirical_denoiser(x, torch.full((5,), sigma, dtype=dtype), data)
            assert found.dtype == dtype
            torch.testing.assert_close(found, data[:5], atol=tolerance, rtol=0)
        torch.testing.assert_close(empirical_denoiser(x, 1e5, data), data.mean(0).expand_as(x), atol=1e-5, rtol=0)


def test_it_is_the_softmax_formula():
    images, x = _images(), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    sigma = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    d2 = (x[:, None] - images[None]).flatten(2).square().sum(2)
    w = torch.softmax(-d2 / (2 * sigma[:, None] ** 2), 1)
    torch.testing.assert_close(empirical_denoiser(x, sigma, images), torch.einsum("bn,nchw->bchw", w, images))


@pytest.mark.parametrize("sigma_tn", [0.2, 0.5, 2.0])
def test_the_ambient_oracle_minimises_the_ambient_loss(sigma_tn):
    """Against perturbed denoisers, on the noisy set itself: nothing does better on stored noise."""
    images = _images()
    g = torch.Generator().manual_seed(2)
    noisy = images + sigma_tn * torch.randn(images.shape, generator=g, dtype=torch.float64)
    batch = noisy.repeat(400, 1, 1, 1)
    sigma = torch.full((len(batch),), 1.5 * sigma_tn, dtype=torch.float64)

    def oracle(x, s, labels=None):
        return ambient_empirical_denoiser(x, s, noisy, sigma_tn)

    def loss(denoiser):
        g = torch.Generator().manual_seed(3)
        return ambient_loss(denoiser, batch, sigma, sigma_tn, generator=g).mean().item()

    best = loss(oracle)
    for change in (lambda d: 1.1 * d, lambda d: 0.9 * d, lambda d: d + 0.1, lambda d: d - 0.1):
        assert loss(lambda x, s, change=change: change(oracle(x, s))) > best
    assert loss(lambda x, s: empirical_denoiser(x, s, images)) > best


def test_the_ambient_oracle_is_refused_below_the_threshold():
    with pytest.raises(ValueError, match="above sigma_tn"):
        ambient_empirical_denoiser(_images(2), 0.5, _images(), 0.5)
