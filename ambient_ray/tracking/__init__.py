"""MLflow: the study's runs, its figures, the registry, and the model that downstream code loads."""

from .models.integrity import ModelChangedError, verify_model
from .models.model import ModelNotFoundError, ModelUnloadableError, load_model
from .models.promotion import Evidence
from .models.registry import NotRegisteredError, Registration, register_models
from .recording.backlog import WaitingError
from .recording.events import DatasetFacts, FoundModel, RungScores
from .recording.recorder import StudyRecorder
from .recording.upload import SPOOL, Uploaded, catch_up, upload_spool, upload_spools
from .recording.writer import TrackingFailedError
from .server import TrackingRefusedError
from .store import TrackingStore, TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store

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
