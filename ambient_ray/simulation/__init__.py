"""Replay of recorded learning curves through the real study and pruner, on a simulated clock. No Ray, no training."""

from .clock import Moment, Replay, replay
from .curves import Curve, Curves, Quality
from .front import Front
from .recordings import RecordingError, Recordings
from .searches import Search, StudySearch

__all__ = [
    "Curve",
    "Curves",
    "Front",
    "Moment",
    "Quality",
    "RecordingError",
    "Recordings",
    "Replay",
    "Search",
    "StudySearch",
    "replay",
]
