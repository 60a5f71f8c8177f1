"""Gaussian data with closed forms: the world in which both losses' minimisers are known exactly."""

import torch
from torch import nn


class GaussianData:
    """x0 ~ N(mu, C) over 1x2x2 images; the exact denoiser is mu + C (C + s^2 I)^-1 (x - mu)."""

    shape = (1, 2, 2)

    def __init__(self, seed=0, scale=0.5):
        g = torch.Generator().manual_seed(seed)
        root = torch.randn(4, 4, generator=g, dtype=torch.float64) * scale
        self.cov = root @ root.T / 4 + 0.02 * torch.eye(4, dtype=torch.float64)
        self.mu = 0.3 * torch.randn(4, generator=g, dtype=torch.float64)

    def draw(self, n, generator):
        root = torch.linalg.cholesky(self.cov)
        x = self.mu + torch.randn(n, 4, generator=generator, dtype=torch.float64) @ root.T
        return x.view(n, *self.shape)

    def gain(self, sigma):
        return self.cov @ torch.linalg.inv(self.cov + sigma**2 * torch.eye(4, dtype=torch.float64))

    def denoiser(self, x, sigma, labels=None):
        values, vectors = torch.linalg.eigh(self.cov)
        centred = (x.flatten(1).double() - self.mu) @ vectors
        shrunk = centred * values / (values + sigma.double()[:, None] ** 2)
        return (shrunk @ vectors.T + self.mu).view_as(x).to(x.dtype)


class Affine(nn.Module):
    """x -> A x + b over flattened images, the same at every sigma: enough to fit one noise level."""

    def __init__(self, d=4):
        super().__init__()
        self.layer = nn.Linear(d, d).double()

    def forward(self, x, sigma, labels=None):
        return self.layer(x.flatten(1)).view_as(x)
