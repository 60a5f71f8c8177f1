"""Warm slots: one long-lived Ray Train run for each trial that runs at once, taking trial after trial.

A Train run of its own costs a trial about ten seconds of process starts and imports. A slot pays them once. It holds
one trial at a time: the trial's driver in Ray Tune submits it and is handed what its workers tell; the workers ask for
the next. Workers that die, or whose trial raises, are started again, and the trial goes on from its newest checkpoint,
as often as `max_failures` allows. Where small trials are packed a slot has several seats, each for one trial.

`Slot` (its own module) is the bookkeeping, without Ray; `SlotHost` is the actor that holds some slots and their Train
runs; `TrialEnd` and `WorkerEnd` are what a trial's driver and a worker see of one.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..faults import MOST_BLAMELESS
from .causes import explained
from .shape import TrialShape
from .slot import Job, Message, Slot

_log = logging.getLogger(__name__)

# Slots of one host process. Each has a thread that waits for its Train run and a few calls that wait for news.
PER_HOST = 8
# Seconds between two looks for workers that hang.
_LOOK = 1.0
# Seconds between a worker's signs of life, at the most.
_SIGNS = 5.0
# Seconds that a host which died is given to start again.
_STARTING = 300


class SlotHost:
    """A few slots and the Train runs of their workers, in one process of no CPUs.

    Args:
        count: slots.
        name: of these slots' Train runs; their folder is `folder`/`name`.
        folder: where Ray Train keeps its own records; nothing of ours is in them.
        shape: of a trial.
        imports: modules that the workers import while they wait for their first trial.
        max_failures: see `Slot`.
        environment: for Ray Train, which reads it when it is imported.
        seats: of each slot.
        dashboard: whether the cluster runs one.
        hang: see `Slot`.
    """

    def __init__(
        self,
        count: int,
        name: str,
        folder: str,
        shape: TrialShape,
        imports: Sequence[str],
        max_failures: int,
        environment: Mapping[str, str],
        seats: int = 1,
        dashboard: bool = True,
        hang: float | None = None,
    ) -> None:
        import ray

        for key, value in environment.items():
            os.environ.setdefault(key, value)
        self._name, self._folder, self._shape, self._imports = name, folder, shape, tuple(imports)
        self._dashboard, self._hang = dashboard, hang
        self._workers: dict[tuple[int, int], list[Any]] = {}  # (slot, launch) -> actors
        self._me = ray.get_runtime_context().current_actor
        first = secrets.randbits(40)  # a host that was started again must not hear the workers of its earlier life
        self._slots = [
            Slot(self._runner(k), max_failures, explained, first, seats, hang, self._killer(k)) for k in range(count)
        ]
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def submit(self, slot: int, seat: int, job: Job) -> None:
        """See `Slot.submit`."""
        self._slots[slot].submit(seat, job)

    def news(self, slot: int, number: int, after: int) -> list[Message] | None:
        """See `Slot.news`."""
        return self._slots[slot].news(number, after)

    def next(self, slot: int, launch: int, index: int) -> tuple[str, list[Job]]:
        """See `Slot.next`."""
        return self._slots[slot].next(launch, index)

    def tell(self, slot: int, launch: int, number: int, message: Message) -> bool:
        """See `Slot.tell`."""
        return self._slots[slot].tell(launch, number, message)

    def arrived(self, slot: int, launch: int, worker: Any) -> None:
        """A worker of a launch, by its actor, in case that it hangs."""
        self._workers.setdefault((slot, launch), []).append(worker)

    def alive(self, slot: int, launch: int) -> None:
        """See `Slot.alive`."""
        self._slots[slot].alive(launch)

    def close(self, seconds: float) -> None:
        """Send all workers home; returns when they have gone, or after so many seconds."""
        deadline = time.monotonic() + seconds
        closing = [threading.Thread(target=slot.close, args=(seconds,), daemon=True) for slot in self._slots]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _runner(self, slot: int) -> Callable[[int], None]:
        return lambda launch: self._train(slot, launch)

    def _killer(self, slot: int) -> Callable[[int], None]:
        def kill(launch: int) -> None:
            import ray

            for worker in self._workers.get((slot, launch), ()):
                ray.kill(worker)  # also one that is stopped: its node's raylet sees to it after some seconds

        return kill

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            for slot in self._slots:
                try:
                    slot.look()
                except Exception:  # Ray is away for a moment: whoever hangs is still there at the next look
                    _log.warning("a worker that hangs could not be killed", exc_info=True)

    def _train(self, slot: int, launch: int) -> None:
        """One Ray Train run: workers that serve a slot until it closes, or until one of them fails."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig

        from ambient_ray.training.ray_worker import serve

        from .groups import NotesGroups, free_groups
        from .trainer import SlotTrainer

        shape, name = self._shape, f"{self._name}-{slot}"
        free_groups(name)  # of a controller that died
        trainer = SlotTrainer(
            serve,
            train_loop_config={
                "slot": WorkerEnd(self._me, slot, launch), "cpus": shape.cpus, "imports": self._imports,
                "signs": min(_SIGNS, (self._hang or 60.0) / 4),
            },
            scaling_config=ScalingConfig(
                num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=shape.resources
            ),
            run_config=RunConfig(
                name=f"{name}-{launch}",
                storage_path=self._folder,
                failure_config=FailureConfig(max_failures=0),  # the slot counts a trial's failures, and starts anew
                callbacks=[NotesGroups(name)],
            ),
            dashboard=self._dashboard,
        )  # fmt: skip
        try:
            trainer.fit()
        finally:
            self._workers.pop((slot, launch), None)


@dataclass(frozen=True)
class WorkerEnd:
    """A slot as a worker sees it (see `ambient_ray.training.ray_worker.Slot`)."""

    host: Any
    slot: int
    launch: int

    def next(self, index: int) -> list[Job]:
        """Wait for the index-th trials of this launch; none: go home."""
        import ray

        while True:
            answer, jobs = ray.get(self.host.next.remote(self.slot, self.launch, index))
            if answer != "wait":
                return list(jobs)

    def tell(self, number: int, message: Message) -> bool:
        """Pass on what a trial reports; returns when the slot has it, True while the trial is wanted."""
        import ray

        return bool(ray.get(self.host.tell.remote(self.slot, self.launch, number, dict(message))))

    def arrived(self) -> None:
        """Say who this worker is; returns when the host knows."""
        import ray

        me = ray.get_runtime_context().current_actor
        ray.get(self.host.arrived.remote(self.slot, self.launch, me))

    def alive(self) -> None:
        """Give a sign of life, which nobody waits for."""
        self.host.alive.remote(self.slot, self.launch)


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
            except RayActorError:
                deaths += submitted  # one that is still starting is the same death
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
        folder: where Ray Train keeps its records.
        imports: see `SlotHost`.
        max_failures: see `Slot`.
        environment: see `SlotHost`.
        seats: of each slot.
        hang: see `Slot`.
    """

    shape: TrialShape
    folder: str
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

        dashboard = bool(get_dashboard_url())  # a worker of a cluster without one is told a URL all the same
        # Where the search is: other nodes come and go, and a host that goes takes eight trials' workers with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        while (missing := count - len(self._ends)) > 0:
            slots = min(-(-missing // self.seats), PER_HOST)
            waiting = slots * (self.shape.workers + 3 * self.seats)  # calls that wait in the host
            options = {"max_restarts": -1, "max_concurrency": waiting + 4}
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}-{len(self._hosts)}"
            host = ray.remote(SlotHost).options(num_cpus=0, scheduling_strategy=here, **options).remote(
                slots, name, self.folder, self.shape,
                tuple(self.imports), self.max_failures, dict(self.environment), self.seats, dashboard,
                self.hang,
            )  # fmt: skip
            self._hosts.append(host)
            self._ends += [TrialEnd(host, k, seat) for k in range(slots) for seat in range(self.seats)]
        return self._ends[:count]

    def close(self, seconds: float = 20.0) -> None:
        """Send all workers home and forget the hosts; what has not gone after so many seconds goes with them."""
        import ray

        closing = [host.close.remote(seconds) for host in self._hosts]
        ray.wait(closing, num_returns=len(closing), timeout=seconds + 5) if closing else None
        for host in self._hosts:
            ray.kill(host)
        self._hosts, self._ends = [], []
