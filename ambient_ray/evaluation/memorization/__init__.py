"""How much of the training set a model hands out again, with intervals; every score runs on held-out images alike."""

from .shares import (
    NULL_QUANTILE,
    S_TAU_THRESHOLDS,
    calibrated_tau,
    copied_share,
    memorized_fraction,
    nearest_similarity,
    similarity_share,
)

__all__ = [
    "NULL_QUANTILE",
    "S_TAU_THRESHOLDS",
    "calibrated_tau",
    "copied_share",
    "memorized_fraction",
    "nearest_similarity",
    "similarity_share",
]
