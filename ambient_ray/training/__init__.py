"""The training of one model: a plain PyTorch loop, its settings, its checkpoints; and the loop under Ray Train.

Names are imported when they are first used: Ray Train's controllers import the worker's module in processes of their
own, which have no use for PyTorch and its seconds and hundreds of megabytes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ambient_ray.storage import DamagedCheckpointError

    from .checkpoint import Checkpoint, CheckpointMismatchError, read_checkpoint
    from .loop import PackedTrial, run_packed, run_trial
    from .scoring import Scored, Scorer, study_scorer
    from .settings import TrainSettings, TrainSettingsError
    from .trial import Fact, Outcome, Reporter, RungResult, TrainingData, TrialInputError, World

_MODULES = {
    "ambient_ray.storage": ("DamagedCheckpointError",),
    ".checkpoint": ("Checkpoint", "CheckpointMismatchError", "read_checkpoint"),
    ".loop": ("PackedTrial", "run_packed", "run_trial"),
    ".scoring": ("Scored", "Scorer", "study_scorer"),
    ".settings": ("TrainSettings", "TrainSettingsError"),
    ".trial": ("Fact", "Outcome", "Reporter", "RungResult", "TrainingData", "TrialInputError", "World"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Checkpoint",
    "CheckpointMismatchError",
    "DamagedCheckpointError",
    "Fact",
    "Outcome",
    "PackedTrial",
    "Reporter",
    "RungResult",
    "Scored",
    "Scorer",
    "TrainSettings",
    "TrainSettingsError",
    "TrainingData",
    "TrialInputError",
    "World",
    "read_checkpoint",
    "run_packed",
    "run_trial",
    "study_scorer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name], __name__), name)
