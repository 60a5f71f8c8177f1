"""A trial's own part of the training images: the first n_train of the nested order, and all that goes with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .settings import TrainSettings
from .trial import TrainingData, TrialInputError


def own_subset(
    settings: TrainSettings, data: TrainingData, *, scored: bool = True, device: str | torch.device = "cpu"
) -> TrainingData:
    """The data that a trial with these settings reads: of n_train images where it has a number of its own.

    They are the training images that `split` draws for n_train, in the same order, so the same images as in a study of
    that size. An image keeps its noise. The held-out images stay, and so does what fidelity is measured against; copies
    are looked for among the trial's own images alone.

    scored: whether this process scores samples; else the references are left out, as they cost seconds.
    device: where the references look for neighbours.
    Raises TrialInputError when there are not as many images, or when the data lack the nested order.
    """
    n = settings.n_train
    if n is None or n == len(data.train):
        return data
    if n > len(data.train):
        raise TrialInputError(f"n_train = {n}, but the study has {len(data.train)} training images (dataset.n_train)")
    if data.nested is None:
        raise TrialInputError("a trial's own n_train needs the order in which images join (Split.nested)")
    rows = np.sort(data.nested[:n])
    train = data.train.subset(rows)
    references = None
    if scored and data.references is not None:
        references = data.references.narrowed(rows, train, data.heldout, device=device)
    bank = None if data.noise_bank is None else data.noise_bank[rows]
    return replace(data, train=train, noise_bank=bank, references=references, nested=None, rows=rows)
