"""What the ranks of a trial agree on: that they hold the same numbers, and the step at which they all leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from .trial import World

# Seconds between two looks at whether any rank was told to leave. Each makes the device wait once, and a node that goes
# away gives half a minute of notice or more.
LOOK_SECONDS = 5.0
_MOST_STEPS = 1000

_PIECE = 2**22  # numbers of a checksum at a time, as each takes 24 bytes on the way
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def checksum(tensors: Iterable[Tensor]) -> Tensor:
    """A number of every bit of the tensors and its place: int64, 0-d, on their device, without a host sync.

    The sum of (2 i + 1) x bits_i modulo 2^64, i counted over all tensors: any one number that differs changes it.
    """
    total: Tensor | None = None
    begin = 0
    for tensor in tensors:
        flat = tensor.detach().contiguous().reshape(-1)
        raw = flat.view(_BITS[flat.element_size()])
        for start in range(0, len(raw), _PIECE):
            bits = raw[start : start + _PIECE].to(torch.int64)
            place = torch.arange(begin, begin + len(bits), dtype=torch.int64, device=bits.device)
            part = ((2 * place + 1) * bits).sum()
            total = part if total is None else total + part
            begin += len(bits)
    return torch.zeros((), dtype=torch.int64) if total is None else total


def differing(held: Callable[[], dict[str, Tensor]], world: World) -> str:
    """Compare checksums over the ranks, a collective call: what differs, and where, or "", the same on every rank.

    held: gives this rank's, by what they are of; not called where there is one rank.
    """
    if world.size == 1:
        return ""
    parts = held()
    mine = torch.stack([part.to(world.device) for part in parts.values()])
    everyone = [torch.empty_like(mine) for _ in range(world.size)]
    dist.all_gather(everyone, mine)
    table = torch.stack(everyone).tolist()
    for column, name in enumerate(parts):
        odd = [rank for rank, row in enumerate(table) if row[column] != table[0][column]]
        if odd:
            return f"worker {' and '.join(map(str, odd))} and worker 0 do not hold the same {name}"
    return ""


def gathered(mine: npt.NDArray[Any], world: World) -> npt.NDArray[Any] | None:
    """On rank 0 every rank's rows, in order of ranks; None elsewhere. A collective call; a rank may have no rows."""
    if world.size == 1:
        return mine
    parts: list[Any] | None = [None] * world.size if world.rank == 0 else None
    dist.gather_object(mine if len(mine) else None, parts, dst=0)
    if parts is None:
        return None
    return np.concatenate([part for part in parts if part is not None])


def all_well(well: bool, world: World) -> bool:
    """Whether all ranks are well; a collective call."""
    if world.size == 1:
        return well
    flag = torch.tensor(int(well), device=world.device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)


class Departure:
    """Asks every rank, now and then, whether it was told to leave; all get the same answer at the same step.

    One rank alone looks at every step. Several look together, about every LOOK_SECONDS: in between none of them knows
    of the others, and at a look the device is waited for.

    Args:
        told: whether this rank was told to leave; must not block.
        world: this rank's place.
        clock: seconds.
    """

    def __init__(self, told: Callable[[], bool], world: World, clock: Callable[[], float] = time.monotonic) -> None:
        self._told, self._world, self._clock = told, world, clock
        self._steps, self._due, self._looked = 0, 1, clock()

    def agreed(self, *, now: bool = False) -> bool:
        """Call after every step, on every rank alike: True, on every rank, if any of them was told to leave.

        now: look, whenever the last look was; the same on every rank.
        """
        if self._world.size == 1:
            return self._told()
        self._steps += 1
        if not now and self._steps < self._due:
            return False
        pace = (self._clock() - self._looked) / self._steps
        answer = torch.tensor([float(self._told()), pace], dtype=torch.float64, device=self._world.device)
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        told, pace = answer.tolist()
        # From the slowest rank's seconds, so the next look is at the same step of all.
        self._due = max(1, min(_MOST_STEPS, int(LOOK_SECONDS / max(pace, 1e-9))))
        self._steps, self._looked = 0, self._clock()
        return bool(told)
