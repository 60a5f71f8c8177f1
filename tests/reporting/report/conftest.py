"""A small study as it would be read back from MLflow: DDPM, Ambient, a rival, replicas, one stopped, one failed."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ambient_ray.tracking.labels import flat_params
from ambient_ray.tracking.reading import parsed
from ambient_ray.tracking.recording.events import RungScores
from ambient_ray.tracking.stored import StoredDataset, StoredStudy, StoredTrial

RUNGS = (1000, 2000, 4000)
CONFIG = {
    "study": "faces", "output_dir": "/home/somebody/outputs", "seed": 0, "trials": 6, "search_space": "ambient",
    "dataset": {"name": None, "path": "/home/somebody/private/faces", "n_train": 300},
    "backbone": {"_target_": "ambient_ray.diffusion.backbones.UNet", "layers_per_block": 2},
    "training": {"lr": 1e-3, "optimizer": "adam", "batch_size": 64, "flip": False},
    "evaluation": {"fidelity": "fd", "memorization": "f_mem", "tolerance": 0.05, "delta": 1.0, "samples": 500},
    "trial": {"rungs": list(RUNGS), "workers": 1, "reduction_factor": 2.0},
    "sampler": {"_target_": "optuna.samplers.TPESampler"},
    "confirm": {"top": 3, "seeds": 3, "rule": "matched", "max_memorization": None},
    "tracking": {"uri": "postgresql://me:secret@db/mlflow"},
}  # fmt: skip
FACTS = {"extractor": "tiny", "weight_hash": "ab" * 32, "n": 500, "reference": "heldout", "n_reference": 900,
         "latent_seed": 0, "sample_steps": 18, "k": 1 / 3, "tau": 0.9, "tau_rule": "null 0.999"}  # fmt: skip
DDPM = [(8.0, 0.08), (5.0, 0.2), (4.6, 0.42)]
DDPM_AGAIN = [[(8.0, 0.08), (5.1, 0.2), (4.6 + s / 10, 0.41 + s / 100)] for s in (-1, 0, 1)]
Path = Sequence[tuple[float, float]]


def scores(fd: float, f_mem: float) -> dict[str, float]:
    return {
        "fd_tiny": fd, "fd_tiny_low": fd - 0.5, "fd_tiny_high": fd + 0.5,
        "f_mem": f_mem, "f_mem_low": max(0.0, f_mem - 0.03), "f_mem_high": f_mem + 0.03, "f_mem_heldout": 0.002,
        "s_tau": f_mem / 2, "s_tau_low": 0.0, "s_tau_high": f_mem, "s_null": 0.001,
        "s_tau_850": 1.0, "s_null_850": 1.0, "precision": 0.9,
    }  # fmt: skip


def stored_trial(
    number: int, arm: str, path: Path, *, of: int | None = None, seed: int = 0, state: str = "finished", **more: Any
) -> StoredTrial:
    settings: dict[str, Any] = {"sigma_tn": 0.0} if arm != "ambient" else {"sigma_tn": 0.5, "noisy_ratio": 0.3}
    settings |= {"weight_decay": 0.1} if arm == "rival" else {}
    settings |= {} if of is None else {"seed": seed, "rungs": list(RUNGS)}
    rungs = tuple(
        RungScores(i, RUNGS[i], scores(*p), FACTS, seconds=60.0, at=1.7e9 + 100 * i) for i, p in enumerate(path)
    )
    return StoredTrial(f"run{number}", number, arm, state, more.pop("reason", ""), of, settings, rungs, **more)


TRIALS = (
    stored_trial(0, "ddpm", DDPM),
    stored_trial(1, "ambient", [(9.0, 0.01), (6.0, 0.03), (4.6, 0.05)]),
    stored_trial(2, "ambient", [(20.0, 0.0)], state="stopped", reason="dominated at rung 0"),
    stored_trial(3, "rival", [(9.0, 0.1), (5.2, 0.15), (4.7, 0.3)]),
    stored_trial(4, "ambient", [], state="failed", reason="the loss is not finite"),
    *(stored_trial(5 + s, "ddpm", DDPM_AGAIN[s], of=0, seed=s + 1) for s in range(3)),
    *(stored_trial(8 + s, "ambient", [(9, 0.0), (6, 0.05), (4.6, 0.11 + s / 100)], of=1, seed=s + 1) for s in range(2)),
    stored_trial(10, "ambient", [(9, 0.0)], of=1, seed=3, state="failed", reason="out of memory"),
)


@pytest.fixture
def stored() -> Callable[..., StoredStudy]:
    """A function: the study, with some fields changed."""

    def make(
        trials: Sequence[StoredTrial] = TRIALS, config: dict[str, Any] | None = None, **changed: Any
    ) -> StoredStudy:
        params = {key: parsed(value) for key, value in flat_params({**CONFIG, **(config or {})}).items()}
        given: dict[str, Any] = {
            "tags": {"ambient_ray.objectives": '["fd_tiny", "f_mem"]',
                     "ambient_ray.searched": '["sigma_tn", "noisy_ratio"]',
                     "mlflow.source.git.commit": "c0ffee", "system.ambient_ray": "0.1.0", "system.torch": "2.6"},
            "dataset": StoredDataset("faces", "cd" * 32, "/home/somebody/private/faces",
                                     {"n": 1200, "n_train": 300, "n_heldout": 900, "train_hash": "ef" * 32}),
        }  # fmt: skip
        return StoredStudy(
            "faces", "sqlite:////x/mlflow.db", "run-of-study", changed.pop("status", "FINISHED"), 1.7e9,
            changed.pop("ended", 1.7e9 + 3600), params, trials=tuple(trials), **{**given, **changed},
        )  # fmt: skip

    return make
