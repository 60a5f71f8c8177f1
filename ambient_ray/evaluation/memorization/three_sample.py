"""C_T: are samples nearer to the training set than held-out images are?"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Array, Floats, as_features
from ..errors import FeatureShapeError, TooFewImagesError
from ..estimate import Z_95, Estimate

CELLS = 10  # at most, and no more than one for 30 training images
FEWEST = 20  # samples, and held-out images, in a cell that counts


@dataclass(frozen=True)
class Cells:
    """A partition of feature space by k-means on the training features: centres float64 [K, d]."""

    centres: Floats

    @classmethod
    def of(cls, train: Array, *, seed: int = 0) -> "Cells":
        """K = n // 30 cells, at least one and at most ten, of training features [n, d]; seeded."""
        matrix = as_features(train, "training features").astype(np.float64)
        k = int(np.clip(len(matrix) // 30, 1, CELLS))
        if k == 1:
            return cls(matrix.mean(axis=0, keepdims=True))
        from sklearn.cluster import KMeans

        return cls(np.asarray(KMeans(k, n_init=3, random_state=seed).fit(matrix).cluster_centers_))

    def containing(self, features: Array) -> npt.NDArray[np.int64]:
        """The cell of each image, int64 [N], of features [N, d]."""
        matrix = as_features(features).astype(np.float64)
        squares = np.square(self.centres).sum(axis=1) - 2 * matrix @ self.centres.T
        return np.asarray(squares.argmin(axis=1), dtype=np.int64)


def data_copying(
    distance: Floats,
    cell: npt.NDArray[np.int64],
    heldout_distance: Floats,
    heldout_cell: npt.NDArray[np.int64],
) -> Estimate:
    """C_T, the data-copying statistic (Meehan, Chaudhuri and Dasgupta 2020), with its 95 % interval.

    In each cell of feature space, the Mann-Whitney z of the samples' distances to the training set against the held-out
    images'; C_T is their mean, weighted by how many held-out images lie in each cell. Far below 0 (< -2): samples lie
    nearer to the training images than unseen real images do, so they were copied. Far above 0: they are further, so the
    model underfits. 0: neither.

    distance [N], heldout_distance [M]: to the nearest training image in features (`two_nearest`); cell, heldout_cell:
    `Cells.containing`. Only cells with 20 images of both count; where none has, all of feature space is one. The
    estimate's n is the number of samples in cells that count. The interval is value +- 1.96 standard errors, each
    cell's by DeLong's (1988) variance of the Mann-Whitney statistic, so that it holds under copying, too; the training
    set is taken as given.

    Raises TooFewImagesError (fewer than 2 of either), FeatureShapeError.
    """
    for name, values, cells in (("samples", distance, cell), ("held-out images", heldout_distance, heldout_cell)):
        if values.shape != cells.shape or values.ndim != 1:
            raise FeatureShapeError(f"One distance and one cell for each of the {name}: {values.shape}, {cells.shape}.")
        if len(values) < 2:
            raise TooFewImagesError(f"C_T needs at least two {name}, got {len(values)}.")
    numbers = np.arange(max(cell.max(), heldout_cell.max()) + 1)
    parts = [(distance[cell == c], heldout_distance[heldout_cell == c]) for c in numbers]
    parts = [part for part in parts if min(map(len, part)) >= FEWEST] or [(distance, heldout_distance)]
    weights = np.array([len(theirs) for _, theirs in parts], dtype=np.float64)
    weights /= weights.sum()
    scores = np.array([_mann_whitney(own, theirs) for own, theirs in parts])
    value = float(weights @ scores[:, 0])
    half = Z_95 * float(np.sqrt(np.square(weights) @ scores[:, 1]))
    return Estimate(value, value - half, value + half, sum(len(own) for own, _ in parts))


def _mann_whitney(own: Floats, theirs: Floats) -> tuple[float, float]:
    """z of the Mann-Whitney statistic, above 0 where `own` is larger, and its variance; ties count as halves."""
    from scipy.stats import rankdata

    n, m = len(own), len(theirs)
    both = np.concatenate([own, theirs])
    ranks = rankdata(both)
    above = (ranks[:n] - rankdata(own)) / m  # of each own value, the share of theirs below it
    below = 1 - (ranks[n:] - rankdata(theirs)) / n  # of each of theirs, the share of own values above it
    _, ties = np.unique(both, return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / ((n + m) * (n + m - 1))
    null = ((n + m + 1) - tied) / (12 * n * m)
    if null <= 0:  # all distances are one
        return 0.0, 0.0
    variance = float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m
    return float(above.mean() - 0.5) / null**0.5, variance / null
