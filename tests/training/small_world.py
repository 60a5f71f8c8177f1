"""A trial small enough for a test: few images, a few hundred weights, a scorer without features."""

import numpy as np
import torch
from torch import nn

from ambient_ray.data import ImageSet, noise_bank
from ambient_ray.training import Scored, TrainingData, TrainSettings

TINY = {"_target_": "small_world.TinyNet"}


class TinyNet(nn.Module):
    """Two convolutions that know the noise level, with dropout and, if there are classes, an embedding."""

    def __init__(self, channels, resolution, num_classes, width=8, dropout=0.0):
        super().__init__()
        self.into = nn.Conv2d(channels, width, 3, padding=1)
        self.level = nn.Linear(1, width)
        self.classes = None if num_classes is None else nn.Embedding(num_classes, width)
        self.norm = nn.GroupNorm(2, width)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x, c_noise, labels=None):
        h = self.into(x) + self.level(c_noise[:, None])[:, :, None, None]
        if self.classes is not None:
            h = h + self.classes(labels)[:, :, None, None]
        return self.out(self.drop(torch.nn.functional.silu(self.norm(h))))


def images(n=40, size=6, seed=0, labels=False):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(n, size, size, 1)).cumsum(1).cumsum(2) / 3
    pixels = np.clip(127.5 * (1 + smooth / 2), 0, 255).astype(np.uint8)
    ids = [f"{seed}-{i}" for i in range(n)]
    return ImageSet(pixels, np.arange(n) % 3 if labels else None, ids)


def data(draws=1, **kwargs):
    train = images(**kwargs)
    return TrainingData(train, images(20, seed=1), noise_bank(train.ids, train.shape, seed=0, draws=draws))


def settings(**changes):
    values = {
        "backbone": TINY,
        "rungs": (320, 640),
        "batch_size": 16,
        "sigma_tn": 0.5,
        "lr": 3e-3,
        "samples": 6,
        "sample_steps": 3,
        "sample_batch": 4,
        "ema_halflife_images": 100,
    }
    return TrainSettings(**values | changes)


def score(denoiser, samples):
    assert not denoiser.training
    return Scored({"brightness": float(samples.mean())}, {"n": len(samples)})


class Recorder:
    """A reporter that remembers, stops at the rungs it is told to, and leaves once it was asked so many times."""

    def __init__(self, stop_at=(), leave_after=None):
        self.stop_at, self.results, self.resumed, self.losses, self.notes = tuple(stop_at), [], [], [], []
        self.leave_after, self.asked = leave_after, 0

    def progress(self, images_seen, loss):
        self.losses.append((images_seen, loss))

    def rung(self, result, *, resumed=False):
        (self.resumed if resumed else self.results).append(result)
        return result.rung not in self.stop_at

    def noted(self, text):
        self.notes.append(text)

    def leaving(self):
        self.asked += 1
        return self.leave_after is not None and self.asked > self.leave_after
