"""MLflow: the study's runs, its figures, the registry, and the model that downstream code loads."""

from .events import DatasetFacts, RungScores
from .model import ModelNotFoundError, ModelUnloadableError, load_model
from .recorder import StudyRecorder, TrackingFailedError
from .registry import register_champion
from .store import TrackingStore, TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store

__all__ = [
    "DatasetFacts",
    "ModelNotFoundError",
    "ModelUnloadableError",
    "RungScores",
    "StudyRecorder",
    "TrackingFailedError",
    "TrackingStore",
    "TrackingUnreachableError",
    "TrackingUriError",
    "check_tracking",
    "load_model",
    "register_champion",
    "resolve_store",
]
