"""Training images and their fixed noises, resident on the device: a step gathers them without the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ambient_ray.diffusion import flip_together, shift_together

from .settings import TrainSettings
from .streams import StepDraws, noisy_only
from .trial import TrainingData, TrialInputError


class Batch(NamedTuple):
    """clean: [B,C,H,W] in [-1, 1]; noise: the images' own; labels: int64 [B]; noisy_image: bool [B]."""

    clean: Tensor
    noise: Tensor | None
    labels: Tensor | None
    noisy_image: Tensor | None


class ResidentImages:
    """Images uint8 [N,C,H,W], noise bank, labels and marks on one device.

    Raises TrialInputError when the data lack what the settings need.
    """

    def __init__(self, settings: TrainSettings, data: TrainingData, device: torch.device) -> None:
        """Check the data against the settings and copy what is needed to the device."""
        check_data(settings, data)
        train, self._flip = data.train, settings.flip
        self._memory_format = torch.channels_last if settings.channels_last else torch.contiguous_format
        pixels = np.array(train.images.transpose(0, 3, 1, 2), order="C")
        self._images = torch.from_numpy(pixels).to(device)
        self._labels: Tensor | None = None
        if settings.conditional and train.labels is not None:
            self._labels = torch.from_numpy(np.array(train.labels)).to(device)
        self._noisy_image: Tensor | None = None
        if settings.mixing == "image_split":
            marks = noisy_only(train.ids, settings.noisy_ratio, seed=settings.noise_seed)
            self._noisy_image = torch.from_numpy(marks).to(device)
        self._noise: Tensor | None = None
        self._draws = 1
        if settings.sigma_tn > 0 and isinstance(settings.noise_draws, int) and data.noise_bank is not None:
            self._draws = settings.noise_draws
            bank = np.array(data.noise_bank[:, : self._draws])  # a copy: Ray's arrays are read-only
            self._noise = torch.from_numpy(bank.reshape(-1, *bank.shape[2:])).to(device)

    def held(self) -> dict[str, list[Tensor]]:
        """All that steps are taken from, by what it is called."""
        images = [self._images, self._labels, self._noisy_image]
        noise = [] if self._noise is None else [self._noise]
        return {"training images": [tensor for tensor in images if tensor is not None], "noise bank": noise}

    def batch(self, step: StepDraws) -> Batch:
        """The images of a step in [-1, 1], each with its own noise, flipped and shifted together."""
        clean = self._images.index_select(0, step.rows).float().div_(127.5).sub_(1.0)
        noise = step.fresh
        if self._noise is not None:
            row = step.rows
            if self._draws > 1:
                row = row * self._draws + (step.pick * self._draws).long()
            noise = self._noise.index_select(0, row)
        if self._flip:
            clean, noise = flip_together(clean, noise, step.flip)
        if step.shift is not None:
            clean, noise = shift_together(clean, noise, step.shift)
        return Batch(
            clean.contiguous(memory_format=self._memory_format),
            noise,
            None if self._labels is None else self._labels.index_select(0, step.rows),
            None if self._noisy_image is None else self._noisy_image.index_select(0, step.rows),
        )


def check_images(settings: TrainSettings, data: TrainingData) -> None:
    """Refuse, with a TrialInputError, images that the settings cannot be trained on."""
    _, height, width = data.train.shape
    if height != width:
        raise TrialInputError(f"training images must be square, got {height}x{width}; give dataset.resolution")
    if 2 * settings.shift_pixels >= height:
        raise TrialInputError(
            f"shift_pixels = {settings.shift_pixels} moves images of {height} pixels by half or more of their size"
        )
    if settings.conditional and data.train.labels is None:
        raise TrialInputError("conditional training needs labels, but the images have none")


def check_data(settings: TrainSettings, data: TrainingData) -> None:
    """Refuse, with a TrialInputError, images or noises that the settings cannot be trained on."""
    check_images(settings, data)
    channels, height, width = data.train.shape
    if settings.sigma_tn == 0 or settings.noise_draws == "inf":
        return
    wanted = int(settings.noise_draws)
    if data.noise_bank is None:
        raise TrialInputError(f"sigma_tn = {settings.sigma_tn:g} needs a noise bank, but the data have none")
    n, draws = data.noise_bank.shape[:2]
    if n != len(data.train) or draws < wanted or data.noise_bank.shape[2:] != (channels, height, width):
        raise TrialInputError(
            f"the noise bank has shape {list(data.noise_bank.shape)}, but {len(data.train)} images with "
            f"noise_draws = {wanted} need {[len(data.train), wanted, channels, height, width]}"
        )


def measured_sigma_data(data: TrainingData) -> float:
    """Standard deviation of all training pixels in [-1, 1]."""
    return float(data.train.images.std(dtype=np.float64) / 127.5)
