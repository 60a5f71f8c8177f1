"""Loss and gradient norm summed on the device, and read without making the device wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Reading(NamedTuple):
    """Means over the steps since the last reading. NaN or infinity in one step stays in the mean."""

    loss: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether every loss and every gradient since the last reading was finite."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class Sums(NamedTuple):
    """What a meter holds between two readings: each rank's sums of loss and gradient norm, over so many steps each."""

    ranks: tuple[tuple[float, float], ...]
    steps: int


class Meter:
    """Sums over steps: an addition a step, a host sync only where `read` or `sums` is called."""

    def __init__(self, device: torch.device) -> None:
        """Start empty."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._steps = 0
        self._before = 0  # steps of all ranks together, of another number of ranks

    def add(self, loss: Tensor, grad_norm: Tensor) -> None:
        """Count a step: two 0-d tensors on the device."""
        self._sums[0] += loss
        self._sums[1] += grad_norm
        self._steps += 1

    def read(self, world_size: int = 1) -> Reading:
        """Means over steps and ranks, and a new start. A host sync; with several ranks, a collective call."""
        if world_size > 1:
            dist.all_reduce(self._sums)
        loss, norm = self._sums.tolist()
        steps = max(self._before + self._steps * world_size, 1)
        self._sums.zero_()
        self._steps = self._before = 0
        return Reading(loss / steps, norm / steps)

    def sums(self, world_size: int = 1) -> Sums:
        """What was added since the last reading, to go on from later. A host sync; with several ranks, a collective."""
        everyone = [self._sums]
        if world_size > 1:
            everyone = [torch.empty_like(self._sums) for _ in range(world_size)]
            dist.all_gather(everyone, self._sums)
        table, steps = torch.stack(everyone), self._steps
        if self._before:  # some are of another number of ranks already: one entry for all
            table, steps = table.sum(0, keepdim=True), self._before + self._steps * world_size
        return Sums(tuple((loss, norm) for loss, norm in table.tolist()), steps)

    def go_on(self, sums: Sums, rank: int = 0, world_size: int = 1) -> None:
        """Go on from `sums`: each rank from its own; where there were more or fewer ranks, the first one from all."""
        if len(sums.ranks) == world_size:
            self._sums += torch.tensor(sums.ranks[rank], dtype=torch.float64, device=self._sums.device)
            self._steps += sums.steps
            return
        if rank == 0:
            self._sums += torch.tensor(sums.ranks, dtype=torch.float64, device=self._sums.device).sum(0)
        self._before += sums.steps * len(sums.ranks)


class Progress:
    """Reports the mean loss every few seconds, one report late, so that the device is never waited for."""

    def __init__(self, report: Callable[[int, float], None], device: torch.device, seconds: float) -> None:
        """report: called with (images seen, mean loss since the last report)."""
        self._report, self._seconds = report, seconds
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._host = torch.zeros((), dtype=torch.float64, pin_memory=device.type == "cuda")
        self._steps = 0
        self._copied: tuple[int, int] | None = None  # images seen and steps of the copy under way
        self._due = time.monotonic() + seconds / 2

    def add(self, loss: Tensor, images_seen: int) -> None:
        """Count a step and, when a report is due, hand out the last copy and start the next."""
        self._sum += loss
        self._steps += 1
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + self._seconds
        if self._copied is not None:
            seen, steps = self._copied
            self._report(seen, self._host.item() / steps)  # pinned host memory: filled long ago
        self._host.copy_(self._sum, non_blocking=True)
        self._sum.zero_()
        self._copied, self._steps = (images_seen, self._steps), 0
