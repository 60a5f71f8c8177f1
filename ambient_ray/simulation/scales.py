"""The scale on which a score is modelled: one where its seed noise is even and all values map to possible ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """A monotone map of a score, and back.

    Attributes:
        kind: "share" (arcsine of the root: the variance of a share of n samples is 1 / 4n everywhere, and what lies
            beyond either end comes back as 0 or 1), "log" (positive scores whose noise is relative) or "asinh" (scores
            that may be negative: linear near zero, logarithmic beyond `unit`).
        unit: for "asinh", the value at which it turns.
        step: observed shares are multiples of this (1 / samples); 0 when none is known.
    """

    kind: str
    unit: float = 1.0
    step: float = 0.0

    def forward(self, values: Array) -> Array:
        """From scores to the modelled scale; NaN stays NaN."""
        if self.kind == "share":
            return np.asarray(np.arcsin(np.sqrt(np.clip(values, 0.0, 1.0))))
        if self.kind == "log":
            return np.asarray(np.log(values))
        return np.asarray(np.arcsinh(values / self.unit))

    def back(self, values: Array, *, rounded: bool = False) -> Array:
        """From the modelled scale to scores; `rounded` to what can be observed."""
        if self.kind == "share":
            share = np.sin(np.clip(values, 0.0, np.pi / 2)) ** 2
            return np.asarray(np.round(share / self.step) * self.step if rounded and self.step else share)
        if self.kind == "log":
            return np.asarray(np.exp(values))
        return np.asarray(np.sinh(values) * self.unit)


def scale_for(name: str, values: Array) -> Scale:
    """The scale of a score, from its name and its recorded values (NaN where there is none)."""
    seen = values[np.isfinite(values)]
    if name.startswith(("f_mem", "s_tau", "s_null")) and (seen >= 0).all() and (seen <= 1).all():
        return Scale("share", step=_step(seen))
    if name.startswith(("fd", "kid", "loss")) and (seen > 0).all():
        return Scale("log")
    return Scale("asinh", unit=max(float(np.median(np.abs(seen))), 1e-12))


def _step(shares: Array) -> float:
    """1 / n of the smallest n below 10,001 that makes every share a whole number of n; 0 when there is none."""
    distinct = np.unique(shares)
    if len(distinct) < 2:
        return 0.0
    for n in range(1, 10_001):
        if np.allclose(distinct * n, np.round(distinct * n), atol=1e-6):
            return 1 / n
    return 0.0
