"""What a rung measures: samples of the averaged model, drawn by all ranks and scored on the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ambient_ray.data import ImageSet, to_float
from ambient_ray.diffusion import NonFiniteSamplesError, sample
from ambient_ray.evaluation import denoising_gaps, evaluate, on_device
from ambient_ray.evaluation.memory import free_memory

from .agreement import all_well
from .pulse import PULSE
from .settings import TrainSettings
from .streams import share
from .trial import Fact, TrainingData, TrialInputError, World

# Images of each side that the denoising gap looks at: enough for an interval of a few per cent.
GAP_IMAGES = 256


@dataclass(frozen=True)
class Scored:
    """scores: flat numbers by name; facts: what they depend on; arrays: kept beside the samples."""

    scores: Mapping[str, float]
    facts: Mapping[str, Fact]
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


Scorer = Callable[[nn.Module, npt.NDArray[np.uint8]], Scored]
"""Scores the averaged denoiser (in evaluation mode) and its samples uint8 [n,H,W,C]. Called on rank 0."""


class StudyScorer(Protocol):
    """A `Scorer` that takes the samples' features, float32 [n,d], where the ranks have computed them already."""

    def __call__(
        self,
        denoiser: nn.Module,
        samples: npt.NDArray[np.uint8],
        features: npt.NDArray[np.float32] | None = None,
    ) -> Scored:
        """See the class."""
        ...


def study_scorer(
    settings: TrainSettings, data: TrainingData, sigma_data: float, device: torch.device, batch: int
) -> StudyScorer:
    """Every score of `evaluate`, and the denoising gap as gap, gap_low, gap_high. batch: images at a time for the gap.

    Kept in arrays: each sample's neighbours and features; and of the gap its gap_sigmas [k], gap_losses [2,k] on
    training and held-out images, and gap_bands [k,3], the gap at each sigma with its interval.

    Raises TrialInputError when the data carry no extractor or references.
    """
    if data.extractor is None or data.references is None:
        raise TrialInputError("scoring needs the data's extractor and references")
    extractor = on_device(data.extractor, device)
    seeds = {"latent_seed": settings.latent_seed, "sample_steps": settings.sample_steps}
    train, train_labels = _gap_images(data.train, settings.conditional)
    heldout, heldout_labels = _gap_images(data.heldout, settings.conditional)

    def score(
        denoiser: nn.Module, samples: npt.NDArray[np.uint8], features: npt.NDArray[np.float32] | None = None
    ) -> Scored:
        result = evaluate(samples, extractor, data.references, seeds=seeds, features=features)
        gaps = denoising_gaps(
            denoiser,
            train,
            heldout,
            train_labels=train_labels,
            heldout_labels=heldout_labels,
            sigma_data=sigma_data,
            batch_size=batch,
            device=device,
        )
        nearest = result.nearest
        arrays: dict[str, npt.NDArray[Any]] = {
            "nearest_index": _of_study(nearest.index, data),
            "nearest_distance": nearest.distance,
            "ratio": nearest.ratio,
            "similar_index": _of_study(nearest.similar_index, data),
            "similarity": nearest.similarity,
            "partial_area": nearest.partial.area,
            "partial_index": _of_study(nearest.partial.index, data),
            "partial_tiles": nearest.partial.tiles,
            "most_similar_first": nearest.most_similar_first(),
            "features": result.features.astype(np.float16),
        }
        arrays |= {
            "gap_sigmas": np.array(gaps.sigmas),
            "gap_losses": np.stack([gaps.train, gaps.heldout]),
            "gap_bands": np.array([[band.value, band.low, band.high] for band in gaps.bands]),
        }
        gap = gaps.overall
        values = {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high}
        return Scored(dict(result.values) | values, result.facts, arrays)

    return score


def _of_study(index: npt.NDArray[np.int64], data: TrainingData) -> npt.NDArray[np.int64]:
    """Numbers of training images (-1: none), counted among all of the study's: what whoever draws them has."""
    return index if data.rows is None else np.where(index < 0, -1, data.rows[index])


def samples_at_once(settings: TrainSettings, model: nn.Module, train: ImageSet, device: torch.device) -> int:
    """How many samples to draw at a time: what was set, or what memory holds, a power of two where that is not all.

    It holds them when what the network's layers return for them, all together, fits into 1 GiB on a processor, or into
    a quarter of what is free on a GPU now, when the training has what it needs. model: in evaluation mode, on device.
    """
    if isinstance(settings.sample_batch, int):
        return settings.sample_batch
    memory = 2.0**30 if device.type != "cuda" else free_memory(device) / 4
    returned = 0

    def count(module: nn.Module, given: Any, result: Any) -> None:
        nonlocal returned
        if isinstance(result, torch.Tensor) and not any(module.children()):
            returned += result.nbytes

    hooks = [module.register_forward_hook(count) for module in model.modules()]
    labels = torch.zeros(1, dtype=torch.int64, device=device) if settings.conditional else None
    with torch.no_grad():
        model(torch.zeros(1, *train.shape, device=device), torch.ones(1, device=device), labels)
    for hook in hooks:
        hook.remove()
    most = min(settings.samples, max(1, int(memory / max(1, returned))))
    return most if most == settings.samples else 1 << most.bit_length() - 1


def sample_labels(settings: TrainSettings, train: ImageSet) -> npt.NDArray[np.int64] | None:
    """The samples' classes: sample j takes training image j's, round and round. None when unconditional."""
    if not settings.conditional or train.labels is None:
        return None
    return np.resize(train.labels, settings.samples).astype(np.int64)


def draw_samples(
    settings: TrainSettings, denoiser: nn.Module, train: ImageSet, world: World, batch: int
) -> npt.NDArray[np.uint8] | None:
    """This rank's share of the rung's samples, uint8 [m,H,W,C], `batch` at a time; None if any rank's is not finite.

    The network runs in the precision it was trained in, the sampler's own arithmetic in float32. With bf16 it takes .55
    of float32's time, and its scores are the same to 1 % of what other latents change (the digits, four rungs, six sets
    of latents, DDPM and sigma_tn .5: Frechet distances differ by .1 %). Fewer than EDM's 18 steps would change them.
    """
    labels = sample_labels(settings, train)
    part = share(settings.samples, world.rank, world.size)
    channels, height, width = train.shape
    mine: npt.NDArray[np.uint8] | None = np.empty((0, height, width, channels), dtype=np.uint8)
    try:
        autocast = torch.autocast(world.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        with PULSE.unseen(), autocast:
            if part:
                mine = sample(
                    denoiser,
                    len(part),
                    train.shape,
                    seed=settings.latent_seed,
                    batch_size=batch,
                    device=world.device,
                    labels=None if labels is None else labels[part.start : part.stop],
                    steps=settings.sample_steps,
                    rho=settings.sample_rho,
                    start=part.start,
                )
    except NonFiniteSamplesError:
        mine = None
    return mine if all_well(mine is not None, world) else None


class Features:
    """Computes the features of one rank's samples, on its device.

    Raises TrialInputError when the data carry no extractor.
    """

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        """See the class."""
        if data.extractor is None:
            raise TrialInputError("scoring needs the data's extractor and references")
        self._extractor = on_device(data.extractor, device)

    def __call__(self, samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Features float32 [m,d] of samples uint8 [m,H,W,C]; [0,0] of none."""
        return self._extractor(samples) if len(samples) else np.empty((0, 0), dtype=np.float32)


def _gap_images(images: ImageSet, conditional: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64] | None]:
    labels = images.labels[:GAP_IMAGES] if conditional and images.labels is not None else None
    return to_float(images.images[:GAP_IMAGES]), labels
