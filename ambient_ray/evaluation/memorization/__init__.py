"""How much of the training set a model hands out again, with intervals; every score runs on held-out images alike."""

from .authenticity import authentic_share, training_radii
from .coverage import average_memorization, covered_training_set, unique_memorization
from .partial import PARTIAL_AREA, PartialCopies, partial_copies
from .penalty import mean_distance, memorization_informed, usual_distance
from .reproducibility import reproducibility
from .shares import (
    NULL_QUANTILE,
    S_TAU_THRESHOLDS,
    calibrated_tau,
    copied_share,
    memorized_fraction,
    nearest_similarity,
    similarity_share,
)
from .three_sample import Cells, data_copying

__all__ = [
    "NULL_QUANTILE",
    "PARTIAL_AREA",
    "S_TAU_THRESHOLDS",
    "Cells",
    "PartialCopies",
    "authentic_share",
    "average_memorization",
    "calibrated_tau",
    "copied_share",
    "covered_training_set",
    "data_copying",
    "mean_distance",
    "memorization_informed",
    "memorized_fraction",
    "nearest_similarity",
    "partial_copies",
    "reproducibility",
    "similarity_share",
    "training_radii",
    "unique_memorization",
    "usual_distance",
]
