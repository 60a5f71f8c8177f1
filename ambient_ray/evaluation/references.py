"""What samples are compared with, computed once a study: features and their statistics, and the training images."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from ambient_ray.data import ImageSet

from .errors import EvaluationSettingsError, FeatureShapeError, TooFewImagesError
from .extractors import Extractor, device_of
from .fidelity import NEIGHBOURS, GaussianStatistics, KernelStatistics, Manifold
from .originals import Originals
from .settings import EvaluationSettings, fidelity_key


@dataclass(frozen=True)
class References:
    """All that `evaluate` needs of the real images: arrays only, shared by an object store.

    statistics: one a reference set; kernel, manifold: of the chosen one (manifold: None where it has too few images);
    originals: the training images and how held-out ones resemble them; heldout_features float32 [m,d]: kept where
    trials may train on parts of the training set (`narrowed`), else None.
    """

    settings: EvaluationSettings
    extractor: str
    weight_hash: str
    statistics: Mapping[str, GaussianStatistics]
    kernel: KernelStatistics
    manifold: Manifold | None
    originals: Originals
    train_hash: str
    reference_hash: str
    heldout_features: npt.NDArray[np.float32] | None = None

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

        narrow: keep what `narrowed` needs, the held-out images' features. The extractor's device, where it has one, is
        where neighbours are looked for.
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
        originals = Originals.build(
            chosen, train.images, features["train"], mirrored, (heldout.images, features["heldout"]),
            device=device_of(extractor),
        )  # fmt: skip
        kernel = KernelStatistics.of(features[chosen.reference], f"{chosen.reference} features")
        return cls(
            settings=chosen,
            extractor=extractor.name,
            weight_hash=extractor.weight_hash,
            statistics={name: GaussianStatistics.of(values, f"{name} features") for name, values in features.items()},
            kernel=kernel,
            manifold=_manifold(kernel),
            originals=originals,
            train_hash=train.content_hash,
            reference_hash=sets[chosen.reference].content_hash,
            heldout_features=features["heldout"] if narrow else None,
        )

    def caution(self, samples: int) -> str | None:
        """One sentence where so many samples are fewer than the features' values, and what it means; else None."""
        width = self.originals.features.shape[1]
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
        chosen, whole = self.settings, self.originals
        features = whole.features[rows]
        own = replace(
            self,
            statistics={**self.statistics, "train": GaussianStatistics.of(features, "train features")},
            originals=Originals.build(
                chosen, train.images, features, None if whole.mirrored is None else whole.mirrored[rows],
                (heldout.images, self.heldout_features), device=device,
            ),
            train_hash=train.content_hash,
        )  # fmt: skip
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
