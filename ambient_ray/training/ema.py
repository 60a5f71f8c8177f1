"""The exponential moving average of the weights, with a half-life in images."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ambient_ray.diffusion import EDMPrecond


def ema_decay(images: int, images_seen: int, *, halflife: float, warmup: float) -> float:
    """How much of the average stays after a step of `images` that ends at `images_seen`: in [0, 1).

    0.5^(images / h) with h = min(halflife, warmup * images_seen), or h = halflife without warm-up (0): early
    on the average forgets its random start (Karras et al. 2022, appendix F.1).
    """
    if warmup > 0:
        halflife = min(halflife, warmup * images_seen)
    return float(0.5 ** (images / halflife))


class Ema:
    """A copy of a model whose weights follow it on average; in evaluation mode, without gradients."""

    def __init__(self, model: EDMPrecond, *, halflife: float, warmup: float) -> None:
        """Start from the model's own weights."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._halflife, self._warmup = halflife, warmup
        self._mean = [parameter.detach() for parameter in self.model.parameters()]
        self._live: list[Tensor] = list(model.parameters())  # themselves, as their memory may move (packed trials)
        self._buffers = list(zip(self.model.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, images: int, images_seen: int) -> None:
        """Follow the model after a step; buffers are copied. One call for all weights."""
        decay = ema_decay(images, images_seen, halflife=self._halflife, warmup=self._warmup)
        torch._foreach_lerp_(self._mean, self._live, 1.0 - decay)
        for mean, live in self._buffers:
            mean.copy_(live)
