"""How much of the training set a model hands out again: f_mem in pixels, S_tau in a feature space."""

import numpy as np
import torch

from ..arrays import Array, Floats
from ..errors import EvaluationSettingsError, TooFewImagesError
from ..estimate import Estimate, share_of
from ..neighbours import nearest_cosine, two_nearest

S_TAU_THRESHOLDS = (0.85, 0.875, 0.9)
NULL_QUANTILE = 0.999


def nearest_similarity(generated: Array, train: Array, *, device: str | torch.device = "cpu") -> Floats:
    """Cosine of each generated image's features to those of the nearest training image: float64 [N].

    generated [N, d], train [M, d]: features, arrays or tensors; images are flattened. A numpy array comes
    back for either.
    """
    return nearest_cosine(generated, train, device=device)[1]


def similarity_share(similarity: Array, tau: float) -> Estimate:
    """S_tau: the share of images whose `nearest_similarity` [N] exceeds tau, with Wilson's 95 % interval.

    Thresholds mean something for one extractor only: read it beside the same figure for held-out real
    images (the null).
    """
    return share_of(np.asarray(similarity) > tau)


def calibrated_tau(null: Array, quantile: float = NULL_QUANTILE) -> tuple[float, float]:
    """The similarity that the share `quantile` of held-out images does not exceed, and the quantile it is.

    null: `nearest_similarity` of held-out images [M]. The order statistic at or above the asked quantile is
    taken, so at most (1 - quantile) M of the null lies above tau. Below 1 / (1 - quantile) images (1,000
    for the 99.9th percentile) the asked quantile cannot be seen at all: tau is then the null's largest
    value and M / (M + 1) is returned as the quantile.
    """
    values = np.asarray(null, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise TooFewImagesError("Calibrating tau needs the similarities of at least two held-out images.")
    if not 0 < quantile < 1:
        raise EvaluationSettingsError(f"The null's quantile must lie between 0 and 1, got {quantile}.")
    if len(values) * (1 - quantile) < 1:
        return float(values.max()), len(values) / (len(values) + 1)
    return float(np.quantile(values, quantile, method="higher")), quantile


def memorized_fraction(
    generated: Array,
    train: Array,
    k: float = 1 / 3,
    *,
    mirror: bool = False,
    shift: int = 0,
    device: str | torch.device = "cpu",
) -> Estimate:
    """f_mem: the share of generated images with d1/d2 < k (Yoon et al. 2023), with Wilson's 95 % interval.

    d1 <= d2 are the L2 distances to the two nearest training images. generated [N, ...], train [M, ...], M
    >= 2: vectors [., d] or images [.,H,W,C] or [.,C,H,W], flattened, both of one layout and one scale;
    arrays or tensors. mirror=True: the training set counts as holding each image and its mirror image (one
    image for d1 and d2), for models trained with flips, and shift > 0 the same of moves by up to so many pixels; both
    need images, not vectors. A generated image equal
    to a training image (d1 = 0) is copied, also if a duplicate in the training set makes d2 = 0.
    Near-duplicates in the training set do hide copies, so duplicates are dropped beforehand
    (`ambient_ray.data.split`).
    """
    return copied_share(two_nearest(generated, train, mirror=mirror, shift=shift, device=device).ratio, k)


def copied_share(ratio: Array, k: float = 1 / 3) -> Estimate:
    """f_mem from the gap ratios d1/d2 [N] that `two_nearest(...).ratio` gives."""
    if not 0 < k <= 1:
        raise EvaluationSettingsError(f"The gap ratio's threshold k must lie in (0, 1], got {k}.")
    return share_of(np.asarray(ratio) < k)
