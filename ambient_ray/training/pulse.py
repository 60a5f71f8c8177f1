"""Signs of life of a process that trains: given where it advances, not where it merely is there.

A thread that reports "alive" while training hangs would prove nothing. So the loop counts its own steps, and the thread
that reports (`report`) only passes on whether the count has moved. Where one call takes long and shows nothing of its
progress, as compiling, scoring and writing a checkpoint do, the processor time of the thread that makes it stands in
(`unseen`): a thread that waits for a lock, a peer or a dead file server uses none.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

# An unseen call that takes longer is not given its processor time any more: it may be an endless loop.
LONGEST_UNSEEN = 3600.0
# Share of a core above which a thread works. One that waits has exactly 0; a loop that polls has about .001.
_WORKS = 0.01


class _Unseen(NamedTuple):
    """thread: its id; began: seconds; used: its processor time when somebody last looked, at `looked`."""

    thread: int
    began: float
    used: float
    looked: float


class Pulse:
    """Whether a process has advanced since somebody last asked.

    Args:
        clock: seconds that no change of the wall clock moves.
        used: processor time in seconds of a thread, by its id, and of the processes that it started.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, used: Callable[[int], float] | None = None) -> None:
        self._clock, self._used = clock, used or processor_seconds
        self._count = self._seen = 0
        self._unseen: _Unseen | None = None
        self._lock = threading.Lock()

    def beat(self) -> None:
        """The process has advanced: a step, or a wait that it knows of, for a disk or a bucket, and will end itself."""
        self._count += 1

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Around a call whose progress shows in its processor time alone; at most `LONGEST_UNSEEN` seconds of it."""
        thread, now = threading.get_ident(), self._clock()
        with self._lock:
            outer, self._unseen = self._unseen, _Unseen(thread, now, self._used(thread), now)
        self.beat()
        try:
            yield
        finally:
            self.beat()
            with self._lock:
                self._unseen = outer

    def advanced(self) -> bool:
        """Whether there was progress since the last call."""
        moved, self._seen = self._count != self._seen, self._count
        with self._lock:
            if self._unseen is None:
                return moved
            thread, began, before, looked = self._unseen
            now, used = self._clock(), self._used(thread)
            self._unseen = _Unseen(thread, began, used, now)
        worked = now > looked and used - before >= _WORKS * (now - looked)
        return moved or (worked and now - began <= LONGEST_UNSEEN)


def processor_seconds(thread: int) -> float:
    """Processor time of a thread of this process and of the processes that it started, in seconds."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    own = time.process_time() if clock is None else time.clock_gettime(clock(thread))
    times = os.times()
    return own + times.children_user + times.children_system + sum(_of(p) for p in psutil.Process().children(True))


def _of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has just ended, and is among its parent's children's times
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@contextmanager
def reported(pulse: Pulse, tell: Callable[[], None], seconds: float) -> Iterator[None]:
    """While the block runs, call `tell` every so many seconds in which the pulse has advanced, from another thread."""
    quit_ = threading.Event()

    def report() -> None:
        while not quit_.wait(seconds):
            if pulse.advanced():
                tell()

    thread = threading.Thread(target=report, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        quit_.set()
        thread.join(5.0)  # what it is telling is told


#: This process's own: a process hangs or lives as a whole, whatever number of trials it trains together.
PULSE = Pulse()
