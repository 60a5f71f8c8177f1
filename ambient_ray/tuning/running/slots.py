"""Warm slots: one long-lived Ray Train run for each trial that runs at once, taking trial after trial.

A Train run of its own costs a trial about ten seconds of process starts and imports. A slot pays them once. It holds
one trial at a time: the trial's driver in Ray Tune submits it and is handed what its workers tell; the workers ask for
the next. Workers that die, or whose trial raises, are started again, and the trial goes on from its newest checkpoint,
as often as `max_failures` allows. Where small trials are packed a slot has several seats, each for one trial.

`Slot` (its own module) is the bookkeeping, without Ray; `SlotHost` (its own, too) is the actor that holds some slots
and their Train runs; `TrialEnd` is what a trial's driver sees of one.
"""

import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..faults import MOST_BLAMELESS
from .host import SlotHost
from .shape import TrialShape
from .slot import Job, Message

_log = logging.getLogger(__name__)

# Slots of one host process. Each has a thread that waits for its Train run and a few calls that wait for news.
PER_HOST = 8
# Seconds that a host is given to answer.
_SOON = 10.0
# Seconds that a host which died is given to start again.
_STARTING = 300


@dataclass(frozen=True)
class TrialEnd:
    """A seat of a slot as a trial's driver sees it."""

    host: Any
    slot: int
    seat: int = 0

    def run(self, job: Job) -> Iterator[Message]:
        """Submit a trial and give what its workers tell, its end last.

        A host that dies is started again by Ray; the trial is submitted anew then, and goes on from its newest
        checkpoint, with all its failures so far.

        Raises:
            RayActorError: the host is gone for good.
        """
        import ray
        from ray.exceptions import RayActorError

        causes: list[str] = []
        deaths = tries = after = 0
        submitted = False
        while True:
            try:
                if not submitted:
                    ray.get(self.host.submit.remote(self.slot, self.seat, {**job, "causes": causes}))
                    submitted, after, tries = True, 0, 0
                news = ray.get(self.host.news.remote(self.slot, job["number"], after))
            except RayActorError as error:
                deaths += submitted and not error.preempted  # one that is still starting is the same death
                tries += 1
                if deaths > MOST_BLAMELESS or tries > _STARTING:
                    raise
                if submitted:
                    causes.append("host died")
                    reason = "the process that holds its slot died"
                    yield {"faults": [{"cause": "host died", "reason": reason, "key": secrets.token_hex(4)}]}
                submitted = False
                time.sleep(1.0)
                continue
            if news is None:
                submitted = False
                continue
            for message in news:
                causes += [fault["cause"] for fault in message.get("faults", ())]
                yield message
                if "state" in message:
                    return
            after += len(news)


@dataclass
class Slots:
    """All slots of a search, and more as they are needed.

    Attributes:
        shape: of a trial.
        imports: see `SlotHost`.
        max_failures: see `Slot`.
        environment: see `SlotHost`.
        seats: of each slot.
        hang: see `Slot`.
    """

    shape: TrialShape
    imports: Sequence[str] = ()
    max_failures: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    seats: int = 1
    hang: float | None = None
    _hosts: list[Any] = field(default_factory=list)
    _ends: list[TrialEnd] = field(default_factory=list)

    def grow(self, count: int) -> list[TrialEnd]:
        """Have seats for at least so many trials, whose workers start now; gives the first `count` of all."""
        import ray
        from ray._private.worker import get_dashboard_url
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        wanted = -(-max(count, len(self._ends)) // self.seats)
        for host in self._hosts if wanted * self.seats > len(self._ends) else ():
            host.share.remote(wanted)
        dashboard = bool(get_dashboard_url())  # a worker of a cluster without one is told a URL all the same
        # Where the search is: other nodes come and go, and a host that goes takes eight trials' workers with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        while (missing := count - len(self._ends)) > 0:
            slots = min(-(-missing // self.seats), PER_HOST)
            waiting = slots * (2 * self.shape.most_workers + 3 * self.seats)  # calls that wait in the host
            options = {"max_restarts": -1, "max_concurrency": waiting + 4}
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}-{len(self._hosts)}"
            host = ray.remote(SlotHost).options(num_cpus=0, scheduling_strategy=here, **options).remote(
                slots, name, self.shape,
                tuple(self.imports), self.max_failures, dict(self.environment), self.seats, dashboard,
                wanted, self.hang,
            )  # fmt: skip
            self._hosts.append(host)
            self._ends += [TrialEnd(host, k, seat) for k in range(slots) for seat in range(self.seats)]
        return self._ends[:count]

    def more(self, seats: int) -> list[TrialEnd]:
        """Start slots with at least so many seats; gives all of these."""
        had = len(self._ends)
        self.grow(had + seats)
        return self._ends[had:]

    def served(self, slots: Sequence[tuple[Any, int]]) -> list[bool]:
        """Whether each slot has workers that are ready or at work; True, too, where its host does not say."""
        import ray

        asked = [host.served.remote(slot) for host, slot in slots]
        said = set(ray.wait(asked, num_returns=len(asked), timeout=_SOON)[0]) if asked else set()
        return [answer not in said or bool(ray.get(answer)) for answer in asked]

    def retire(self, slot: tuple[Any, int]) -> None:
        """Send a slot's workers home and forget it; returns when they have gone, or after a few seconds."""
        import ray

        host, number = slot
        self._ends = [end for end in self._ends if place_of(end) != slot]
        for other in self._hosts:
            other.share.remote(len(self._ends) // self.seats)
        ray.wait([host.retire.remote(number, _SOON)], timeout=_SOON)

    def close(self, seconds: float = 20.0) -> None:
        """Send all workers home and forget the hosts; what has not gone after so many seconds goes with them."""
        import ray

        closing = [host.close.remote(seconds) for host in self._hosts]
        ray.wait(closing, num_returns=len(closing), timeout=seconds + 5) if closing else None
        for host in self._hosts:
            ray.kill(host)
        self._hosts, self._ends = [], []


def place_of(end: TrialEnd) -> tuple[Any, int]:
    """Which slot a seat belongs to."""
    return end.host, end.slot
