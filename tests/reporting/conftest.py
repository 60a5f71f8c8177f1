"""Studies made of plain records, without training."""

from collections.abc import Callable

import numpy as np
import pytest

from ambient_ray.reporting.figures.study_figures import StudyView
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord

RUNGS = (1_000, 2_000, 4_000)
OBJECTIVES = Objectives("fd", "f_mem")


def rung(index: int, fd: float, f_mem: float, *, at: float = 0.0) -> RungRecord:
    scores = {"fd": fd, "fd_low": 0.9 * fd, "fd_high": 1.1 * fd, "f_mem": f_mem}
    scores |= {"f_mem_low": 0.8 * f_mem, "f_mem_high": min(1.0, 1.2 * f_mem + 0.01), "f_mem_heldout": 0.002}
    return RungRecord(index, RUNGS[index], scores, {}, f"trial/rung-{index}", 1.0, at)


def study_of(n: int, *, seed: int = 0, stop: bool = True) -> StudyView:
    """DDPM and n - 1 Ambient trials, better in the middle of sigma_tn; half of them are stopped at each rung."""
    rng = np.random.default_rng(seed)
    clock = iter(range(1, 10**6))
    trials = []
    for number in range(n):
        ddpm = number == 0
        sigma, ratio = float(np.exp(rng.uniform(np.log(0.1), np.log(4)))), float(rng.uniform(0.1, 0.9))
        settings = {"sigma_tn": 0.0} if ddpm else {"sigma_tn": sigma, "noisy_ratio": ratio}
        worse = 0.0 if ddpm else abs(np.log(sigma / 0.5))
        reached = 3 if ddpm or not stop else 1 + int(rng.random() < 0.5) + int(rng.random() < 0.25)
        noise = np.exp(0.1 * rng.standard_normal(3))
        rungs = tuple(
            rung(k, (10 + 5 * worse) / (1 + k) * noise[k], 0.05 * k * (2 if ddpm else 1 + worse), at=next(clock))
            for k in range(reached)
        )
        state = "finished" if reached == 3 else "stopped"
        reason = "" if state == "finished" else f"dominated at rung {reached} of 3"
        trials.append(TrialRecord(number, "ddpm" if ddpm else "ambient", settings, state, rungs, reason))
    searched = ("sigma_tn", "noisy_ratio")
    return StudyView("small", trials, OBJECTIVES, (20.0, 1.0), RUNGS, searched, champion=(0, 2))


@pytest.fixture
def make_study() -> Callable[..., StudyView]:
    return study_of


@pytest.fixture
def make_rung() -> Callable[..., RungRecord]:
    return rung
