"""Effective model memorization: up to how many training images a model copies nearly all that it samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .records import TrialRecord

EMM_SHARE = 0.9


@dataclass(frozen=True)
class MemorizedSize:
    """Where the share of copies falls below the threshold, as n_train grows.

    Attributes:
        sigma_tn: the threshold noise level of the trials; 0 is DDPM.
        low: the largest n_train that was tried at which the share is reached; None: at none.
        high: the next larger one that was tried, where it is not; None: none larger was tried.
    """

    sigma_tn: float
    low: int | None
    high: int | None

    def __str__(self) -> str:
        """One line for a report."""
        name = "DDPM" if self.sigma_tn == 0 else f"sigma_tn {self.sigma_tn:g}"
        if self.low is None:
            return f"{name}: below {self.high:,}"
        return f"{name}: at least {self.low:,}" if self.high is None else f"{name}: {self.low:,} to {self.high:,}"


def memorized_sizes(trials: Sequence[TrialRecord], *, share: float = EMM_SHARE) -> list[MemorizedSize]:
    """EMM (Gu et al. 2023, "On Memorization in Diffusion Models") for each sigma_tn, from trials of many n_train.

    A trial counts with f_mem at its last rung, where copying has got furthest; trials of one n_train are averaged.

    Args:
        trials: of a study over `dataset_size`; those without an n_train of their own or without a score do not count.
        share: of the samples that are copies, in (0, 1].
    """
    found: dict[float, dict[int, list[float]]] = {}
    for trial in trials:
        if trial.rungs and "n_train" in trial.settings and "sigma_tn" in trial.settings:
            sizes = found.setdefault(float(trial.settings["sigma_tn"]), {})
            sizes.setdefault(int(trial.settings["n_train"]), []).append(float(trial.rungs[-1].scores["f_mem"]))
    brackets = []
    for sigma_tn, sizes in sorted(found.items()):
        low = max((n for n, copied in sizes.items() if np.mean(copied) >= share), default=None)
        high = min((n for n in sizes if low is None or n > low), default=None)
        brackets.append(MemorizedSize(sigma_tn, low, high))
    return brackets
