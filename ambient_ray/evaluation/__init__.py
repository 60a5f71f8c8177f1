"""Scores of generated images: fidelity, memorization, their intervals, and whether two may be compared."""

from .errors import (
    BrokenFeatureCacheError,
    EvaluationSettingsError,
    FeatureShapeError,
    IncomparableScoresError,
    LabelsMissingError,
    NonFiniteFeaturesError,
    TooFewImagesError,
    UnknownExtractorError,
)
from .estimate import Estimate, bootstrap_interval, wilson_interval
from .evaluate import LARGER_IS_BETTER, Nearest, Scores, comparable, evaluate, fidelity_key
from .extractors import (
    BUILT_IN,
    CachedExtractor,
    Extractor,
    ModuleExtractor,
    PixelExtractor,
    build_extractor,
    on_device,
)
from .fidelity import GaussianStatistics, KernelStatistics, frechet_distance, kernel_distance
from .manifold import NEIGHBOURS, Manifold, ManifoldScores, manifold_scores
from .mechanism import SIGMAS, denoising_gap, denoising_losses
from .memorization import (
    S_TAU_THRESHOLDS,
    calibrated_tau,
    copied_share,
    memorized_fraction,
    nearest_similarity,
    similarity_share,
)
from .neighbours import TwoNearest, nearest_cosine, two_nearest
from .references import REFERENCES, EvaluationSettings, References

__all__ = [
    "BUILT_IN",
    "LARGER_IS_BETTER",
    "NEIGHBOURS",
    "REFERENCES",
    "SIGMAS",
    "S_TAU_THRESHOLDS",
    "BrokenFeatureCacheError",
    "CachedExtractor",
    "Estimate",
    "EvaluationSettings",
    "EvaluationSettingsError",
    "Extractor",
    "FeatureShapeError",
    "GaussianStatistics",
    "IncomparableScoresError",
    "KernelStatistics",
    "LabelsMissingError",
    "Manifold",
    "ManifoldScores",
    "ModuleExtractor",
    "Nearest",
    "NonFiniteFeaturesError",
    "PixelExtractor",
    "References",
    "Scores",
    "TooFewImagesError",
    "TwoNearest",
    "UnknownExtractorError",
    "bootstrap_interval",
    "build_extractor",
    "calibrated_tau",
    "comparable",
    "copied_share",
    "denoising_gap",
    "denoising_losses",
    "evaluate",
    "fidelity_key",
    "frechet_distance",
    "kernel_distance",
    "manifold_scores",
    "memorized_fraction",
    "nearest_cosine",
    "nearest_similarity",
    "on_device",
    "similarity_share",
    "two_nearest",
    "wilson_interval",
]
