"""One pass over generated images -> all scores, with the facts that say which scores may be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .arrays import as_features
from .errors import FeatureShapeError, IncomparableScoresError, TooFewImagesError
from .estimate import Z_95, Estimate
from .extractors import Extractor, Fact, device_of
from .fidelity import NEIGHBOURS, frechet_estimate, frechet_limit, kernel_distance, manifold_scores
from .memorization import memorization_informed, usual_distance
from .originals import Nearest, Originals
from .references import References
from .settings import EvaluationSettings, fidelity_key

#: Scores that are better where they are larger; of all others, less is better.
LARGER_IS_BETTER = ("precision", "recall", "density", "coverage", "authentic", "c_t")
# Facts that follow from the others up to rounding, or inform only; everything else must be equal.
_INFORMATIVE = frozenset({"tau", "tau_quantile"})
_INFORMATIVE_PREFIX = "extractor_"
#: So many samples give the limit of the Frechet distance; the smallest of its subsets is a fifth of them.
LIMIT_FROM = 20


@dataclass(frozen=True)
class Scores:
    """All scores of one set of samples.

    values: flat, see `evaluate`; facts: what they depend on, see `comparable`; nearest: see `Nearest`; features:
    float32 [N,d] of the samples.
    """

    values: Mapping[str, float]
    facts: Mapping[str, Fact]
    nearest: Nearest = field(repr=False)
    features: npt.NDArray[np.float32] = field(repr=False)


def evaluate(
    samples: npt.NDArray[np.uint8],
    extractor: Extractor,
    references: References,
    *,
    settings: EvaluationSettings | None = None,
    seeds: Mapping[str, int] | None = None,
    features: npt.NDArray[np.float32] | None = None,
) -> Scores:
    """Score samples uint8 [N,H,W,C], N >= 3, by the extractor that `references` was built with.

    settings: None, or those of `references` (others are refused: its statistics would not fit). seeds:
    whatever else decides the samples, e.g. {"latent_seed": 0, "sample_steps": 18}; kept in the facts. features: the
    samples' own, float32 [N,d], where the extractor has computed them already, a part of the samples at a time.

    Scores.values, shares as fractions of 1, low/high = 95 % interval:
      fd_<extractor>*                      Frechet distance to settings.reference (`frechet_estimate`), low, high
      fd_<extractor>_heldout|_train|_full|_other   the same to each reference there is, without
      fd_<extractor>_inf*                  its limit for infinitely many samples (`frechet_limit`), from 20 samples on
      kid, kid_low, kid_high, kid_se       kernel distance to settings.reference, and its standard error
      precision*, recall*, density*, coverage*   `manifold_scores` against settings.reference, with low and high; larger
      is better; absent where either set has fewer than 7 images
      f_mem*                               share with d1/d2 < k
      f_mem_half*, f_mem_quarter*          the same at k = 1/2 and 1/4
      s_tau, s_tau_low, s_tau_high         share with similarity > tau; s_null: the null
      s_tau_850*, _875*, _900*             the same at the paper's thresholds .85, .875, .9; s_null_850, ...
      tau                                  the threshold of s_tau
      ums*, train_coverage*                different training images copied, over the samples and over the training set,
      by f_mem; ums_tau*, train_coverage_tau* by s_tau; nulls of as many held-out images
      partial*, authentic*                 partial copies; AuthPct (larger is better)
      c_t*                                 C_T; its null is one half of the held-out images against the other
      mi_fd_<extractor>*                   MiFID
    where * stands for itself, _low and _high, and of copying also _heldout: the null, the same of held-out real images.

    Raises IncomparableScoresError, FeatureShapeError, TooFewImagesError, NonFiniteFeaturesError.
    """
    _check(samples, extractor, references, settings)
    if features is None:
        features = extractor(samples)
    else:
        _check_features(features, len(samples), references)
    nearest = references.originals.nearest(samples, features, device=device_of(extractor))
    values = _fidelity(features, references, nearest) | _memorization(nearest, references.originals)
    return Scores(values, _facts(len(samples), extractor, references, seeds or {}), nearest, features)


def comparable(facts_a: Mapping[str, Fact], facts_b: Mapping[str, Fact]) -> tuple[str, ...] | None:
    """None if two scores with these facts may be compared, else the names of the facts that differ, sorted.

    Everything counts but tau itself where it is calibrated (the rule, the images and the extractor that it
    follows from do count) and the facts about an extractor that its weight hash implies.
    """
    differing = sorted(
        key
        for key in facts_a.keys() | facts_b.keys()
        if key not in _INFORMATIVE
        and not key.startswith(_INFORMATIVE_PREFIX)
        and (key not in facts_a or key not in facts_b or facts_a[key] != facts_b[key])
    )
    return tuple(differing) or None


def check_comparable(facts_a: Mapping[str, Fact], facts_b: Mapping[str, Fact]) -> None:
    """Refuse to compare two scores that `comparable` says are not: of other N, reference, extractor, preprocessing, ...

    Raises IncomparableScoresError, naming every fact that differs with both values.
    """
    if differing := comparable(facts_a, facts_b):
        named = (f"{key} is {facts_a.get(key, 'unknown')} and {facts_b.get(key, 'unknown')}" for key in differing)
        raise IncomparableScoresError(f"The two scores do not compare: {', '.join(named)}; score both alike.")


def _check(
    samples: npt.NDArray[np.uint8],
    extractor: Extractor,
    references: References,
    settings: EvaluationSettings | None,
) -> None:
    if samples.dtype != np.uint8 or samples.ndim != 4 or samples.shape[1:] != references.originals.images.shape[1:]:
        raise FeatureShapeError(
            f"Samples must be uint8 like the training images {references.originals.images.shape}, "
            f"got {samples.dtype} {samples.shape}."
        )
    if len(samples) < 3:
        raise TooFewImagesError(f"The scores need at least 3 samples, got {len(samples)}.")
    if (extractor.name, extractor.weight_hash) != (references.extractor, references.weight_hash):
        raise IncomparableScoresError(
            f"The references were built with {references.extractor} ({references.weight_hash[:12]}), "
            f"not with {extractor.name} ({extractor.weight_hash[:12]}); build them again with this extractor."
        )
    if settings is not None and (keys := references.settings.differing(settings)):
        raise IncomparableScoresError(
            f"The references were built with other settings ({', '.join(keys)}); build them again."
        )


def _check_features(features: npt.NDArray[np.float32], n: int, references: References) -> None:
    wanted = (n, len(next(iter(references.statistics.values())).mean))
    if features.dtype != np.float32 or features.shape != wanted:
        raise FeatureShapeError(
            f"The features of {n} samples must be float32 {wanted}, got {features.dtype} {features.shape}."
        )
    as_features(features, "given features")


def _fidelity(features: npt.NDArray[np.float32], references: References, nearest: Nearest) -> dict[str, float]:
    key = fidelity_key(references.extractor)
    distances = {name: frechet_estimate(features, other) for name, other in references.statistics.items()}
    chosen = references.settings.reference
    values = _with_interval(key, distances[chosen])
    values |= {f"{key}_{name}": distance.value for name, distance in distances.items()}
    if len(features) >= LIMIT_FROM:
        values |= _with_interval(f"{key}_inf", frechet_limit(features, references.statistics[chosen]))
    kernel = kernel_distance(features, references.kernel)
    values |= _with_interval("kid", kernel) | {"kid_se": (kernel.high - kernel.value) / Z_95}
    if references.manifold is not None and len(features) >= NEIGHBOURS + 2:
        found = manifold_scores(features, references.manifold)
        for name in ("precision", "recall", "density", "coverage"):
            values |= _with_interval(name, getattr(found, name))
    usual = usual_distance(references.originals.null.similarity, len(features))
    return values | _with_interval(f"mi_{key}", memorization_informed(distances[chosen], nearest.similarity, usual))


def _memorization(nearest: Nearest, originals: Originals) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, estimate in (originals.scores(nearest) | {"c_t": originals.data_copying(nearest)}).items():
        values |= _with_interval(name, estimate)
    for name, value in originals.null_scores(len(nearest.ratio)).items():
        values[name.replace("s_tau", "s_null") if name.startswith("s_tau") else f"{name}_heldout"] = value
    return values | {"tau": originals.tau}


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _facts(n: int, extractor: Extractor, references: References, seeds: Mapping[str, int]) -> dict[str, Fact]:
    settings = references.settings
    facts: dict[str, Fact] = {
        "extractor": extractor.name,
        "weight_hash": extractor.weight_hash,
        "n": n,
        "reference": settings.reference,
        "reference_hash": references.reference_hash,
        "n_reference": references.statistics[settings.reference].n,
        "train_hash": references.train_hash,
        "n_train": len(references.originals.images),
        "n_null": len(references.originals.null.ratio),
        "k": settings.k,
        "mirror": int(settings.mirror),
        "tau_rule": f"null {settings.null_quantile}" if settings.tau is None else f"fixed {settings.tau}",
        "tau": references.originals.tau,
    }
    if settings.shift:  # absent at 0, so that scores from before there were shifts compare with those of today
        facts["shift"] = settings.shift
    if settings.mirror:  # S_tau sees mirror images since there is this fact
        facts["mirror_features"] = 1
    if settings.tau is None:
        facts["tau_quantile"] = references.originals.tau_quantile
    facts |= {f"extractor_{key}": value for key, value in extractor.facts.items()}
    return facts | dict(seeds)
