"""The two training losses: EDM's, against a clean image, and Ambient's, against a noisy one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[..., Tensor]
"""Any callable (x [B,C,H,W], sigma [B], labels=None) -> D [B,C,H,W]."""

WEIGHTINGS = ("paper", "compensated")
COMPENSATION_CAP = 4.0
"""Default bound on 1/a in the compensated weighting: the residual variance stays below cap * sigma_tn^2."""


def edm_weight(sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """lambda(s) = (s^2 + sd^2) / (s sd)^2, 1 over c_out^2 (Karras et al. 2022, Table 1)."""
    return (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()


def ambient_coefficient(sigma: Tensor, sigma_tn: float) -> Tensor:
    """a = (s^2 - sigma_tn^2) / s^2, as a product: it keeps its digits where s is close to sigma_tn."""
    return (sigma - sigma_tn) * (sigma + sigma_tn) / sigma.square()


def ambient_weight(
    sigma: Tensor, sigma_tn: float, *, weighting: str, sigma_data: float = 0.5, cap: float = COMPENSATION_CAP
) -> Tensor:
    """The Ambient branch's weight: lambda(s) (`paper`) or lambda(s) / max(a, 1/cap)^2 (`compensated`).

    `compensated` undoes the factor a that h = a D + (1 - a) x puts on D's error. Uncapped it would blow up at
    s -> sigma_tn, so the cap must be finite. ValueError for another name or cap.
    """
    check_weighting(weighting, cap)
    weight = edm_weight(sigma, sigma_data)
    if weighting == "paper":
        return weight
    return weight / ambient_coefficient(sigma, sigma_tn).clamp(min=1.0 / cap).square()


def check_weighting(weighting: str, cap: float) -> None:
    """Refuse an unknown weighting or a cap outside [1, inf) with a ValueError."""
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if not 1.0 <= cap < float("inf"):
        raise ValueError(f"the compensation cap must be finite and at least 1, got {cap}")


def call_denoiser(denoiser: Denoiser, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
    """Call a denoiser, naming labels only when there are some, so that two-argument functions serve too."""
    return denoiser(x, sigma) if labels is None else denoiser(x, sigma, labels=labels)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Reshape [B] to [B,1,1,1] (as many ones as `like` needs)."""
    return values.view(-1, *([1] * (like.ndim - 1)))


def mean_square(difference: Tensor) -> Tensor:
    """Mean square over everything but the batch: [B,...] -> [B]."""
    return difference.square().flatten(1).mean(dim=1)


def denoising_loss(
    denoiser: Denoiser,
    clean: Tensor,
    sigma: Tensor,
    *,
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    sigma_data: float = 0.5,
) -> Tensor:
    """lambda(s) |D(x0 + s e, s) - x0|^2, mean over pixels (Karras et al. 2022, eq. 2).

    clean: [B,C,H,W] in [-1, 1]; sigma: [B], > 0. Returns [B].
    """
    noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    x = clean + per_image(sigma, clean) * noise
    d = call_denoiser(denoiser, x, sigma, labels)
    return edm_weight(sigma, sigma_data) * mean_square(d - clean)


def ambient_loss(
    denoiser: Denoiser,
    noisy: Tensor,
    sigma: Tensor,
    sigma_tn: float,
    *,
    weighting: str = "paper",
    labels: Tensor | None = None,
    generator: torch.Generator | None = None,
    sigma_data: float = 0.5,
    cap: float = COMPENSATION_CAP,
) -> Tensor:
    """lambda(s) |h - y|^2, h = a D(y_s, s) + (1 - a) y_s: learns E[x0 | x_s] from y = x0 + sigma_tn n alone.

    y_s = y + sqrt(s^2 - sigma_tn^2) e and a = (s^2 - sigma_tn^2)/s^2 (Ambient Diffusion's consistency of x_0
    and x_tn: E[x_tn | x_s] = a E[x0 | x_s] + (1 - a) x_s; SCIENCE.md 2).

    noisy: y, [B,C,H,W]; sigma: [B], each at least sigma_tn (below it the loss is NaN, never silently another
    loss); weighting: `paper` or `compensated`, capped. Returns [B].
    """
    noise = torch.randn(noisy.shape, generator=generator, device=noisy.device, dtype=noisy.dtype)
    a = per_image(ambient_coefficient(sigma, sigma_tn), noisy)
    x = noisy + per_image(sigma, noisy) * a.sqrt() * noise
    d = call_denoiser(denoiser, x, sigma, labels)
    h = a * d + (1.0 - a) * x
    weight = ambient_weight(sigma, sigma_tn, weighting=weighting, sigma_data=sigma_data, cap=cap)
    return weight * mean_square(h - noisy)
