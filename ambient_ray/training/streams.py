"""The random numbers of a step: a pure function of the seed and the images seen, whoever computes them.

Every rank draws the whole global batch and keeps its slice. So a resumed run continues the same stream, and
two workers see the very batch that one worker would: results do not depend on the number of workers, but for dropout,
whose masks are drawn within the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ambient_ray.diffusion import Draws

_MASK32 = 0xFFFFFFFF


class Stream:
    """Seeds for torch generators, one for each counter, scattered and distinct.

    torch's CPU generator keeps the low 32 bits of a seed. There the counter passes through a bijection, so no
    two counters share a seed; the high bits, which CUDA's generator uses too, tell the streams apart.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        """A stream for one seed (any integer) and one purpose."""
        digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
        self._high = int.from_bytes(digest[:4], "little") & 0x7FFFFFFF
        self._shift = int.from_bytes(digest[4:], "little")

    def seed(self, counter: int) -> int:
        """The generator's seed at a counter, in [0, 2^63)."""
        low = counter + self._shift & _MASK32
        low ^= low >> 16  # murmur3's finalizer
        low = low * 0x85EBCA6B & _MASK32
        low ^= low >> 13
        low = low * 0xC2B2AE35 & _MASK32
        low ^= low >> 16
        return self._high << 32 | low


def share(n: int, rank: int, size: int) -> range:
    """Which of n things are a rank's: consecutive, each one somebody's, and no rank's more than one more of them."""
    return range(rank * n // size, (rank + 1) * n // size)


class StepDraws(NamedTuple):
    """One rank's part of a global batch: B = len(share(batch_size, rank, world size)).

    rows: int64 [B], which images; flip: bool [B]; pick: float [B] in [0, 1), which of an image's noises;
    draws: for the objective; fresh: float32 [B,C,H,W], new noise for the `inf` ablation, or None; shift: int64 [B,2],
    pixels down and to the right, or None.
    """

    rows: Tensor
    flip: Tensor
    pick: Tensor
    draws: Draws
    fresh: Tensor | None
    shift: Tensor | None = None


class StepStreams:
    """Draws each step's batch on the device, without a host sync.

    n_images: size of the training set; shape: (C, H, W); batch_size: global. Images are visited in epochs,
    each a permutation of its own; a batch may span two. shift_pixels: the most that an image is moved either way.
    """

    def __init__(
        self,
        seed: int,
        *,
        n_images: int,
        shape: Sequence[int],
        batch_size: int,
        rank: int,
        size: int,
        device: torch.device,
        fresh_noise: bool,
        shift_pixels: int = 0,
    ) -> None:
        """See the class."""
        self._step, self._order, self._network = (Stream(seed, name) for name in ("step", "order", "network"))
        self._shift, self._most = Stream(seed, "shift"), shift_pixels
        self._n, self._batch, self._shape = n_images, batch_size, tuple(shape)
        mine = share(batch_size, rank, size)
        self._mine = slice(mine.start, mine.stop)
        self._rank, self._size, self._device, self._fresh = rank, size, device, fresh_noise
        self._generator = torch.Generator(device)
        self._orders: dict[int, Tensor] = {}

    def draw(self, images_seen: int) -> StepDraws:
        """The batch after `images_seen` images. Also seeds the global generator, for dropout."""
        _global_generator(self._device).manual_seed(self._network_seed(images_seen))
        index = self._indices(images_seen)
        g, mine = self._generator.manual_seed(self._step.seed(images_seen)), self._mine
        # Always the same draws in the same order, so that trials with other settings share them.
        three = torch.rand((3, self._batch), generator=g, device=self._device, dtype=torch.float64)[:, mine]
        noise = torch.randn((self._batch, *self._shape), generator=g, device=self._device)[mine]
        fresh = None
        if self._fresh:
            fresh = torch.randn((self._batch, *self._shape), generator=g, device=self._device)[mine]
        shift = self._shifts(images_seen)[mine] if self._most else None
        return StepDraws(index[mine], three[1] < 0.5, three[2], Draws(three[0], noise), fresh, shift)

    def _shifts(self, images_seen: int) -> Tensor:
        # From a stream of their own, so that trials with and without them share all else.
        g = self._generator.manual_seed(self._shift.seed(images_seen))
        return torch.randint(-self._most, self._most + 1, (self._batch, 2), generator=g, device=self._device)

    def _network_seed(self, images_seen: int) -> int:
        # Dropout differs between ranks, so this one does depend on the rank.
        return self._network.seed(images_seen * self._size + self._rank)

    def _indices(self, images_seen: int) -> Tensor:
        first, last = images_seen // self._n, (images_seen + self._batch - 1) // self._n
        parts = []
        for epoch in range(first, last + 1):
            begin = max(images_seen - epoch * self._n, 0)
            end = min(images_seen + self._batch - epoch * self._n, self._n)
            parts.append(self._epoch_order(epoch)[begin:end])
        for epoch in [old for old in self._orders if old < last]:
            del self._orders[epoch]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _epoch_order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            g = self._generator.manual_seed(self._order.seed(epoch))
            keys = torch.rand(self._n, generator=g, device=self._device, dtype=torch.float64)
            self._orders[epoch] = keys.argsort()  # a permutation without leaving the device
        return self._orders[epoch]


def _global_generator(device: torch.device) -> torch.Generator:
    if device.type != "cuda":
        return torch.default_generator
    generator: torch.Generator = torch.cuda.default_generators[
        torch.cuda.current_device() if device.index is None else device.index
    ]
    return generator


def noisy_only(ids: Sequence[str], share: float, *, seed: int) -> npt.NDArray[np.bool_]:
    """Which images exist only noisy (`image_split`): bool [N], each by a hash of (seed, id).

    share: expected share, in [0, 1]; a larger share keeps the images of a smaller one.
    """
    marks = np.empty(len(ids), dtype=np.bool_)
    for i, name in enumerate(ids):
        digest = hashlib.blake2b(f"{seed}:noisy-only:{name}".encode(), digest_size=8).digest()
        marks[i] = int.from_bytes(digest, "little") < share * 2.0**64
    return marks
