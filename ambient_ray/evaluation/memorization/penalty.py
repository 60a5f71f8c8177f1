"""MiFID: the Frechet distance, made worse where samples are too similar to training images; one number for both."""

import numpy as np

from ..arrays import Array
from ..errors import EvaluationSettingsError, TooFewImagesError
from ..estimate import Z_95, Estimate

_EPSILON = 1e-6


def memorization_informed(distance: Estimate, similarity: Array, tau: float) -> Estimate:
    """MiFID (Bai et al. 2021, "On training sample memorization"): distance / (m + 1e-6) if m < tau.

    m is the mean over samples of 1 - |similarity|, similarity [N] being each one's highest cosine to a training image;
    where m >= tau the distance is returned as it is. tau: `usual_distance` of held-out images, in place of the paper's
    constant, which holds for its own features only. The interval is the distance's, divided alike: of m it
    knows nothing. A fallback for a reader who wants one number: it hides how much of it is copying.

    Raises TooFewImagesError (no samples), EvaluationSettingsError (tau not above 0 and at most 1).
    """
    if not 0 < tau <= 1:
        raise EvaluationSettingsError(f"MiFID's threshold must lie in (0, 1], got {tau}.")
    m = mean_distance(similarity)
    factor = 1 / (m + _EPSILON) if m < tau else 1.0
    return Estimate(distance.value * factor, distance.low * factor, distance.high * factor, distance.n)


def mean_distance(similarity: Array) -> float:
    """m of MiFID, in [0, 1]: the mean of 1 - |similarity| over N images, N >= 1."""
    values = np.abs(np.asarray(similarity, dtype=np.float64))
    if not len(values):
        raise TooFewImagesError("The mean distance to the training set needs at least one image.")
    return float(1 - values.mean())


def usual_distance(null: Array, n: int) -> float:
    """The threshold for `memorization_informed`: what m of n images of the null's law falls below in 2.5 % of sets.

    null: similarities of held-out images [M], M >= 2. Their m less 1.96 standard errors of a difference of two means,
    of n and of M images. Raises TooFewImagesError.
    """
    values = 1 - np.abs(np.asarray(null, dtype=np.float64))
    if len(values) < 2 or n < 1:
        raise TooFewImagesError("MiFID's threshold needs at least two held-out images and one sample.")
    half = Z_95 * float(values.std(ddof=1)) * (1 / n + 1 / len(values)) ** 0.5
    return float(max(float(values.mean()) - half, 1e-9))
