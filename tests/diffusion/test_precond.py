import pytest
import torch
from torch import nn

from ambient_ray.diffusion import EDMPrecond


class Probe(nn.Module):
    """A backbone that remembers what it was given and answers with a constant."""

    def __init__(self, value=0.0):
        super().__init__()
        self.value = value

    def forward(self, x, c_noise, labels):
        self.x, self.c_noise, self.labels = x, c_noise, labels
        return torch.full_like(x, self.value)


def test_inputs_and_targets_of_the_backbone_have_unit_variance():
    g = torch.Generator().manual_seed(0)
    clean = 0.5 * torch.randn(2000, 1, 4, 4, generator=g)
    for level in (0.01, 0.5, 20.0):
        sigma = torch.full((2000,), level)
        noisy = clean + level * torch.randn(clean.shape, generator=g)
        probe = Probe()
        skip = EDMPrecond(probe)(noisy, sigma)  # F = 0 leaves c_skip x
        assert probe.x.std().item() == pytest.approx(1.0, abs=0.02)
        c_out = level * 0.5 / (level**2 + 0.25) ** 0.5
        assert ((clean - skip) / c_out).std().item() == pytest.approx(1.0, abs=0.02)
        torch.testing.assert_close(probe.c_noise, sigma.log() / 4)


def test_limits():
    """D -> x without noise, whatever F says; D -> sigma_data F under overwhelming noise."""
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    model = EDMPrecond(Probe(1.0))
    torch.testing.assert_close(model(x, torch.full((3,), 1e-6)), x, atol=2e-6, rtol=0)
    torch.testing.assert_close(model(x, torch.full((3,), 1e6)), torch.full_like(x, 0.5), atol=1e-5, rtol=0)


def test_a_scalar_level_serves_the_whole_batch_and_labels_pass_through():
    probe, labels = Probe(0.3), torch.tensor([1, 2, 3])
    model = EDMPrecond(probe, sigma_data=0.7)
    x = torch.ones(3, 1, 2, 2)
    assert torch.equal(model(x, torch.tensor(2.0), labels), model(x, torch.full((3,), 2.0), labels))
    assert probe.labels is labels
    assert probe.c_noise.shape == (3,), "a backbone that does not ask for one row gets one for each image"


def test_refuses_data_without_spread():
    with pytest.raises(ValueError, match="sigma_data"):
        EDMPrecond(Probe(), sigma_data=0.0)
