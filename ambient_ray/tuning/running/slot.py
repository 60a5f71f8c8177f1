"""A place for trials, without Ray: what is submitted to it, who works on it, and what was told."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..faults import BLAMELESS, MOST_BLAMELESS, too_many

# Seconds after which a call that waits for news comes back without any, and is made again.
POLL = 20.0
# Seconds without a new trial after which a slot of several seats begins with those that it has.
GATHER = 2.0
# Groups of workers in a row that ended before they asked for a trial, after which a slot gives up.
_STILLBORN = 3
# Seconds between two looks beyond which the watchdog was not there itself, as in a stopped process.
_AWAY = 10.0

Job = Mapping[str, Any]
Message = Mapping[str, Any]


@dataclass
class _Held:
    """A trial in its seat: its messages, why its workers failed so far, whether some have it now."""

    job: Job
    told: list[Message] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
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
        explain: the cause (`faults.Cause`) of an error that `run` raised, and one clause about it.
        first_launch: what the first launch is called; larger than any that workers still alive may belong to.
        seats: how many trials its workers take at once.
        preempted: whether an error that `run` raised says that a node was taken away; no trial is to blame then.
        misfits: whether workers should be started anew, as more or fewer of them: asked before they get a trial.
        hang: seconds without a sign of life after which workers that have a trial are killed; None: never.
        kill: ends the workers of a launch, which `run` then raises for.
        clock: seconds that no change of the wall clock moves.
    """

    def __init__(
        self,
        run: Callable[[int], None],
        max_failures: int,
        explain: Callable[[BaseException], tuple[str, str]],
        first_launch: int = 0,
        seats: int = 1,
        preempted: Callable[[BaseException], bool] = lambda error: False,
        misfits: Callable[[], bool] = lambda: False,
        hang: float | None = None,
        kill: Callable[[int], None] = lambda launch: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._max_failures, self._explain = run, max_failures, explain
        self._preempted, self._misfits = preempted, misfits
        self._hang, self._kill, self._clock = hang, kill, clock
        self._sign = self._looked = clock()
        self._hung = ""
        self._changed = threading.Condition()
        self._seats: list[_Held | None] = [None] * seats
        self._submitted = 0.0
        self._launch = first_launch - 1
        self._given: list[list[Job]] = []  # to the workers of this launch, in order
        self._asked = self._closed = self._leaving = False
        self._broken: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="slot", daemon=True)
        self._thread.start()

    def submit(self, seat: int, job: Job) -> None:
        """Hold this trial. Once more about the trial that is held already (its driver came back) changes nothing."""
        with self._changed:
            held = self._seats[seat]
            if held is not None and held.job["number"] == job["number"]:
                return
            self._seats[seat] = held = _Held(job, causes=list(job.get("causes", ())))
            self._submitted = time.monotonic()
            if self._broken:
                cause, reason = self._broken
                held.told.append({"state": "failed", "reason": reason, "cause": cause})
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
                    self._sign = self._clock()
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
            self._sign = self._clock()
            self._changed.notify_all()
            return True

    def alive(self, launch: int) -> None:
        """A worker of a launch advances."""
        with self._changed:
            if launch == self._launch:
                self._sign = self._clock()

    def look(self) -> None:
        """Have workers killed that hang: to be called every second or so.

        One sign from any of them is enough: they wait for each other, so that one that hangs halts them all.
        """
        with self._changed:
            now = self._clock()
            if now - self._looked > _AWAY:  # nor could it hear any sign
                self._sign += now - self._looked
            self._looked = now
            at_work = any(held is not None and held.taken and not held.ended for held in self._seats)
            if self._hang is None or not at_work:
                self._sign = now
                return
            if now - self._sign < self._hang:
                return
            self._hung = f"it hung: no sign of life for {self._hang / 60:.3g} minutes (trial.hang_minutes)"
            self._sign, launch = now, self._launch  # should they outlive this, they are killed again
        self._kill(launch)

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

    @property
    def about(self) -> dict[str, Any]:
        """Which trials of which study it holds, for its log: study, and trial, a number or a list."""
        with self._changed:
            jobs = [held.job for held in self._seats if held is not None and not held.ended]
        numbers = [job["number"] for job in jobs]
        return {"study": jobs[0].get("study", ""), "trial": numbers if len(numbers) > 1 else numbers[0]} if jobs else {}

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
                self._given, self._asked, self._leaving, self._hung = [], False, False, ""
            preempted = False
            try:
                self._run(self._launch)
                cause, reason = "worker died", "its workers ended without a word"
            except Exception as error:  # whatever ended the workers is the trials' end at the worst, not the slot's
                (cause, reason), preempted = self._explain(error), self._preempted(error)
            with self._changed:
                blameless = self._leaving or preempted
                stillborn = 0 if self._asked or blameless else stillborn + 1
                self._asked = False
                # Who is killed from outside while it starts says nothing of whether workers can start.
                if stillborn >= (MOST_BLAMELESS if cause in BLAMELESS else _STILLBORN):
                    self._broken = cause, reason
                cause, reason = ("hang", self._hung) if self._hung else (cause, reason)
                self._failed(cause, reason, counts=not blameless)
                self._changed.notify_all()
                if self._broken:
                    return

    def _failed(self, cause: str, reason: str, counts: bool = True) -> None:
        """Workers are gone: their trials are for the next ones, or, where that counts, may have failed."""
        for held in self._seats:
            if held is None or held.ended:
                continue
            if held.taken and counts:
                held.causes.append(cause)
            if self._broken or too_many(held.causes, self._max_failures):
                held.told.append({"state": "failed", "reason": reason, "cause": cause})
            elif held.taken and not self._leaving:  # what was asked to leave has not failed
                held.told.append({"faults": [{"cause": cause, "reason": reason, "key": str(self._launch)}]})
            held.taken = False
