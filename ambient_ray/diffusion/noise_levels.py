"""Distributions of training noise levels, truncated by inverse CDF: lognormal (exact in its tails) and rivals of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

# Below this log-probability float64 comes near its smallest number, so the inverse CDF works on the
# logarithm.
_LOG_TINY = -600.0
# The levels that sampling passes through (`karras_schedule`): what a bounded distribution trains.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


class NoiseLevels(Protocol):
    """A distribution of training noise levels."""

    def mass_above(self, sigma: float) -> float:
        """P(s > sigma), in [0, 1]."""
        ...

    def sample(
        self,
        n: int | Tensor,
        low: float = 0.0,
        high: float = math.inf,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Levels strictly inside (low, high), increasing in the uniforms; see `LogNormal.sample`."""
        ...


@dataclass(frozen=True)
class LogNormal:
    """ln sigma ~ N(p_mean, p_std^2), the noise levels of EDM training (Karras et al. 2022, Table 1).

    p_mean: mean of ln sigma; p_std: its standard deviation, > 0, or ValueError.
    """

    p_mean: float = -1.2
    p_std: float = 1.2

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (math.isfinite(self.p_mean) and math.isfinite(self.p_std) and self.p_std > 0):
            raise ValueError(f"p_mean must be finite and p_std above 0, got {self.p_mean} and {self.p_std}")

    def mass_above(self, sigma: float) -> float:
        """P(s > sigma), in [0, 1]; exact in the upper tail."""
        if sigma <= 0:
            return 1.0
        return 0.5 * math.erfc(self._z(sigma) / math.sqrt(2.0))

    def sample(
        self,
        n: int | Tensor,
        low: float = 0.0,
        high: float = math.inf,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Noise levels strictly inside (low, high), by inverse CDF: no rejection loop and no host sync.

        n: how many to draw with `generator` (on `device`, by default the generator's), or a tensor of
        uniforms in [0, 1), which is transformed where it lies; the map is increasing, so equal uniforms give
        paired levels. Arithmetic is float64; the tail beyond float64's smallest probability is inverted in
        log space. Returns `dtype`, in the shape of the uniforms. ValueError when no number of `dtype` lies
        between low and high.
        """
        uniform = _uniforms(n, low, high, generator, device)
        z = _truncated_normal(uniform, self._z(low), self._z(high))
        inside = _inside(low, high, dtype)
        return (z * self.p_std + self.p_mean).exp().to(dtype).clamp_(*inside)

    def _z(self, sigma: float) -> float:
        """Standard score of ln sigma; -inf at 0, inf at inf."""
        if sigma <= 0:
            return -math.inf
        return (math.log(sigma) - self.p_mean) / self.p_std


@dataclass(frozen=True)
class LogUniform:
    """ln sigma uniform over [ln sigma_min, ln sigma_max]: every octave of noise is trained alike.

    The flat reference among noise distributions; it spends as much on levels that hardly matter as on those in the
    middle, which is what Karras et al. 2022 (section 5) chose the lognormal to avoid.
    """

    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX

    def __post_init__(self) -> None:
        """Check the range."""
        _check_ends(self.sigma_min, self.sigma_max)

    def mass_above(self, sigma: float) -> float:
        """P(s > sigma), in [0, 1]."""
        sigma = min(max(sigma, self.sigma_min), self.sigma_max)
        return math.log(self.sigma_max / sigma) / math.log(self.sigma_max / self.sigma_min)

    def sample(
        self,
        n: int | Tensor,
        low: float = 0.0,
        high: float = math.inf,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Levels strictly inside (low, high), increasing in the uniforms; see `LogNormal.sample`."""
        uniform = _uniforms(n, low, high, generator, device)
        first, last = _inside(*_cut(self.sigma_min, self.sigma_max, low, high), dtype)
        bottom, top = math.log(first), math.log(last)
        return (bottom + uniform * (top - bottom)).exp().to(dtype).clamp_(first, last)


@dataclass(frozen=True)
class Cosine:
    """The cosine schedule of Nichol and Dhariwal 2021 (section 3.2), in EDM's terms.

    Variance-preserving x_t = cos(pi t / 2) x + sin(pi t / 2) e with t uniform is, divided by the cosine, noise of level
    sigma = tan(pi t / 2): ln sigma has a hyperbolic secant's density around 0. Without the paper's small offset, and
    with t cut so that sigma stays within [sigma_min, sigma_max].
    """

    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX

    def __post_init__(self) -> None:
        """Check the range."""
        _check_ends(self.sigma_min, self.sigma_max)

    def mass_above(self, sigma: float) -> float:
        """P(s > sigma), in [0, 1]."""
        sigma = min(max(sigma, self.sigma_min), self.sigma_max)
        top, bottom = math.atan(self.sigma_max), math.atan(self.sigma_min)
        return (top - math.atan(sigma)) / (top - bottom)

    def sample(
        self,
        n: int | Tensor,
        low: float = 0.0,
        high: float = math.inf,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Levels strictly inside (low, high), increasing in the uniforms; see `LogNormal.sample`."""
        uniform = _uniforms(n, low, high, generator, device)
        first, last = _inside(*_cut(self.sigma_min, self.sigma_max, low, high), dtype)
        bottom, top = math.atan(first), math.atan(last)
        return (bottom + uniform * (top - bottom)).tan().to(dtype).clamp_(first, last)


def _uniforms(
    n: int | Tensor,
    low: float,
    high: float,
    generator: torch.Generator | None,
    device: torch.device | str | None,
) -> Tensor:
    """The uniforms that were given, or new ones, in float64. ValueError for an empty interval of levels."""
    if not (low >= 0 and high > low):
        raise ValueError(f"the interval of noise levels must satisfy 0 <= low < high, got ({low}, {high})")
    if isinstance(n, Tensor):
        return n.double()
    where = device if device is not None else (generator.device if generator is not None else None)
    return torch.rand(n, generator=generator, device=where, dtype=torch.float64)


def _check_ends(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"noise levels need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")


def _cut(sigma_min: float, sigma_max: float, low: float, high: float) -> tuple[float, float]:
    """The part of (low, high) that a bounded distribution has. ValueError when it has none."""
    first, last = max(sigma_min, low), min(sigma_max, high)
    if first >= last:
        raise ValueError(f"no noise level of [{sigma_min}, {sigma_max}] lies between {low} and {high}")
    return first, last


def _truncated_normal(u: Tensor, a: float, b: float) -> Tensor:
    """Inverse CDF of N(0, 1) truncated to (a, b), increasing in u (float64)."""
    u = u.clamp(2.0**-54, 1.0 - 2.0**-53)  # open ends: 0 would map to -inf on an unbounded side
    if a > 0:  # the far side of the mode: mirror, so that small probabilities are never 1 - something
        return -_truncated_normal(1.0 - u, -b, -a)
    log_top = _log_ndtr(b)
    bottom = math.exp(_log_ndtr(a) - log_top)  # P(z < a) / P(z < b)
    share = bottom + u * (1.0 - bottom)
    if log_top > _LOG_TINY:
        z: Tensor = torch.special.ndtri(share * math.exp(log_top))
        return z
    return _ndtri_of_log(share.log() + log_top)


def _ndtri_of_log(log_p: Tensor) -> Tensor:
    """Solve ln P(Z < z) = log_p far below zero by Newton's method.

    ln P(Z < z) is concave and increasing and the start lies below the root, so the steps rise to it
    monotonically; out there they converge in two or three.
    """
    z = -(-2.0 * log_p).sqrt()
    for _ in range(6):
        value = torch.special.log_ndtr(z)
        slope = (-0.5 * z.square() - 0.5 * math.log(2.0 * math.pi) - value).exp()
        z = z + (log_p - value) / slope
    return z


def _log_ndtr(z: float) -> float:
    """ln P(Z < z) as a Python number."""
    if z == -math.inf:
        return -math.inf
    if z > -30:
        return math.log(0.5 * math.erfc(-z / math.sqrt(2.0)))
    # Asymptotic series of the Mills ratio; the first term left out is below 105/z^8 < 2e-10.
    r = 1.0 / (z * z)
    return -0.5 * z * z - math.log(-z) - 0.5 * math.log(2 * math.pi) + math.log1p(r * (-1 + r * (3 - 15 * r)))


def _inside(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """Smallest and largest number of `dtype` strictly inside (low, high), which rounding must not leave."""
    np_type = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):
        first, last = np_type(low), np_type(high)
    first = np.nextafter(first, np_type(np.inf)) if float(first) <= low else first
    last = np.nextafter(last, np_type(0)) if float(last) >= high else last
    # Comparisons of float32 tensors with a Python number round the number: stay beyond its rounded value too.
    first = np.nextafter(first, np_type(np.inf)) if first == np_type(low) else first
    last = np.nextafter(last, np_type(0)) if last == np_type(high) else last
    if not first <= last:
        raise ValueError(f"no {dtype} number lies strictly between {low} and {high}")
    return float(first), float(last)
