"""Whose images are copied: average and unique memorization scores, and how much of the training set they cover."""

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from ..errors import EvaluationSettingsError, FeatureShapeError, TooFewImagesError
from ..estimate import Z_95, Estimate, share_of

_RATES, _ROUNDS = 40, 150  # of the mixture that is fitted to how often each training image was copied

Indices = npt.NDArray[np.int64]
Hits = npt.NDArray[np.bool_]


def average_memorization(memorized: Hits) -> Estimate:
    """AMS: the share of generated images that are memorized, with Wilson's 95 % interval (Chen et al. 2024, SIDE).

    memorized: bool [N], by whichever criterion, e.g. `two_nearest(...).ratio < 1 / 3`. Held-out images give the null.
    """
    return share_of(np.asarray(memorized, dtype=bool))


def unique_memorization(index: Indices, memorized: Hits, n_train: int) -> Estimate:
    """UMS: how many different training images memorized samples copy, over the number N of samples (Chen et al. 2024).

    index: int64 [N], each sample's nearest training image, in [0, n_train); memorized: bool [N]. Falls with N, so
    compare equal N only. Held-out images give the null. The 95 % interval is that of `covered_training_set`.

    Raises FeatureShapeError, EvaluationSettingsError (an index outside the training set), TooFewImagesError (N = 0).
    """
    count, low, high = _distinct(index, memorized, n_train)
    n = len(memorized)
    return Estimate(count / n, low / n, high / n, n)


def covered_training_set(index: Indices, memorized: Hits, n_train: int) -> Estimate:
    """Coverage of S: the share of the n_train training images that some memorized sample copies.

    Takes and raises what `unique_memorization` does. Grows with N: it is the coverage by N samples, and its 95 %
    interval is of the expectation over other sets of N samples.

    Derivation. A sample copies image i with probability p_i, so i is found with q_i = 1 - (1 - p_i)^N, and the number D
    of different images has mean sum q_i and, by Poissonisation, variance

        V = sum q_i (1 - q_i) - N s^2,    s = sum p_i (1 - p_i)^(N-1),

    the second term for N being fixed (s is a sample's chance to be the only copy of its image). Resampling the samples
    would lose about a third of what was found once, so the p_i are not taken as observed: their distribution over the
    n_train images, those never copied included, is fitted as a mixture of binomials by maximum likelihood (Kiefer and
    Wolfowitz 1956; Laird 1978), which gives V. The interval is the score interval |D - E| <= z sqrt(V + r (E - D))
    with V's slope r = k3 / V in the exponential family through the fit (k3 the third cumulant), shrunk by one image
    towards "rare and not yet found" above and "found by luck" below. With nothing copied it is Wilson's, [0, 3.84].
    """
    count, low, high = _distinct(index, memorized, n_train)
    return Estimate(count / n_train, low / n_train, high / n_train, len(memorized))


def _distinct(index: Indices, memorized: Hits, n_train: int) -> tuple[int, float, float]:
    """How many different training images are copied, and the 95 % interval of its expectation."""
    places, hits = np.asarray(index), np.asarray(memorized, dtype=bool)
    if places.shape != hits.shape or places.ndim != 1:
        raise FeatureShapeError(f"One index and one flag a sample are needed, got {places.shape} and {hits.shape}.")
    if not len(hits):
        raise TooFewImagesError("Counting copied training images needs at least one sample.")
    if places.min() < 0 or places.max() >= n_train:
        raise EvaluationSettingsError(
            f"Nearest training images {places.min()} to {places.max()} do not exist among {n_train}; pass the index of "
            "the training set that the samples were compared with."
        )
    copies = np.bincount(places[hits], minlength=n_train)
    n, count = len(hits), int(np.count_nonzero(copies))
    variance, cumulant = _moments(copies, n)
    most = float(min(n, n_train))
    up, down = ((cumulant + sign) / (variance + 1) for sign in (1, -1))
    high = count + Z_95**2 * up / 2 + Z_95 * (variance + (Z_95 * up) ** 2 / 4) ** 0.5
    low = count + Z_95**2 * down / 2 - Z_95 * (variance + (Z_95 * down) ** 2 / 4) ** 0.5
    return count, float(min(max(low, 0.0), count)), float(max(min(high, most), count))


def _moments(copies: npt.NDArray[np.int64], n: int) -> tuple[float, float]:
    """Variance and third cumulant of the number of different images, from how often each was copied [n_train]."""
    if not copies.any():
        return 0.0, 0.0
    rates, weights = _mixture(copies, n)
    found = 1 - (1 - rates) ** n
    single = float(weights @ (rates * (1 - rates) ** (n - 1)))
    spread = weights @ (found * (1 - found))
    third = weights @ (found * (1 - found) * (1 - 2 * found))
    variance = max(float(spread) - n * single**2, 0.0)
    # Binomial where each image is rare: V = E - E^2/n, so that the slope loses 2 E/n, and E/n is `single`.
    return variance, float(third) * variance / max(float(spread), 1e-12) - 2 * single * variance


def _mixture(copies: npt.NDArray[np.int64], n: int) -> tuple[Floats, Floats]:
    """Probabilities of being copied [G], and how many training images have each [G], by maximum likelihood (EM)."""
    counts, times = np.unique(copies, return_counts=True)
    largest = min(float(counts[-1] + 3 * counts[-1] ** 0.5) / n, 1 - 1e-9)
    rates = np.concatenate([[0.0], np.geomspace(min(0.02 / n, largest / 2), largest, _RATES)])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counts[:, None] > 0, counts[:, None] * np.log(rates), 0.0) + (n - counts)[:, None] * np.log1p(
            -rates
        )
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares = np.full(len(rates), 1 / len(rates))
    for _ in range(_ROUNDS):
        shares *= (times / (likelihood @ shares)) @ likelihood / len(copies)
    return rates, shares * len(copies)
