"""Warm slots: one long-lived Ray Train run for each trial that runs at once, taking trial after trial.

A Train run of its own costs a trial about ten seconds of process starts and imports. A slot pays them once. It holds
one trial at a time: the trial's driver in Ray Tune submits it and is handed what its workers tell; the workers ask for
the next. Workers that die, or whose trial raises, are started again, and the trial goes on from its newest checkpoint,
as often as `max_failures` allows. Where small trials are packed a slot has several seats, each for one trial.

`Slot` (its own module) is the bookkeeping, without Ray; `SlotHost` is the actor that holds some slots and their Train
runs; `TrialEnd` and `WorkerEnd` are what a trial's driver and a worker see of one.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .shape import TrialShape
from .slot import Job, Message, Slot

# Slots of one host process. Each has a thread that waits for its Train run and a few calls that wait for news.
PER_HOST = 8


class SlotHost:
    """A few slots and the Train runs of their workers, in one process of no CPUs.

    Args:
        count: slots.
        name: of these slots' Train runs.
        shape: of a trial.
        imports: modules that the workers import while they wait for their first trial.
        max_failures: see `Slot`.
        environment: for Ray Train, which reads it when it is imported.
        seats: of each slot.
        dashboard: whether the cluster runs one.
    """

    def __init__(
        self,
        count: int,
        name: str,
        shape: TrialShape,
        imports: Sequence[str],
        max_failures: int,
        environment: Mapping[str, str],
        seats: int = 1,
        dashboard: bool = True,
    ) -> None:
        import ray

        for key, value in environment.items():
            os.environ.setdefault(key, value)
        self._name, self._shape, self._imports = name, shape, tuple(imports)
        self._dashboard = dashboard
        self._me = ray.get_runtime_context().current_actor
        first = time.time_ns() // 10**6  # a host that was started again must not hear the workers of its earlier life
        self._slots = [Slot(self._runner(k), max_failures, root_cause, first, seats) for k in range(count)]

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

    def _train(self, slot: int, launch: int) -> None:
        """One Ray Train run: workers that serve a slot until it closes, or until one of them fails."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig

        from ambient_ray.training.ray_worker import serve

        from .scratch import ray_scratch
        from .trainer import SlotTrainer

        shape = self._shape
        with ray_scratch("train") as folder:
            SlotTrainer(
                serve,
                train_loop_config={
                    "slot": WorkerEnd(self._me, slot, launch), "cpus": shape.cpus, "imports": self._imports,
                },
                scaling_config=ScalingConfig(
                    num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=shape.resources
                ),
                run_config=RunConfig(
                    name=f"{self._name}-{slot}-{launch}",
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=0),  # the slot counts a trial's failures, and starts anew
                ),
                dashboard=self._dashboard,
            ).fit()  # fmt: skip


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


@dataclass(frozen=True)
class TrialEnd:
    """A seat of a slot as a trial's driver sees it."""

    host: Any
    slot: int
    seat: int = 0
    max_failures: int = 1

    def run(self, job: Job) -> Iterator[Message]:
        """Submit a trial and give what its workers tell, its end last.

        A host that dies is started again by Ray; the trial is submitted anew then, at most `max_failures` times, and
        goes on from its newest checkpoint.

        Raises:
            RayActorError: the host is gone for good.
        """
        import ray
        from ray.exceptions import RayActorError

        failures, after, submitted = 0, 0, False
        while True:
            try:
                if not submitted:
                    ray.get(self.host.submit.remote(self.slot, self.seat, job))
                    submitted, after = True, 0
                news = ray.get(self.host.news.remote(self.slot, job["number"], after))
            except RayActorError:
                failures += 1
                if failures > self.max_failures:
                    raise
                submitted = False
                time.sleep(1.0)
                continue
            if news is None:
                submitted = False
                continue
            for message in news:
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
    """

    shape: TrialShape
    imports: Sequence[str] = ()
    max_failures: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    seats: int = 1
    _hosts: list[Any] = field(default_factory=list)
    _ends: list[TrialEnd] = field(default_factory=list)

    def grow(self, count: int) -> list[TrialEnd]:
        """Have seats for at least so many trials, whose workers start now; gives the first `count` of all."""
        import ray
        from ray._private.worker import get_dashboard_url

        dashboard = bool(get_dashboard_url())  # a worker of a cluster without one is told a URL all the same
        spread = len(self._ends) + PER_HOST < count  # over the nodes of a cluster, where there are many
        while (missing := count - len(self._ends)) > 0:
            slots = min(-(-missing // self.seats), PER_HOST)
            waiting = slots * (self.shape.workers + 3 * self.seats)  # calls that wait in the host
            options = {"max_restarts": -1, "max_concurrency": waiting + 4}
            strategy = "SPREAD" if spread else "DEFAULT"
            host = ray.remote(SlotHost).options(num_cpus=0, scheduling_strategy=strategy, **options).remote(
                slots, f"{time.strftime('%Y%m%d-%H%M%S')}-{len(self._hosts)}", self.shape,
                tuple(self.imports), self.max_failures, dict(self.environment), self.seats, dashboard,
            )  # fmt: skip
            self._hosts.append(host)
            self._ends += [
                TrialEnd(host, k, seat, self.max_failures) for k in range(slots) for seat in range(self.seats)
            ]
        return self._ends[:count]

    def close(self, seconds: float = 20.0) -> None:
        """Send all workers home and forget the hosts; what has not gone after so many seconds goes with them."""
        import ray

        closing = [host.close.remote(seconds) for host in self._hosts]
        ray.wait(closing, num_returns=len(closing), timeout=seconds + 5) if closing else None
        for host in self._hosts:
            ray.kill(host)
        self._hosts, self._ends = [], []


def root_cause(error: BaseException) -> str:
    """The innermost message of an error that came through Ray's layers, as one sentence."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return root_cause(next(iter(failures.values())))
    for inner in (getattr(error, "cause", None), error.__cause__):
        if isinstance(inner, BaseException):
            return root_cause(inner)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
