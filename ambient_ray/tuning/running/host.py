"""The actor that holds some slots and their Ray Train runs, and a slot as its workers see it."""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .causes import explained
from .nodes import Placements, draining, staying, was_preempted
from .reached import reached
from .shape import TrialShape
from .slot import Job, Message, Slot

_log = logging.getLogger(__name__)

# Seconds that a host is given to answer.
_SOON = 10.0
# Seconds between two looks at the cluster's nodes. The shortest notice that a cloud gives is 30 s.
LOOK = 2.0
# Seconds between two looks for workers that hang.
_LOOK = 1.0
# Seconds between a worker's signs of life, at the most.
_SIGNS = 5.0


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
        slots: of the whole search, which share its room.
        hang: see `Slot`.
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
        slots: int | None = None,
        hang: float | None = None,
    ) -> None:
        import ray

        for key, value in environment.items():
            os.environ.setdefault(key, value)
        self._name, self._shape, self._imports = name, shape, tuple(imports)
        self._dashboard, self._hang = dashboard, hang
        self._workers: dict[tuple[int, int], list[Any]] = {}  # (slot, launch) -> actors
        self._me = ray.get_runtime_context().current_actor
        self._all_slots = slots or count
        self._wanted = self._size() if shape.elastic else shape.workers
        self._placements = Placements(ray.get_runtime_context().get_node_id())
        first = secrets.randbits(40)  # a host that was started again must not hear the workers of its earlier life
        self._slots: list[Slot] = []
        self._slots += [
            Slot(
                self._runner(k), max_failures, explained, first, seats, was_preempted, self._misfit(k),
                hang, self._killer(k),
            )
            for k in range(count)
        ]  # fmt: skip
        threading.Thread(target=self._look, name="nodes", daemon=True).start()
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
        """See `Slot.tell`. Where the cluster has other room by now, a rung is where workers leave for it."""
        wanted = self._slots[slot].tell(launch, number, message)
        if "rungs" in message and self._misfit(slot)():
            self._slots[slot].leave(launch)
        return wanted

    def leave(self, slot: int, launch: int) -> None:
        """See `Slot.leave`."""
        self._slots[slot].leave(launch)

    def leaving(self, slot: int, launch: int) -> bool:
        """See `Slot.leaving`."""
        return self._slots[slot].leaving(launch)

    def arrive(self, slot: int, launch: int, node: str, size: int, worker: Any) -> None:
        """One of `size` workers of a launch runs on this node, as this actor, which is killed if it hangs."""
        self._placements.arrived(slot, launch, node, size)
        self._workers.setdefault((slot, launch), []).append(worker)

    def share(self, slots: int) -> None:
        """So many slots share the cluster's room from now on."""
        self._all_slots = slots

    def served(self, slot: int) -> bool:
        """See `Slot.served`."""
        return self._slots[slot].served

    def retire(self, slot: int, seconds: float) -> None:
        """Send one slot's workers home, for good; see `Slot.close`."""
        self._slots[slot].close(seconds)

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

    def _look(self) -> None:
        """Tell workers in time whose nodes go away, and know what room there is."""
        while True:
            try:
                for slot, launch in self._placements.to_tell(draining()):
                    self._slots[slot].leave(launch)
                if self._shape.elastic:
                    self._wanted = self._size()
            except Exception:  # the cluster's head is away for a while: what is then missed is seen the next time
                _log.warning("the cluster's nodes cannot be looked at", exc_info=True)
            time.sleep(LOOK)

    def _size(self) -> int:
        return self._shape.fair_size(staying(), self._all_slots)

    def _misfit(self, slot: int) -> Callable[[], bool]:
        return lambda: self._shape.elastic and self._placements.size(slot) not in (None, self._wanted)

    def _runner(self, slot: int) -> Callable[[int], None]:
        def run(launch: int) -> None:
            try:
                self._train(slot, launch)
            except Exception:
                ids = self._slots[slot].about if slot < len(self._slots) else {}  # it may fail while they are made
                _log.warning("the workers of trial %s have ended", ids.get("trial"), exc_info=True, extra=ids)
                raise

        return run

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
        from .scratch import ray_scratch
        from .trainer import SlotTrainer

        shape, name = self._shape, f"{self._name}-{slot}"
        free_groups(name)  # of a controller that died
        with ray_scratch("train") as folder:
            trainer = SlotTrainer(
                serve,
                train_loop_config={
                    "slot": WorkerEnd(self._me, slot, launch), "cpus": shape.cpus, "gpus": shape.gpus,
                    "imports": self._imports, "signs": min(_SIGNS, (self._hang or 60.0) / 4),
                },
                scaling_config=ScalingConfig(
                    num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=shape.resources
                ),
                run_config=RunConfig(
                    name=f"{name}-{launch}",
                    storage_path=folder,
                    # The slot counts a trial's failures, and starts anew, also where a node was taken away.
                    failure_config=FailureConfig(max_failures=0, max_preemption_failures=0),
                    callbacks=[NotesGroups(name)],
                ),
                dashboard=self._dashboard,
                elastic=(shape, self._all_slots) if shape.elastic else None,
            )  # fmt: skip
            try:
                trainer.fit()
            finally:
                self._workers.pop((slot, launch), None)


@dataclass(frozen=True)
class WorkerEnd:
    """A slot as a worker sees it (see `ambient_ray.training.slot.Slot`)."""

    host: Any
    slot: int
    launch: int

    def next(self, index: int) -> list[Job]:
        """Wait for the index-th trials of this launch; none: go home."""
        while True:
            answer, jobs = reached(lambda: self.host.next.remote(self.slot, self.launch, index))
            if answer != "wait":
                return list(jobs)

    def arrive(self, node: str, size: int) -> None:
        """One of `size` workers runs on this node, in this actor; returns when the slot knows."""
        import ray

        me = ray.get_runtime_context().current_actor
        ray.get(self.host.arrive.remote(self.slot, self.launch, node, size, me))

    def leave(self) -> None:
        """These workers have to leave; returns when the slot knows."""
        reached(lambda: self.host.leave.remote(self.slot, self.launch))

    def leaving(self) -> bool:
        """Wait some seconds for the word that these workers have to leave."""
        return bool(reached(lambda: self.host.leaving.remote(self.slot, self.launch)))

    def tell(self, number: int, message: Message) -> bool:
        """Pass on what a trial reports; returns when the slot has it, True while the trial is wanted."""
        return bool(reached(lambda: self.host.tell.remote(self.slot, self.launch, number, dict(message))))

    def alive(self) -> None:
        """Give a sign of life, which nobody waits for."""
        self.host.alive.remote(self.slot, self.launch)
