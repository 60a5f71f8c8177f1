"""How close generated images are to real ones in a feature space."""

from .frechet import GaussianStatistics, frechet_distance, frechet_estimate, frechet_limit
from .kernel import KernelStatistics, kernel_distance
from .manifold import NEIGHBOURS, Manifold, ManifoldScores, manifold_scores

__all__ = [
    "NEIGHBOURS",
    "GaussianStatistics",
    "KernelStatistics",
    "Manifold",
    "ManifoldScores",
    "frechet_distance",
    "frechet_estimate",
    "frechet_limit",
    "kernel_distance",
    "manifold_scores",
]
