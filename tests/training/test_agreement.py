"""What several ranks compare and agree on, where one process can show it; with real ranks: test_ddp.py."""

import numpy as np
import pytest
import torch
import torch.distributed as dist

from ambient_ray.training import World, agreement
from ambient_ray.training.agreement import Departure, checksum, differing, gathered
from ambient_ray.training.streams import share


def test_a_checksum_sees_every_bit_and_every_place(monkeypatch):
    a, b = torch.linspace(-1, 1, 7), torch.tensor([True, False, True])
    whole = int(checksum([a, b]))
    monkeypatch.setattr(agreement, "_PIECE", 2)
    assert int(checksum([a.clone(), b.clone()])) == whole, "whatever the pieces"
    nudged = a.clone()
    nudged[3] = torch.nextafter(nudged[3], torch.tensor(9.0))
    swapped = a[[1, 0, 2, 3, 4, 5, 6]]
    assert len({int(checksum(s)) for s in ([a, b], [nudged, b], [swapped, b], [a, ~b], [a], [b, a])}) == 6
    assert int(checksum([])) == 0


def test_one_rank_compares_nothing_and_keeps_its_rows():
    def never():
        raise AssertionError("a checksum that nobody needs")

    rows = np.ones((2, 3))
    assert differing(never, World()) == "" and gathered(rows, World()) is rows


@pytest.mark.parametrize(("n", "size"), [(16, 2), (16, 3), (5, 4), (2, 3), (32, 5)])
def test_shares_are_all_there_is_once_in_order_and_even(n, size):
    parts = [share(n, rank, size) for rank in range(size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_rank_alone_looks_at_every_step():
    told = iter([False, False, True])
    departure = Departure(lambda: next(told), World())
    assert [departure.agreed() for _ in range(3)] == [False, False, True]


class Ranks:
    """torch.distributed as one of two ranks sees it: the other was told at a time, and takes its own seconds a step."""

    def __init__(self, monkeypatch, pace):
        self.looks, self.now, self.pace, self.told_at = [], 0.0, pace, None
        monkeypatch.setattr(dist, "all_reduce", self.all_reduce)

    def all_reduce(self, answer, op):
        assert op == dist.ReduceOp.MAX
        self.looks.append(self.now)
        answer[0] = max(answer[0].item(), self.told_at is not None and self.now >= self.told_at)
        answer[1] = max(answer[1].item(), self.pace)


@pytest.mark.parametrize("pace", [0.01, 0.1, 2.0, 30.0])
def test_several_look_about_every_five_seconds_of_the_slowest_one(monkeypatch, pace):
    ranks = Ranks(monkeypatch, pace)
    departure = Departure(lambda: False, World(0, 2), clock=lambda: ranks.now)
    for _ in range(int(60 / pace) + 5):
        ranks.now += pace / 3  # this rank is the quicker one
        assert departure.agreed() is False
    gaps = np.diff(ranks.looks[1:]) * 3
    assert len(gaps) and (gaps <= max(5.0, pace) + pace).all() and (gaps >= min(5.0, pace) - 1e-9).all()


def test_the_other_one_s_notice_is_heard_at_the_next_look_or_at_the_rung(monkeypatch):
    ranks = Ranks(monkeypatch, 0.5)
    departure = Departure(lambda: False, World(0, 2), clock=lambda: ranks.now)
    heard = []
    ranks.told_at = 8.0
    for step in range(40):
        ranks.now += 0.5
        if departure.agreed():
            heard.append(step)
            break
    assert heard and ranks.now <= 8.0 + 5.5
    ranks.now += 0.1
    assert departure.agreed(now=True) is True
