"""Whether the process that drives a search still lives, asked from another process or another machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Driver:
    """A process, told from any other that ever ran, on this machine or elsewhere.

    Attributes:
        host: the machine's name.
        pid: the process's id, as it sees itself.
        machine: this start of this machine, and the process-id namespace: where both are the same, the pid means the
            same. "" where the system does not tell.
        started: when the process began, in the system's ticks since the machine's start, so that a pid that was given
            to another process, and a clock that jumps, deceive nobody. 0 where the system does not tell.
    """

    host: str
    pid: int
    machine: str = ""
    started: int = 0

    @classmethod
    def here(cls) -> Driver:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), _machine(), _ticks(os.getpid()))

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Driver:
        """One that was stored by `to_dict`."""
        return cls(str(stored["host"]), int(stored["pid"]), str(stored["machine"]), int(stored["started"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, where its pid can be looked up from here."""
        return bool(self.machine) and self.machine == _machine()

    def lives(self) -> bool:
        """Whether it is a living process of this machine; asked only where `is_here`."""
        return bool(self.started) and _ticks(self.pid) == self.started


@dataclass(frozen=True)
class Verdict:
    """Whether a driver lives, and what that rests on.

    Attributes:
        life: alive | dead | unknown (it is on another machine, and its word is neither fresh nor stale for sure).
        why: one clause.
        seconds: since its last word, by the clocks of the two machines where it is on another.
    """

    life: Life
    why: str
    seconds: float | None


def judge_driver(state: Mapping[str, Any] | None, now: float, moved: bool | None = None) -> Verdict:
    """Whether the driver that wrote this live state still lives.

    On its own machine the process itself is looked for. From elsewhere only its word can tell: it writes every `every`
    seconds and counts (`count`), so a count that moves while it is watched is proof of life whatever the clocks say,
    one that stands still for longer is proof of the contrary, and without having watched there is its age, by two
    machines' clocks.

    Args:
        state: what the driver wrote; None: nothing.
        now: seconds since 1970, here.
        moved: whether the count moved while it was watched for long enough; None: it was not watched.
    """
    if state is None:
        return Verdict("unknown", "it has left no word of itself", None)
    driver, age, every = Driver.of(state["driver"]), now - float(state["at"]), float(state["every"])
    named = f"process {driver.pid} on {driver.host}"
    if state.get("ended"):
        return Verdict("dead", f"{named} has ended: {state['ended']}", age)
    if driver.is_here:
        if driver.lives():
            return Verdict("alive", f"{named} runs", age)
        return Verdict("dead", f"{named} is gone, without having said that it ended", age)
    if moved is not None:
        words = "has written while this was watched" if moved else f"has not written for {2 * every:.0f} s and more"
        return Verdict("alive" if moved else "dead", f"{named}, another machine, {words}", age)
    clocks = f"{named}, another machine, last wrote {age:.0f} s ago by the clocks of the two"
    if -every <= age <= 2 * every:
        return Verdict("alive", clocks, age)
    return Verdict("unknown", clocks, age)


def _machine() -> str:
    """This start of this machine and this process-id namespace; "" where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _ticks(pid: int) -> int:
    """When a process began, in ticks since the machine's start; 0 for none, and for one that has ended unburied."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    return 0


def wait_for_move(count: int, read: Any, seconds: float, step: float = 0.5) -> bool:
    """Watch a driver's count for so long; whether it moved.

    Args:
        count: as it was.
        read: gives the live state anew, or None.
        seconds: at the most.
        step: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(step)
        state = read()
        if state is not None and (int(state["count"]) != count or state.get("ended")):
            return True
    return False
