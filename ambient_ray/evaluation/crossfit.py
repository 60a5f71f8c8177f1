"""Scores of copying where no image was held out: the null comes from the training images, each against the others.

A training image drawn from the same law as the others resembles them as a held-out image would, as long as it is not
compared with itself. So the training images are divided into ten folds, and each fold is scored against the other nine
tenths (cross-fitting). What fidelity is measured against cannot be had so: training images reward copying.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from ambient_ray.data import ImageSet

from .errors import FeatureShapeError, TooFewImagesError
from .evaluate import Scores
from .extractors import Extractor, Fact, device_of
from .memorization import Cells, PartialCopies, calibrated_tau, partial_copies, training_radii
from .neighbours import TwoNearest, nearest_cosine, two_nearest
from .originals import Nearest, Originals
from .settings import EvaluationSettings

FOLDS = 10

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


def evaluate_copying(
    samples: Images,
    extractor: Extractor,
    train: ImageSet,
    *,
    settings: EvaluationSettings | None = None,
    seeds: Mapping[str, int] | None = None,
) -> Scores:
    """The scores of copying of samples uint8 [N,H,W,C], N >= 3, against a training set of 3 images or more.

    Scores.values are named as by `evaluate`, without fidelity, MiFID and C_T, which compare with held-out images. Every
    `..._heldout` and s_null is the same figure of the training images, cross-fitted; tau is calibrated to them unless
    settings.tau is given. They are what held-out images of the training set's own law would score against nine tenths
    of it: near-duplicates among the training images raise them.

    Raises FeatureShapeError (samples of another shape), TooFewImagesError, NonFiniteFeaturesError.
    """
    if samples.dtype != np.uint8 or samples.shape[1:] != train.images.shape[1:]:
        raise FeatureShapeError(
            f"Samples must be uint8 like the training images {train.images.shape}, got {samples.dtype} {samples.shape}."
        )
    for name, count in (("samples", len(samples)), ("training images", len(train))):
        if count < 3:
            raise TooFewImagesError(f"The scores need at least 3 {name}, got {count}.")
    chosen, device = settings or EvaluationSettings(), device_of(extractor)
    originals = originals_alone(chosen, train.images, extractor, device)
    features = extractor(samples)
    nearest = originals.nearest(samples, features, device=device)
    values: dict[str, float] = {"tau": originals.tau}
    for name, estimate in originals.scores(nearest).items():
        values |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    for name, value in originals.null_scores(len(samples)).items():
        if name != "c_t":  # one half of the training images against the other says nothing about samples
            values[name.replace("s_tau", "s_null") if name.startswith("s_tau") else f"{name}_heldout"] = value
    return Scores(values, _facts(len(samples), extractor, train, originals, seeds or {}), nearest, features)


def originals_alone(
    settings: EvaluationSettings, images: Images, extractor: Extractor, device: str | torch.device = "cpu"
) -> Originals:
    """Training images uint8 [n,H,W,C], n >= 3, as what samples may be copies of, with their own cross-fitted null."""
    features = extractor(images)
    mirrored = extractor(np.ascontiguousarray(images[:, :, ::-1])) if settings.mirror else None
    cells = Cells.of(features)
    null = _crossfitted(settings, images, features, mirrored, cells.containing(features), device)
    tau, quantile = settings.tau, float("nan")
    if tau is None:
        tau, quantile = calibrated_tau(null.similarity, settings.null_quantile)
    radii = training_radii(features, device=device)
    return Originals(settings, images, features, mirrored, radii, cells, null, tau, quantile)


def _crossfitted(
    settings: EvaluationSettings,
    images: Images,
    features: Features,
    mirrored: Features | None,
    cell: npt.NDArray[np.int64],
    device: str | torch.device,
) -> Nearest:
    """The neighbours of every training image among those of the other folds, numbered in the whole set."""
    n, folds = len(images), min(FOLDS, len(images))
    index, similar = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    distance, ratio, similarity, area = (np.empty(n) for _ in range(4))
    source, tiles = np.empty(n, dtype=np.int64), np.empty((n, 3, 3), dtype=np.bool_)
    for fold in range(folds):
        # Every tenth image: a set sorted by class has all classes in each fold.
        held = np.arange(fold, n, folds)
        rest = np.setdiff1d(np.arange(n), held)
        pixels = two_nearest(images[held], images[rest], mirror=settings.mirror, shift=settings.shift, device=device)
        index[held], distance[held], ratio[held] = rest[pixels.index[:, 0]], pixels.distance[:, 0], pixels.ratio
        near, similarity[held] = nearest_cosine(
            features[held], features[rest], mirrored=None if mirrored is None else mirrored[rest], device=device
        )
        similar[held] = rest[near]
        part = partial_copies(images[held], images[rest], k=settings.k, mirror=settings.mirror, device=device)
        area[held], tiles[held] = part.area, part.tiles
        source[held] = np.where(part.index < 0, -1, rest[part.index])
    partial = PartialCopies(area, source, tiles)
    return Nearest(
        index, distance, ratio, similar, similarity, _nearest_other(features, device), cell, partial,
    )  # fmt: skip


def _nearest_other(features: Features, device: str | torch.device) -> TwoNearest:
    """The nearest other training image in features, in both places: nothing here asks for the second.

    Among all others, not among nine tenths: it is compared with that image's own radius among all others
    (`authentic_share`), and leaving the one that is asked about out of the radius changes no answer: where it is the
    nearest, the two distances are equal, and not larger.
    """
    found = two_nearest(features, features, device=device)
    itself = found.index[:, 0] == np.arange(len(features))
    other = np.where(itself, found.index[:, 1], found.index[:, 0])
    return TwoNearest(np.stack([other, other], axis=1), found.distance[:, [1, 1]])


def _facts(
    n: int, extractor: Extractor, train: ImageSet, originals: Originals, seeds: Mapping[str, int]
) -> dict[str, Fact]:
    settings = originals.settings
    rule = f"cross-fitted {settings.null_quantile}" if settings.tau is None else f"fixed {settings.tau}"
    facts: dict[str, Fact] = {
        "extractor": extractor.name,
        "weight_hash": extractor.weight_hash,
        "n": n,
        "reference": "none",
        "train_hash": train.content_hash,
        "n_train": len(train),
        "n_null": len(originals.null.ratio),
        "k": settings.k,
        "mirror": int(settings.mirror),
        "tau_rule": rule,
        "tau": originals.tau,
    }
    if settings.shift:
        facts["shift"] = settings.shift
    if settings.mirror:
        facts["mirror_features"] = 1
    if settings.tau is None:
        facts["tau_quantile"] = originals.tau_quantile
    facts |= {f"extractor_{key}": value for key, value in extractor.facts.items()}
    return facts | dict(seeds)
