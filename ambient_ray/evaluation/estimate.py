"""A number with its interval: no score leaves this room without one, unless its docstring says why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from .errors import EvaluationSettingsError, TooFewImagesError

#: Standard errors on either side of a normal 95 % interval.
Z_95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval [low, high], and the number of images it rests on (0: not one number)."""

    value: float
    low: float
    high: float
    n: int = 0

    def __float__(self) -> float:
        """The value alone."""
        return self.value


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """A share with its Wilson score interval (Wilson 1927; Brown, Cai, DasGupta 2001).

    Chosen over the bootstrap because at 0 of n, the usual case of a model that does not copy, a bootstrap
    interval is the point 0, while Wilson's still says how much copying n samples could have missed (about
    3.8 / n). Takes 0 <= successes <= n; raises TooFewImagesError for n < 1.
    """
    if n < 1:
        raise TooFewImagesError("A share needs at least one image.")
    if not 0 <= successes <= n:
        raise EvaluationSettingsError(f"A share of {successes} in {n} images is impossible.")
    return share_interval(successes / n, n, confidence=confidence)


def share_interval(share: float, n: float, *, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a share in [0, 1] that rests on n > 0 images; n may be an effective number.

    The estimate's n is 0 where that is no whole number.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    # At the ends the formula's exact bounds are 0 and 1; rounding must not leave the value outside its
    # interval.
    low = 0.0 if share == 0 else max(centre - half, 0.0)
    high = 1.0 if share == 1 else min(centre + half, 1.0)
    return Estimate(share, low, high, int(n) if n == int(n) else 0)


def share_of(hits: npt.NDArray[np.bool_]) -> Estimate:
    """The share of True in `hits` [N], with Wilson's 95 % interval."""
    return wilson_interval(int(np.count_nonzero(hits)), len(hits))


def bootstrap_interval(
    statistic: Callable[..., npt.NDArray[np.float64]],
    *samples: npt.NDArray[np.float64],
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """`statistic` of the means of independent samples, with its percentile bootstrap interval (Efron 1979).

    samples: one array [n_i] each, resampled independently of each other; statistic: a vectorised function
    of their means, e.g. `lambda a, b: (b - a) / b`. Seeded by its own generator; n of the estimate is the
    smallest n_i.
    """
    counts = bootstrap_counts(*map(len, samples), seed=seed, resamples=resamples)
    return percentile_interval(statistic, counts, *samples, confidence=confidence)


def bootstrap_counts(*lengths: int, seed: int, resamples: int = 1000) -> list[npt.NDArray[np.int64]]:
    """How often each of n_i images is drawn in each resample: [resamples, n_i] a length.

    Given to `percentile_interval` again and again, they resample several figures of the same images alike, and once.
    Raises TooFewImagesError for a length below 2.
    """
    if min(lengths) < 2:
        raise TooFewImagesError("A bootstrap interval needs at least two images in each set.")
    generator = np.random.default_rng(seed)
    # Multinomial counts instead of index arrays: the same resampling in one matrix product.
    return [generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in lengths]


def percentile_interval(
    statistic: Callable[..., npt.NDArray[np.float64]],
    counts: Sequence[npt.NDArray[np.int64]],
    *samples: npt.NDArray[np.float64],
    confidence: float = 0.95,
) -> Estimate:
    """`bootstrap_interval` with resamples that are drawn already."""
    means = [drawn @ sample / len(sample) for drawn, sample in zip(counts, samples, strict=True)]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(statistic(*means), [tail, 100 - tail])
    value = float(statistic(*(np.asarray(sample.mean()) for sample in samples)))
    return Estimate(value, min(float(low), value), max(float(high), value), min(len(sample) for sample in samples))
