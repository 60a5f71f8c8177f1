"""Closed-form denoisers of a finite training set: what an infinitely expressive model would reach."""

from __future__ import annotations

import torch
from torch import Tensor


def empirical_denoiser(x: Tensor, sigma: Tensor | float, images: Tensor) -> Tensor:
    """E[x0 | x_s], x0 uniform over `images`: sum_i w_i x_i with w = softmax(-|x - x_i|^2 / 2 s^2).

    x: [B,...]; sigma: [B] or a number, > 0; images: [N,...]. Distances and the softmax are float64 inside, so
    small sigma keeps its digits; returns x's dtype.
    """
    s = _levels(sigma, x)
    return _posterior_mean(x.flatten(1), s.square(), images.flatten(1)).view_as(x).to(x.dtype)


def ambient_empirical_denoiser(x: Tensor, sigma: Tensor | float, noisy: Tensor, sigma_tn: float) -> Tensor:
    """The Ambient loss's minimiser over the noisy set y_i, for sigma > sigma_tn.

    h = sum_i w_i y_i with w = softmax(-|x - y_i|^2 / 2 (s^2 - sigma_tn^2)); D = (h - (1 - a) x) / a.

    x: [B,...]; sigma: [B] or a number; noisy: [N,...]. ValueError where sigma <= sigma_tn: there the clean
    set counts.
    """
    s = _levels(sigma, x)
    if bool((s <= sigma_tn).any()):
        raise ValueError(f"the ambient denoiser is defined for sigma above sigma_tn = {sigma_tn} only")
    variance = (s - sigma_tn) * (s + sigma_tn)
    a = (variance / s.square())[:, None]
    flat = x.flatten(1).double()
    h = _posterior_mean(flat, variance, noisy.flatten(1))
    return ((h - (1.0 - a) * flat) / a).view_as(x).to(x.dtype)


def _levels(sigma: Tensor | float, x: Tensor) -> Tensor:
    return torch.as_tensor(sigma, dtype=torch.float64, device=x.device).expand(x.shape[0])


def _posterior_mean(x: Tensor, variance: Tensor, points: Tensor) -> Tensor:
    """Softmax-weighted mean of points [N,d] around x [B,d] at a variance [B], in float64."""
    x, points = x.double(), points.double()
    centre = points.mean(dim=0)  # the product form of the distance loses digits to a common offset
    x, points = x - centre, points - centre
    # |x - p|^2 without |x|^2, which the softmax cancels.
    logits = (x @ points.T - 0.5 * points.square().sum(dim=1)) / variance[:, None]
    return torch.softmax(logits, dim=1) @ points + centre
