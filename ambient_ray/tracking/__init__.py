"""MLflow: the study's runs, its figures, the registry, and the model that downstream code loads."""

from .events import DatasetFacts, RungScores
from .integrity import ModelChangedError, verify_model
from .model import ModelNotFoundError, ModelUnloadableError, load_model
from .promotion import Evidence
from .recorder import StudyRecorder, TrackingFailedError
from .registry import Registration, register_champion
from .store import TrackingStore, TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store

__all__ = [
    "DatasetFacts",
    "Evidence",
    "ModelChangedError",
    "ModelNotFoundError",
    "ModelUnloadableError",
    "Registration",
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
    "verify_model",
]
