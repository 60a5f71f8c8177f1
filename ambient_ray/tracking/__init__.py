"""MLflow: the study's runs, its figures, the registry, and the model that downstream code loads."""

from .backlog import WaitingError
from .events import DatasetFacts, FoundModel, RungScores
from .integrity import ModelChangedError, verify_model
from .model import ModelNotFoundError, ModelUnloadableError, load_model
from .promotion import Evidence
from .recorder import StudyRecorder
from .registry import NotRegisteredError, Registration, register_models
from .server import TrackingRefusedError
from .store import TrackingStore, TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store
from .upload import SPOOL, Uploaded, catch_up, upload_spool, upload_spools
from .writer import TrackingFailedError

__all__ = [
    "SPOOL",
    "DatasetFacts",
    "Evidence",
    "FoundModel",
    "ModelChangedError",
    "ModelNotFoundError",
    "ModelUnloadableError",
    "NotRegisteredError",
    "Registration",
    "RungScores",
    "StudyRecorder",
    "TrackingFailedError",
    "TrackingRefusedError",
    "TrackingStore",
    "TrackingUnreachableError",
    "TrackingUriError",
    "Uploaded",
    "WaitingError",
    "catch_up",
    "check_tracking",
    "load_model",
    "register_models",
    "resolve_store",
    "upload_spool",
    "upload_spools",
    "verify_model",
]
