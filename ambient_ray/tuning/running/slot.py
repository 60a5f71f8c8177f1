"""A place for trials, without Ray: what is submitted to it, who works on it, and what was told."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Seconds after which a call that waits for news comes back without any, and is made again.
POLL = 20.0
# Seconds without a new trial after which a slot of several seats begins with those that it has.
GATHER = 2.0
# Groups of workers in a row that ended before they asked for a trial, after which a slot gives up.
_STILLBORN = 3

Job = Mapping[str, Any]
Message = Mapping[str, Any]


@dataclass
class _Held:
    """A trial in its seat: its messages, how often its workers failed, whether some have it now."""

    job: Job
    told: list[Message] = field(default_factory=list)
    failures: int = 0
    taken: bool = False

    @property
    def ended(self) -> bool:
        return bool(self.told) and "state" in self.told[-1]


class Slot:
    """A place for one trial, or for `seats` of them that are trained together.

    All methods may be called by any thread.

    Args:
        run: starts workers that serve this slot, as the given launch, and waits until they have ended; raises when
            they failed. Called in the slot's own thread, again after every failure.
        max_failures: how often a trial is given to new workers after its workers failed.
        reason: one sentence for an error that `run` raised.
        first_launch: what the first launch is called; larger than any that workers still alive may belong to.
        seats: how many trials its workers take at once.
        preempted: whether an error that `run` raised says that a node was taken away; no trial is to blame then.
        misfits: whether workers should be started anew, as more or fewer of them: asked before they get a trial.
    """

    def __init__(
        self,
        run: Callable[[int], None],
        max_failures: int,
        reason: Callable[[BaseException], str],
        first_launch: int = 0,
        seats: int = 1,
        preempted: Callable[[BaseException], bool] = lambda error: False,
        misfits: Callable[[], bool] = lambda: False,
    ) -> None:
        self._run, self._max_failures, self._reason = run, max_failures, reason
        self._preempted, self._misfits = preempted, misfits
        self._changed = threading.Condition()
        self._seats: list[_Held | None] = [None] * seats
        self._submitted = 0.0
        self._launch = first_launch - 1
        self._given: list[list[Job]] = []  # to the workers of this launch, in order
        self._asked = self._closed = self._leaving = False
        self._broken = ""
        self._thread = threading.Thread(target=self._keep_running, name="slot", daemon=True)
        self._thread.start()

    def submit(self, seat: int, job: Job) -> None:
        """Hold this trial. Once more about the trial that is held already (its driver came back) changes nothing."""
        with self._changed:
            held = self._seats[seat]
            if held is not None and held.job["number"] == job["number"]:
                return
            self._seats[seat] = held = _Held(job)
            self._submitted = time.monotonic()
            if self._broken:
                held.told.append({"state": "failed", "reason": self._broken})
            self._changed.notify_all()

    def news(self, number: int, after: int, seconds: float = POLL) -> list[Message] | None:
        """What was told of trial `number` beyond its first `after` messages; waits for it for so many seconds.

        Returns:
            The messages, perhaps none; None when the slot knows nothing of this trial, which must be submitted (again).
        """

        def there() -> bool:
            held = self._held(number)
            return held is None or len(held.told) > after

        with self._changed:
            self._changed.wait_for(there, seconds)
            held = self._held(number)
            return None if held is None else held.told[after:]

    def next(self, launch: int, index: int, seconds: float = POLL) -> tuple[str, list[Job]]:
        """The index-th trials for the workers of a launch, the same for every one of them.

        With several seats it waits until all are taken, or until `GATHER` seconds have brought no more.

        Returns:
            ("jobs", the trials), ("wait", []) when there are none yet, or ("end", []) for workers that may leave.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                if self._closed or launch != self._launch or (self._leaving and len(self._given) <= index):
                    return "end", []
                self._asked = True
                now = time.monotonic()
                waiting = [held for held in self._seats if held is not None and not held.taken and not held.ended]
                gathered = self._submitted + GATHER
                if len(self._given) == index and waiting and (len(waiting) == len(self._seats) or now >= gathered):
                    if self._misfits():
                        self._leave()
                        continue
                    self._given.append([held.job for held in waiting])
                    for held in waiting:
                        held.taken = True
                    self._changed.notify_all()
                if len(self._given) > index:
                    return "jobs", self._given[index]
                if now >= deadline:
                    return "wait", []
                self._changed.wait((min(deadline, gathered) if waiting else deadline) - now)

    def tell(self, launch: int, number: int, message: Message) -> bool:
        """A worker reports; True while its trial is wanted. Workers that were replaced are not heard, and neither is
        what they say of a trial that has ended or that another has followed."""
        with self._changed:
            held = self._held(number)
            if launch != self._launch or held is None or held.ended:
                return False
            held.told.append(message)
            self._changed.notify_all()
            return True

    @property
    def served(self) -> bool:
        """Whether workers are there that have asked for a trial."""
        return self._asked

    def leave(self, launch: int) -> None:
        """The workers of a launch have to leave: what they train is for others, and that is no failure of it."""
        with self._changed:
            if launch == self._launch:
                self._leave()

    def leaving(self, launch: int, seconds: float = POLL) -> bool:
        """Whether the workers of a launch have to leave; waits for it for so many seconds."""

        def said() -> bool:
            return self._leaving or self._closed or launch != self._launch

        with self._changed:
            return self._changed.wait_for(said, seconds)

    def close(self, seconds: float) -> None:
        """Send the workers home and wait for them, at most so long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)

    def _leave(self) -> None:
        self._leaving = True
        self._changed.notify_all()

    def _held(self, number: int) -> _Held | None:
        return next((held for held in self._seats if held is not None and held.job["number"] == number), None)

    def _keep_running(self) -> None:
        stillborn = 0
        while True:
            with self._changed:
                if self._closed:
                    return
                self._launch += 1
                self._given, self._asked, self._leaving = [], False, False
            preempted = False
            try:
                self._run(self._launch)
                reason = "its workers ended without a word"
            except Exception as error:  # whatever ended the workers is the trials' end at the worst, not the slot's
                reason, preempted = self._reason(error), self._preempted(error)
            with self._changed:
                blameless = self._leaving or preempted
                stillborn = 0 if self._asked or blameless else stillborn + 1
                self._asked = False
                if stillborn >= _STILLBORN:
                    self._broken = reason
                self._failed(reason, counts=not blameless)
                self._changed.notify_all()
                if self._broken:
                    return

    def _failed(self, reason: str, counts: bool = True) -> None:
        """Workers are gone: their trials are for the next ones, or, where that counts, may have failed."""
        for held in self._seats:
            if held is None or held.ended:
                continue
            held.failures += held.taken and counts
            if self._broken or held.failures > self._max_failures:
                held.told.append({"state": "failed", "reason": reason})
            held.taken = False
