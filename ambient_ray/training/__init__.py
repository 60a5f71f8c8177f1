"""The training of one model: a plain PyTorch loop, its settings, its checkpoints. It does not know Ray."""

from .checkpoint import Checkpoint, CheckpointMismatchError, DamagedCheckpointError, read_checkpoint
from .loop import run_trial
from .scoring import Scored, Scorer, study_scorer
from .settings import TrainSettings, TrainSettingsError
from .trial import Fact, Outcome, Reporter, RungResult, TrainingData, TrialInputError, World

__all__ = [
    "Checkpoint",
    "CheckpointMismatchError",
    "DamagedCheckpointError",
    "Fact",
    "Outcome",
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
    "run_trial",
    "study_scorer",
]
