"""What samples are compared with, computed once a study: features, their statistics, and the nulls."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from ambient_ray.data import ImageSet

from .arrays import Floats
from .errors import EvaluationSettingsError, FeatureShapeError, TooFewImagesError
from .extractors import Extractor, device_of
from .fidelity import NEIGHBOURS, GaussianStatistics, KernelStatistics, Manifold
from .memorization import NULL_QUANTILE, calibrated_tau
from .neighbours import nearest_cosine, two_nearest

ReferenceName = Literal["heldout", "full", "train", "other"]
REFERENCES: tuple[ReferenceName, ...] = ("heldout", "full", "train", "other")


def fidelity_key(extractor: str) -> str:
    """The Frechet distance's key: `fid` with the original Inception, `fd_<extractor>` with any other."""
    return "fid" if extractor == "inception" else f"fd_{extractor}"


@dataclass(frozen=True)
class EvaluationSettings:
    """How samples are scored.

    reference: what the fidelity that is optimised is measured against: `heldout` (default), `full`, `train`,
    which rewards copying, or `other`: any set of images of this shape. k: the gap ratio's threshold of f_mem,
    in (0, 1]. tau: the similarity threshold of S_tau, or None: calibrated to the null's `null_quantile`. mirror,
    shift: f_mem counts mirror images, and images moved by up to so many pixels, as copies (set them where training
    may flip or shift, for all trials that are to be compared: else augmentation looks like less copying, as f_mem
    does not see through it).
    """

    reference: ReferenceName = "heldout"
    k: float = 1 / 3
    tau: float | None = None
    null_quantile: float = NULL_QUANTILE
    mirror: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.reference not in REFERENCES:
            raise EvaluationSettingsError(
                f"evaluation.reference={self.reference} is unknown; use one of {', '.join(REFERENCES)}."
            )
        if not 0 < self.k <= 1:
            raise EvaluationSettingsError(f"evaluation.k={self.k}: the gap ratio's threshold must lie in (0, 1].")
        if self.tau is not None and not -1 <= self.tau < 1:
            raise EvaluationSettingsError(f"evaluation.tau={self.tau}: a cosine threshold must lie in [-1, 1).")
        if not 0 < self.null_quantile < 1:
            raise EvaluationSettingsError(f"evaluation.null_quantile={self.null_quantile} must lie between 0 and 1.")
        if self.shift < 0:
            raise EvaluationSettingsError(f"evaluation.shift={self.shift} must be a number of pixels, 0 or more.")

    def differing(self, other: Self) -> tuple[str, ...]:
        """Names of the fields in which two settings differ."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name))


@dataclass(frozen=True)
class References:
    """All that `evaluate` needs of the real images: arrays only, shared by an object store.

    train_images uint8 [n,H,W,C] and train_features float32 [n,d]; statistics: one a reference set; kernel:
    of the chosen one; null_similarity and null_ratio [m]: cosine to the nearest training image and gap
    ratio of the held-out images; tau and tau_quantile: the threshold of S_tau and the null's quantile that
    it really estimates (nan for a tau that was given). heldout_features float32 [m,d]: kept where trials may train on
    parts of the training set (`narrowed`), else None. mirrored_features float32 [n,d]: of the training images with left
    and right swapped, where settings.mirror, else None: S_tau looks for copies of either.
    """

    settings: EvaluationSettings
    extractor: str
    weight_hash: str
    train_images: npt.NDArray[np.uint8]
    train_features: npt.NDArray[np.float32]
    statistics: Mapping[str, GaussianStatistics]
    kernel: KernelStatistics
    manifold: Manifold | None
    null_similarity: Floats
    null_ratio: Floats
    tau: float
    tau_quantile: float
    train_hash: str
    reference_hash: str
    heldout_features: npt.NDArray[np.float32] | None = None
    mirrored_features: npt.NDArray[np.float32] | None = None

    @classmethod
    def build(
        cls,
        extractor: Extractor,
        train: ImageSet,
        heldout: ImageSet,
        *,
        full: ImageSet | None = None,
        other: ImageSet | None = None,
        settings: EvaluationSettings | None = None,
        narrow: bool = False,
    ) -> Self:
        """References from a training subset, its held-out images and, if wanted, the set they come from and another.

        narrow: keep what `narrowed` needs, the held-out images' features.
        Raises EvaluationSettingsError (reference=full or other without that set), TooFewImagesError (train < 3 or
        held-out < 3), FeatureShapeError (images of different shape).
        """
        chosen = settings or EvaluationSettings()
        given = {"heldout": heldout, "train": train, "full": full, "other": other}
        sets = {name: images for name, images in given.items() if images is not None}
        if chosen.reference not in sets:
            missing = "the full image set" if chosen.reference == "full" else "another set of images"
            raise EvaluationSettingsError(
                f"evaluation.reference={chosen.reference} needs {missing}; use heldout or train."
            )
        for name, images in sets.items():
            if len(images) < 3:
                raise TooFewImagesError(f"The scores need at least 3 images in the {name} set, got {len(images)}.")
            if images.shape != train.shape:
                raise FeatureShapeError(f"The {name} images have shape {images.shape}, those of train {train.shape}.")
        wanted = {name: images.images for name, images in sets.items()}
        if chosen.mirror:
            wanted["mirrored"] = train.images[:, :, ::-1]
        features = _features_once(extractor, wanted)
        mirrored = features.pop("mirrored", None)
        device = device_of(extractor)
        null_similarity = nearest_cosine(features["heldout"], features["train"], device=device)[1]
        null_ratio = two_nearest(
            heldout.images, train.images, mirror=chosen.mirror, shift=chosen.shift, device=device
        ).ratio
        tau, quantile = (chosen.tau, float("nan"))
        if tau is None:
            tau, quantile = calibrated_tau(null_similarity, chosen.null_quantile)
        kernel = KernelStatistics.of(features[chosen.reference], f"{chosen.reference} features")
        return cls(
            settings=chosen,
            extractor=extractor.name,
            weight_hash=extractor.weight_hash,
            train_images=train.images,
            train_features=features["train"],
            statistics={name: GaussianStatistics.of(values, f"{name} features") for name, values in features.items()},
            kernel=kernel,
            manifold=_manifold(kernel),
            null_similarity=null_similarity,
            null_ratio=null_ratio,
            tau=tau,
            tau_quantile=quantile,
            train_hash=train.content_hash,
            reference_hash=sets[chosen.reference].content_hash,
            heldout_features=features["heldout"] if narrow else None,
        )

    def caution(self, samples: int) -> str | None:
        """One sentence where so many samples are fewer than the features' values, and what it means; else None."""
        width = self.train_features.shape[1]
        if samples >= width:
            return None
        return (
            f"{samples:,} samples are fewer than the {width:,} values of {self.extractor}'s features: the Frechet"
            " distance is computed from the samples' own products, exactly, but is far above its limit; compare equal"
            f" numbers, or read {fidelity_key(self.extractor)}_inf and kid."
        )

    def narrowed(
        self, rows: npt.NDArray[np.int64], train: ImageSet, heldout: ImageSet, *, device: str | torch.device = "cpu"
    ) -> Self:
        """The references of a model that trained on a part of the training images only.

        Copies are looked for among those alone, the null is what held-out images score against them, and the `train`
        statistics are theirs. What fidelity is measured against stays as it is (unless that is `train`).

        rows: int64 [n], their positions among the training images; train: these images, in that order; heldout: the
        images that these references were built with; device: where neighbours are looked for. Raises TooFewImagesError
        (n < 3), EvaluationSettingsError (built without narrow=True).
        """
        if self.heldout_features is None:
            raise EvaluationSettingsError("a trial's own n_train needs references that were built with narrow=True.")
        if len(rows) < 3:
            raise TooFewImagesError(f"The scores need at least 3 images in the train set, got {len(rows)}.")
        chosen, features = self.settings, self.train_features[rows]
        null_similarity = nearest_cosine(self.heldout_features, features, device=device)[1]
        pixels = two_nearest(heldout.images, train.images, mirror=chosen.mirror, shift=chosen.shift, device=device)
        tau, quantile = self.tau, self.tau_quantile
        if chosen.tau is None:
            tau, quantile = calibrated_tau(null_similarity, chosen.null_quantile)
        own = replace(
            self,
            train_images=train.images,
            train_features=features,
            statistics={**self.statistics, "train": GaussianStatistics.of(features, "train features")},
            null_similarity=null_similarity,
            null_ratio=pixels.ratio,
            tau=tau,
            tau_quantile=quantile,
            train_hash=train.content_hash,
        )
        if chosen.reference != "train":
            return own
        kernel = KernelStatistics.of(features, "train features")
        return replace(own, kernel=kernel, manifold=_manifold(kernel), reference_hash=train.content_hash)


def _manifold(kernel: KernelStatistics) -> Manifold | None:
    """Of the kernel's features, which they share; None where there are too few."""
    return Manifold.of(kernel.features) if len(kernel.features) >= NEIGHBOURS + 2 else None


def _features_once(
    extractor: Extractor, sets: Mapping[str, npt.NDArray[np.uint8]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Features of every set, each different image extracted once: `full` holds those of the other two."""
    rows: dict[bytes, int] = {}
    places: dict[str, list[int]] = {}
    different: list[npt.NDArray[np.uint8]] = []
    for name, images in sets.items():
        places[name] = []
        for image in np.ascontiguousarray(images):
            place = rows.setdefault(hashlib.blake2b(image, digest_size=16).digest(), len(rows))
            if place == len(different):
                different.append(image)
            places[name].append(place)
    features = extractor(np.stack(different))
    return {name: features[indices] for name, indices in places.items()}
