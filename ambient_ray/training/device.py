"""The device that a worker trains on."""

from __future__ import annotations

import logging
import os

import torch

from ambient_ray.errors import UserError
from ambient_ray.evaluation.memory import take_share

_log = logging.getLogger(__name__)


class UnusableGpuError(UserError):
    """A worker was given a GPU that PyTorch cannot use."""


def own_device(given: bool, share: float) -> torch.device:
    """This worker's device, its share of the memory taken where others use the same GPU.

    Args:
        given: whether Ray gave it a GPU; Ray shows each worker its own only, so the first one is ours.
        share: of a GPU, from `trial.gpus_per_worker`.

    Raises:
        UnusableGpuError: PyTorch cannot use it, and AMBIENT_RAY_CPU_FOR_GPU is not set: on the processor a search for
            which GPUs are held would take weeks, and nobody would be told.
    """
    if not given:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if os.environ.get("AMBIENT_RAY_CPU_FOR_GPU"):
            _log.warning("PyTorch sees no GPU; AMBIENT_RAY_CPU_FOR_GPU is set, so the processor stands for it")
            return torch.device("cpu")
        raise UnusableGpuError(
            "Ray gave this worker a GPU, but PyTorch cannot use it: install PyTorch for this GPU's driver, or set"
            " trial.gpus_per_worker=0"
        )
    device = torch.device("cuda", 0)
    if 0 < share < 1:
        take_share(device, share)
    return device
