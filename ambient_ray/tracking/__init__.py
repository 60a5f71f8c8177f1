"""MLflow: the study's runs, its figures, the registry, and the model that downstream code loads."""

from .backlog import WaitingError
from .events import DatasetFacts, RungScores
from .model import ModelNotFoundError, ModelUnloadableError, load_model
from .promotion import Evidence
from .recorder import StudyRecorder
from .registry import Registration, register_champion
from .store import TrackingStore, TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store
from .upload import Uploaded, upload_spool, upload_spools
from .writer import TrackingFailedError

__all__ = [
    "DatasetFacts",
    "Evidence",
    "ModelNotFoundError",
    "ModelUnloadableError",
    "Registration",
    "RungScores",
    "StudyRecorder",
    "TrackingFailedError",
    "TrackingStore",
    "TrackingUnreachableError",
    "TrackingUriError",
    "Uploaded",
    "WaitingError",
    "check_tracking",
    "load_model",
    "register_champion",
    "resolve_store",
    "upload_spool",
    "upload_spools",
]
