"""The training images as what samples may be copies of: their neighbours, and the same figures of held-out images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from .arrays import Floats
from .errors import TooFewImagesError
from .estimate import Estimate
from .memorization import (
    S_TAU_THRESHOLDS,
    Cells,
    PartialCopies,
    authentic_share,
    calibrated_tau,
    copied_share,
    covered_training_set,
    data_copying,
    partial_copies,
    similarity_share,
    training_radii,
    unique_memorization,
)
from .neighbours import TwoNearest, nearest_cosine, two_nearest
from .settings import EvaluationSettings

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nearest:
    """Each image's nearest training images, for the scores and for the picture that shows them side by side.

    index int64 [N] and distance [N]: the nearest in pixels (L2 on 0..255; the mirror image where
    settings.mirror); ratio [N]: d1/d2, small = copied; similar_index int64 [N] and similarity [N]: the
    nearest in features, by cosine; by_feature: the two nearest in features, by L2; cell int64 [N]: the part of feature
    space; partial: which part of each is copied.
    """

    index: npt.NDArray[np.int64]
    distance: Floats
    ratio: Floats
    similar_index: npt.NDArray[np.int64]
    similarity: Floats
    by_feature: TwoNearest
    cell: npt.NDArray[np.int64]
    partial: PartialCopies

    def most_similar_first(self) -> npt.NDArray[np.int64]:
        """Image numbers [N], the smallest gap ratio first, the higher similarity first among equals."""
        return np.lexsort((-self.similarity, self.ratio)).astype(np.int64)


@dataclass(frozen=True)
class Originals:
    """A training set, and how held-out images resemble it: the null beside every score of copying.

    images uint8 [n,H,W,C], features float32 [n,d]; mirrored float32 [n,d]: features of the mirror images, where
    settings.mirror, else None; radii [n] and cells: see `training_radii` and `Cells`; null: the held-out images'
    neighbours; tau and tau_quantile: the threshold of S_tau and the null's quantile that it really estimates (nan for a
    tau that was given).
    """

    settings: EvaluationSettings
    images: Images
    features: Features
    mirrored: Features | None
    radii: Floats
    cells: Cells
    null: Nearest
    tau: float
    tau_quantile: float

    @classmethod
    def build(
        cls,
        settings: EvaluationSettings,
        images: Images,
        features: Features,
        mirrored: Features | None,
        heldout: tuple[Images, Features],
        *,
        device: str | torch.device = "cpu",
    ) -> Self:
        """All that follows from the training images; heldout: images and features of those that were held out.

        Raises TooFewImagesError (fewer than 3 training images).
        """
        if len(images) < 3:
            raise TooFewImagesError(f"The scores need at least 3 images in the train set, got {len(images)}.")
        cells = Cells.of(features)
        null = _nearest(settings, (images, features, mirrored), cells, *heldout, device)
        tau, quantile = (settings.tau, float("nan"))
        if tau is None:
            tau, quantile = calibrated_tau(null.similarity, settings.null_quantile)
        radii = training_radii(features, device=device)
        return cls(settings, images, features, mirrored, radii, cells, null, tau, quantile)

    def nearest(self, images: Images, features: Features, *, device: str | torch.device = "cpu") -> Nearest:
        """The neighbours of images uint8 [N,H,W,C] with features [N,d]."""
        return _nearest(
            self.settings, (self.images, self.features, self.mirrored), self.cells, images, features, device
        )

    def scores(self, nearest: Nearest) -> dict[str, Estimate]:
        """Every score of copying, by name, of images with these neighbours; of `null`, what held-out images score."""
        found = {
            name: copied_share(nearest.ratio, k)
            for name, k in (("f_mem", self.settings.k), ("f_mem_half", 1 / 2), ("f_mem_quarter", 1 / 4))
        }
        taus = {"s_tau": self.tau} | {f"s_tau_{round(1000 * tau)}": tau for tau in S_TAU_THRESHOLDS}
        found |= {name: similarity_share(nearest.similarity, tau) for name, tau in taus.items()}
        by_pixels = (nearest.index, nearest.ratio < self.settings.k)
        by_features = (nearest.similar_index, nearest.similarity > self.tau)
        for suffix, (index, copied) in {"": by_pixels, "_tau": by_features}.items():
            found[f"ums{suffix}"] = unique_memorization(index, copied, len(self.images))
            found[f"train_coverage{suffix}"] = covered_training_set(index, copied, len(self.images))
        found["partial"] = nearest.partial.share()
        found["authentic"] = authentic_share(nearest.by_feature, self.radii)
        return found

    def data_copying(self, nearest: Nearest) -> Estimate:
        """C_T of images with these neighbours, against the held-out images."""
        return _data_copying(nearest, self.null)

    def null_scores(self, n: int) -> Mapping[str, float]:
        """The same scores of held-out images; those that count training images, of at most n of them; C_T of halves."""
        few = np.linspace(0, len(self.null.ratio) - 1, min(n, len(self.null.ratio))).astype(np.int64)
        counted = self.scores(_taken(self.null, few))
        whole = self.scores(self.null)
        values = {
            name: (counted if name.startswith(("ums", "train_coverage")) else whole)[name].value for name in whole
        }
        if len(self.null.ratio) >= 4:
            odd, even = (_taken(self.null, np.arange(start, len(self.null.ratio), 2)) for start in (0, 1))
            values["c_t"] = _data_copying(odd, even).value
        return values


def _nearest(
    settings: EvaluationSettings,
    train: tuple[Images, Features, Features | None],
    cells: Cells,
    images: Images,
    features: Features,
    device: str | torch.device,
) -> Nearest:
    originals, theirs, mirrored = train
    pixels = two_nearest(images, originals, mirror=settings.mirror, shift=settings.shift, device=device)
    similar_index, similarity = nearest_cosine(features, theirs, mirrored=mirrored, device=device)
    return Nearest(
        index=pixels.index[:, 0],
        distance=pixels.distance[:, 0],
        ratio=pixels.ratio,
        similar_index=similar_index,
        similarity=similarity,
        by_feature=two_nearest(features, theirs, device=device),
        cell=cells.containing(features),
        partial=partial_copies(images, originals, k=settings.k, mirror=settings.mirror, device=device),
    )


def _taken(nearest: Nearest, rows: npt.NDArray[np.int64]) -> Nearest:
    """The neighbours of some of the images."""
    two, part = nearest.by_feature, nearest.partial
    return Nearest(
        nearest.index[rows], nearest.distance[rows], nearest.ratio[rows], nearest.similar_index[rows],
        nearest.similarity[rows], TwoNearest(two.index[rows], two.distance[rows]), nearest.cell[rows],
        PartialCopies(part.area[rows], part.index[rows], part.tiles[rows]),
    )  # fmt: skip


def _data_copying(nearest: Nearest, null: Nearest) -> Estimate:
    return data_copying(nearest.by_feature.distance[:, 0], nearest.cell, null.by_feature.distance[:, 0], null.cell)
