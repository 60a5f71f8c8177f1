"""Whether two models copy different shares of their samples, and which of many do: tests, intervals, Holm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .errors import EvaluationSettingsError, FeatureShapeError, TooFewImagesError
from .estimate import Estimate, wilson_interval

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Two shares compared.

    difference: the second share less the first, in [-1, 1], with its interval; n is the smaller number of samples. p:
    of the two-sided test that both shares are one, in [0, 1] (adjusted where `compare_many` made it).
    """

    difference: Estimate
    p: float


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """P values adjusted for how many there are (Holm 1979), float64 [m] in the order given.

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than the one before, and capped at 1. To reject
    where the adjusted value is at most alpha makes any false rejection at all no likelier than alpha, whatever the
    tests' dependence. Raises EvaluationSettingsError for values outside [0, 1] or NaN.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise EvaluationSettingsError("Holm's correction needs a list of p values between 0 and 1.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def compare_shares(hits_a: Hits, hits_b: Hits, *, paired: bool = True, confidence: float = 0.95) -> Comparison:
    """Share of True in `hits_b` [N] less that in `hits_a` [N or, unpaired, M], its interval and test.

    hits: which samples are copies, e.g. `nearest.ratio < k`. paired: the i-th samples of both were drawn from the same
    latent, as those of one study are. Paired or not, the interval is Newcombe's hybrid of both shares' Wilson intervals
    (1998: Stat. Med. 17, 2635, method 10, and 873, method 10). The test is the exact one of McNemar (binomial over the
    pairs that differ) for pairs, and Fisher's else. The intervals hold the truth in about 95 %, while exact tests are
    wrong in less than 5 %: an interval may leave out 0 where p is just above .05.

    Raises TooFewImagesError (no samples), FeatureShapeError (pairs of unequal number, not one axis),
    EvaluationSettingsError (not bool; confidence outside (0, 1)).
    """
    a, b = _hits(hits_a), _hits(hits_b)
    if not 0 < confidence < 1:
        raise EvaluationSettingsError(f"confidence={confidence} must lie between 0 and 1.")
    if paired and len(a) != len(b):
        raise FeatureShapeError(
            f"{len(a)} and {len(b)} samples are no pairs; pass as many of both, from the same latents, or paired=False."
        )
    first, second = (wilson_interval(int(hits.sum()), len(hits), confidence=confidence) for hits in (a, b))
    correlation = _correlation(a, b) if paired else 0.0
    p = _mcnemar(a, b) if paired else _fisher(a, b)
    return Comparison(_difference(first, second, correlation), p)


def compare_many(
    reference: Hits, others: Mapping[str, Hits], *, paired: bool = True, confidence: float = 0.95
) -> dict[str, Comparison]:
    """Each of several models compared with one, as `compare_shares` does it, and all of them at once.

    reference: bool [N]; others: bool [N] by name, at least one. The p values are Holm's, so that the chance of any
    false difference is at most alpha. The intervals are simultaneous, all of them hold their truths with `confidence`
    or more: each has the level 1 - (1 - confidence) / m (Bonferroni). From its second step on Holm's correction asks
    for less, so that a difference may be significant by its p while its interval still holds 0; p decides.

    Raises as `compare_shares`, and EvaluationSettingsError for no others.
    """
    if not others:
        raise EvaluationSettingsError("There is nothing to compare with the reference; pass at least one model's hits.")
    level = 1 - (1 - confidence) / len(others)
    found = {name: compare_shares(reference, hits, paired=paired, confidence=level) for name, hits in others.items()}
    adjusted = holm([comparison.p for comparison in found.values()])
    return {name: replace(found[name], p=float(p)) for name, p in zip(found, adjusted, strict=True)}


def _hits(values: Hits) -> Hits:
    hits = np.asarray(values)
    if hits.dtype != np.bool_:
        raise EvaluationSettingsError(f"Hits must be bool, whether each sample is a copy, got {hits.dtype}.")
    if hits.ndim != 1:
        raise FeatureShapeError(f"Hits must be one a sample, [N], got shape {hits.shape}.")
    if not len(hits):
        raise TooFewImagesError("A share needs at least one image.")
    return hits


def _difference(first: Estimate, second: Estimate, correlation: float) -> Estimate:
    """Newcombe's interval: each Wilson half-width squared and added, less the pairs' covariance."""
    value = second.value - first.value
    down, up = second.value - second.low, second.high - second.value
    below, above = first.value - first.low, first.high - first.value
    low = value - max(down**2 - 2 * correlation * down * above + above**2, 0.0) ** 0.5
    high = value + max(up**2 - 2 * correlation * up * below + below**2, 0.0) ** 0.5
    return Estimate(value, max(low, -1.0), min(high, 1.0), min(first.n, second.n))


def _correlation(a: Hits, b: Hits) -> float:
    """Phi of the pairs, continuity-corrected where it is positive (Newcombe's method 10); 0 where a share is 0 or 1."""
    n = len(a)
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = n - both - only_a - only_b
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if product == 0:
        return 0.0
    determinant = both * neither - only_a * only_b
    corrected = max(determinant - n / 2, 0.0) if determinant > 0 else determinant
    return float(corrected / product**0.5)


def _mcnemar(a: Hits, b: Hits) -> float:
    """Exact: of the pairs that differ, either side wins with probability 1/2 (McNemar 1947)."""
    from scipy.stats import binomtest

    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def _fisher(a: Hits, b: Hits) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact([[a.sum(), (~a).sum()], [b.sum(), (~b).sum()]]).pvalue)
