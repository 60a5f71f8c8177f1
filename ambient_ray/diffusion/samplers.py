"""Deterministic sampling: EDM's noise schedule, Heun's method, latents that belong to a sample's number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_MASK32 = 0xFFFFFFFF


class NonFiniteSamplesError(ValueError):
    """The denoiser returned NaN or infinity for some pixels."""


def karras_schedule(
    steps: int,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Levels from sigma_max to sigma_min and a final 0 (Karras et al. 2022, eq. 5): float64 [steps + 1]."""
    if steps < 1:
        raise ValueError(f"the number of sampling steps must be at least 1, got {steps}")
    if not 0 < sigma_min <= sigma_max:
        raise ValueError(f"sampling needs 0 < sigma_min <= sigma_max, got {sigma_min} and {sigma_max}")
    ramp = torch.linspace(0.0, 1.0, steps, dtype=torch.float64)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = (top + ramp * (bottom - top)) ** rho
    levels[0] = sigma_max
    return torch.cat([levels, levels.new_zeros(1)]).to(device)


@torch.no_grad()
def heun_sampler(
    denoiser: Callable[..., Tensor],
    latents: Tensor,
    *,
    steps: int = 18,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    labels: Tensor | None = None,
) -> Tensor:
    """Solve the probability-flow ODE with Heun's second-order method (Karras et al. 2022, Algorithm 1).

    denoiser: (x, sigma [B], labels=None) -> D; one that says that it `broadcasts_noise_level` gets sigma [1]. latents:
    [B,C,H,W] ~ N(0, I), scaled by sigma_max inside; labels: int64 [B] or None. 2 * steps - 1 evaluations. Returns
    [B,C,H,W] in the latents' dtype.
    """

    rows = 1 if getattr(denoiser, "broadcasts_noise_level", False) else len(latents)

    def slope(x: Tensor, level: float) -> Tensor:
        sigma = torch.full((rows,), level, dtype=x.dtype, device=x.device)
        d = denoiser(x, sigma) if labels is None else denoiser(x, sigma, labels=labels)
        gradient: Tensor = (x - d) / level
        return gradient

    levels: list[float] = karras_schedule(steps, sigma_min, sigma_max, rho).tolist()
    x = latents * levels[0]
    for now, then in pairwise(levels):
        first = slope(x, now)
        euler = x + (then - now) * first
        # The last step ends at sigma = 0, where the slope does not exist: Euler there.
        x = euler if then == 0 else x + (then - now) * 0.5 * (first + slope(euler, then))
    return x


def latents(n: int, shape: Sequence[int], *, seed: int, start: int = 0) -> Tensor:
    """Latents start .. start + n - 1, float32 [n,C,H,W] on the CPU; latent j depends on (seed, j) alone."""
    generator = torch.Generator()
    out = torch.empty((n, *shape), dtype=torch.float32)
    for k in range(n):
        generator.manual_seed(_latent_seed(seed, start + k))
        out[k].normal_(generator=generator)
    return out


def sample(
    denoiser: Callable[..., Tensor],
    n: int,
    shape: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    device: torch.device | str = "cpu",
    labels: npt.NDArray[np.int64] | Tensor | None = None,
    steps: int = 18,
    rho: float = 7.0,
    start: int = 0,
) -> npt.NDArray[np.uint8]:
    """Images start .. start + n - 1 of a latent seed, uint8 [n,H,W,C]; whatever batch_size (up to rounding).

    shape: (C, H, W); labels: int64 [n] or None; steps, rho: see `karras_schedule`. A module is sampled in
    evaluation mode and put back as it was. Every batch has the same shape (as even as batch_size allows, the last is
    padded), so a compiled network compiles once. Raises NonFiniteSamplesError when a pixel is NaN or infinite.
    """
    if n < 0 or batch_size < 1:
        raise ValueError(f"sampling needs n >= 0 and batch_size >= 1, got {n} and {batch_size}")
    training = isinstance(denoiser, nn.Module) and denoiser.training
    if training:
        denoiser.eval()  # type: ignore[attr-defined]
    size = max(1, math.ceil(n / max(1, math.ceil(n / batch_size))))
    wanted = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
    images = np.empty((n, *shape[1:], shape[0]), dtype=np.uint8)
    try:
        for first in range(0, n, size):
            z = latents(size, shape, seed=seed, start=start + first).to(device)
            part = None if wanted is None else wanted[torch.arange(first, first + size).clamp(max=n - 1)].to(device)
            x = heun_sampler(denoiser, z, steps=steps, rho=rho, labels=part)[: n - first]
            if not bool(torch.isfinite(x).all()):
                raise NonFiniteSamplesError(
                    f"non-finite pixels in samples {start + first} to {start + first + len(x) - 1}"
                )
            pixels = ((x.float() + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
            images[first : first + len(x)] = pixels.permute(0, 2, 3, 1).cpu().numpy()
    finally:
        if training:
            denoiser.train()  # type: ignore[attr-defined]
    return images


def _latent_seed(seed: int, number: int) -> int:
    """A seed for latent `number`, distinct for distinct numbers (torch's CPU generator keeps 32 bits only).

    The seed shifts the counter and murmur3's finalizer, a bijection, scatters neighbours.
    """
    high = _scatter((seed >> 32) & _MASK32)
    return _scatter((_scatter((seed ^ high) & _MASK32) + number) & _MASK32)


def _scatter(h: int) -> int:
    h ^= h >> 16
    h = h * 0x85EBCA6B & _MASK32
    h ^= h >> 13
    h = h * 0xC2B2AE35 & _MASK32
    return h ^ (h >> 16)
