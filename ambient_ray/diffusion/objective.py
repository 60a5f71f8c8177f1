"""The training objective: how clean and noisy images are mixed over the noise levels, in one forward pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ambient_ray.errors import UserError

from .losses import (
    COMPENSATION_CAP,
    Denoiser,
    ambient_coefficient,
    ambient_weight,
    call_denoiser,
    check_weighting,
    edm_weight,
    mean_square,
    per_image,
)
from .noise_levels import SIGMA_MAX, SIGMA_MIN, Cosine, LogNormal, LogUniform, NoiseLevels

MIXINGS = ("sigma_split", "set_split", "image_split")
NOISE_DISTRIBUTIONS = ("lognormal", "loguniform", "cosine")


class ObjectiveError(UserError):
    """An objective setting is out of its range."""


class Draws(NamedTuple):
    """The randomness of one step: uniform [B] float64 in [0, 1) for the levels; noise [B,C,H,W] for x_s."""

    uniform: Tensor
    noise: Tensor

    @classmethod
    def new(cls, like: Tensor, generator: torch.Generator | None) -> Draws:
        """Draw for a batch shaped as `like`: the levels first, then the noise, as plain EDM training does."""
        uniform = torch.rand(like.shape[0], generator=generator, device=like.device, dtype=torch.float64)
        noise = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return cls(uniform, noise)


class DenoisingTask(NamedTuple):
    """x: [B,C,H,W] at levels sigma [B]; a: [B,1,1,1], the share of D in h, or None for 1; target: of h; weight: [B]."""

    x: Tensor
    sigma: Tensor
    a: Tensor | None
    target: Tensor
    weight: Tensor

    def loss(self, denoised: Tensor) -> Tensor:
        """Weighted loss of each image, [B], of the denoiser's answer [B,C,H,W]."""
        # On the clean branch a = 1, so h = D exactly and the loss is EDM's, to the bit.
        h = denoised if self.a is None else self.a * denoised + (1.0 - self.a) * self.x
        return self.weight * mean_square(h - self.target)


@dataclass(frozen=True)
class AmbientObjective:
    """Ambient Diffusion's loss of a mixed batch; at sigma_tn = 0 plain EDM, to the bit and the random number.

    sigma_tn: threshold noise level, >= 0. noisy_ratio: share of noisy draws (`set_split`; in `image_split`
    the caller fixes the images instead), in [0, 1]. mixing:
      sigma_split  s ~ lognormal; noisy where s > sigma_tn (the published code)
      set_split    noisy with probability noisy_ratio; s from the lognormal cut at sigma_tn on the branch's
      side
                   (Algorithm 1 at 1/2). One uniform decides branch and level, so with noisy_ratio = P(s >
                   sigma_tn) it is `sigma_split` draw by draw, and trials share their random numbers.
      image_split  the images marked noisy at s > sigma_tn only, the others at every s
    weighting, cap: see `ambient_weight`. sigma_data: standard deviation in lambda. noise_distribution: of the
    training noise levels: `lognormal` (p_mean, p_std: see `LogNormal`; the other two do not read them),
    `loguniform` (see `LogUniform`), or `cosine` (see `Cosine`). "s ~ lognormal" above stands for whichever it is.
    Raises ObjectiveError, naming the setting, when one is out of range.
    """

    sigma_tn: float = 0.0
    noisy_ratio: float = 0.5
    mixing: str = "set_split"
    weighting: str = "paper"
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_data: float = 0.5
    cap: float = COMPENSATION_CAP
    noise_distribution: str = "lognormal"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (math.isfinite(self.sigma_tn) and self.sigma_tn >= 0):
            raise ObjectiveError(f"sigma_tn must be a finite noise level of 0 or more, got {self.sigma_tn}")
        if not 0 <= self.noisy_ratio <= 1:
            raise ObjectiveError(f"noisy_ratio must lie in [0, 1], got {self.noisy_ratio}")
        if self.mixing not in MIXINGS:
            raise ObjectiveError(f"mixing must be one of {', '.join(MIXINGS)}, got {self.mixing!r}")
        if not (math.isfinite(self.sigma_data) and self.sigma_data > 0):
            raise ObjectiveError(f"sigma_data must be above 0, got {self.sigma_data}")
        if self.noise_distribution not in NOISE_DISTRIBUTIONS:
            raise ObjectiveError(
                f"noise_distribution must be one of {', '.join(NOISE_DISTRIBUTIONS)}, got {self.noise_distribution!r}"
            )
        bounded = self.noise_distribution != "lognormal" and self.mixing != "sigma_split" and self.sigma_tn > 0
        if bounded and not SIGMA_MIN < self.sigma_tn < SIGMA_MAX:
            raise ObjectiveError(
                f"sigma_tn must lie between {SIGMA_MIN} and {SIGMA_MAX} with noise_distribution="
                f"{self.noise_distribution}, which has no levels elsewhere, got {self.sigma_tn}"
            )
        try:
            check_weighting(self.weighting, self.cap)
            LogNormal(self.p_mean, self.p_std)
        except ValueError as error:
            raise ObjectiveError(str(error)) from error

    @property
    def levels(self) -> NoiseLevels:
        """The distribution of training noise levels before any truncation."""
        if self.noise_distribution == "loguniform":
            return LogUniform()
        if self.noise_distribution == "cosine":
            return Cosine()
        return LogNormal(self.p_mean, self.p_std)

    @property
    def noisy_share(self) -> float:
        """Expected share of the draws that are noisy; for `image_split`, of the images."""
        if self.sigma_tn == 0:
            return 0.0
        return self.levels.mass_above(self.sigma_tn) if self.mixing == "sigma_split" else self.noisy_ratio

    def noise_levels(self, uniform: Tensor, noisy_image: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Levels and branch from uniforms [B]: (sigma float32 [B], noisy bool [B])."""
        levels, tn = self.levels, self.sigma_tn
        if tn == 0:
            return levels.sample(uniform), torch.zeros_like(uniform, dtype=torch.bool)
        if self.mixing == "sigma_split":
            sigma = levels.sample(uniform)
            return sigma, sigma > tn
        if self.mixing == "image_split":
            if noisy_image is None:
                raise ValueError("image_split needs noisy_image [B]: which images exist only noisy")
            return torch.where(noisy_image, levels.sample(uniform, low=tn), levels.sample(uniform)), noisy_image
        return self._set_split(uniform)

    def _set_split(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        ratio = self.noisy_ratio
        if ratio == 0:
            return self.levels.sample(uniform, high=self.sigma_tn), torch.zeros_like(uniform, dtype=torch.bool)
        if ratio == 1:
            return self.levels.sample(uniform, low=self.sigma_tn), torch.ones_like(uniform, dtype=torch.bool)
        noisy = uniform >= 1.0 - ratio
        # Each branch stretches its part of the unit interval back to [0, 1]; the other part is clamped and
        # unused.
        above = self.levels.sample(((uniform - (1.0 - ratio)) / ratio).clamp_(0.0, 1.0), low=self.sigma_tn)
        below = self.levels.sample((uniform / (1.0 - ratio)).clamp_(0.0, 1.0), high=self.sigma_tn)
        return torch.where(noisy, above, below), noisy

    def loss(
        self,
        denoiser: Denoiser,
        clean: Tensor,
        fixed_noise: Tensor | None,
        *,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        noisy_image: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Tensor:
        """Weighted loss of each image, [B]: one forward pass, static shapes, no host sync.

        clean: x0, [B,C,H,W] in [-1, 1]; fixed_noise: the images' own unit noise n_i, [B,C,H,W] (may be None
        at sigma_tn = 0); noisy_image: bool [B], for `image_split`; draws: the step's randomness, else from
        `generator`.
        """
        draws = Draws.new(clean, generator) if draws is None else draws
        task = self.task(clean, fixed_noise, draws, noisy_image)
        return task.loss(call_denoiser(denoiser, task.x, task.sigma, labels))

    def task(
        self, clean: Tensor, fixed_noise: Tensor | None, draws: Draws, noisy_image: Tensor | None = None
    ) -> DenoisingTask:
        """What the denoiser is asked, and what its answer is measured against: `loss` without the network."""
        sigma, noisy = self.noise_levels(draws.uniform, noisy_image)
        sigma = sigma.to(clean.dtype)
        weight = edm_weight(sigma, self.sigma_data)
        x = clean + per_image(sigma, clean) * draws.noise
        if self.sigma_tn == 0:
            return DenoisingTask(x, sigma, None, clean, weight)
        if fixed_noise is None:
            raise ValueError("sigma_tn above 0 needs fixed_noise: the images' own noise")
        a = torch.where(noisy, ambient_coefficient(sigma, self.sigma_tn), 1.0)
        if self.weighting != "paper":
            ambient = ambient_weight(
                sigma, self.sigma_tn, weighting=self.weighting, sigma_data=self.sigma_data, cap=self.cap
            )
            weight = torch.where(noisy, ambient, weight)
        noisy, a = per_image(noisy, clean), per_image(a, clean)
        y = clean + self.sigma_tn * fixed_noise
        x = torch.where(noisy, y + per_image(sigma, clean) * a.sqrt() * draws.noise, x)
        return DenoisingTask(x, sigma, a, torch.where(noisy, y, clean), weight)
