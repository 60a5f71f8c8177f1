"""A study is searched by one driver at a time, wherever it runs: a lease in the study's storage.

A lock on a file keeps two processes apart where both see the file and its file system knows locks. The study's storage
is what two drivers of one study share in any case, so who searches it stands there, and renews it every few seconds.
Renewals are counted and never dated, so clocks that differ or jump change nothing: a newcomer watches whether the count
moves. Storages have no compare-and-set: two newcomers within half a second are told apart by reading again, and a
driver that finds another's name at its next renewal stops (it was halted for longer than it takes to be given up).
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psutil

from ambient_ray.errors import UserError

PERIOD = 5.0  # seconds between renewals
PATIENCE = 30.0  # seconds without a renewal after which a driver on another machine is taken for dead
SETTLE = 0.5  # seconds after which a new holder reads its own name again


class StudyBusyError(UserError):
    """Another process searches this study already."""


class StudyTakenError(UserError):
    """Another process has taken this study over."""


class Board(Protocol):
    """Where a lease stands: read by all who may want it, written by its holder."""

    def read(self) -> Mapping[str, Any] | None:
        """What stands there; None: nothing."""
        ...

    def write(self, lease: Mapping[str, Any]) -> None:
        """Put this in its place."""
        ...


@dataclass(frozen=True)
class FileBoard:
    """Beside a journal, which has no place that is written over. path: of the lease's own file."""

    path: Path

    def read(self) -> Mapping[str, Any] | None:
        """See `Board`. What cannot be read as a lease is none."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, lease: Mapping[str, Any]) -> None:
        """See `Board`: whole or not at all."""
        partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.partial")  # containers share process ids
        partial.write_text(json.dumps(dict(lease)) + "\n", encoding="utf-8")
        partial.replace(self.path)


@dataclass(frozen=True)
class Holder:
    """Who searches a study.

    Attributes:
        name: of this one search by this one process.
        host: for people.
        machine: this boot of this machine, or of this container: where it is the same, process ids mean the same.
        pid: of the driver.
        started: when that process started, in the machine's own ticks: a later process of the same id is another.
        count: renewals so far; -1: the study was given back.
        seconds: for how long the study has been searched.
    """

    name: str
    host: str
    machine: str
    pid: int
    started: float
    count: int = 0
    seconds: float = 0.0

    @classmethod
    def me(cls) -> "Holder":
        """This process."""
        return cls(uuid.uuid4().hex, socket.gethostname(), _machine(), os.getpid(), _started(os.getpid()) or 0.0)

    @property
    def here(self) -> bool:
        """Whether it runs, or ran, where its process id can be looked up from here."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended: on this machine, and no longer there."""
        return self.here and _started(self.pid) != self.started


def _read(board: Board) -> Holder | None:
    stored = board.read()
    try:
        return None if stored is None else Holder(**stored)
    except TypeError:  # of another version, or no lease at all
        return None


@dataclass
class Lease:
    """The right of this process to search a study. Taken with `take`, kept by a thread of its own until `release`.

    Attributes:
        study: its name, for people.
        board: where the lease stands.
        seconds: for how long the study has been searched, read at each renewal.
        on_lost: called once, in the lease's thread, when another process holds the study.
        period, patience, settle: see this module's constants.
    """

    study: str
    board: Board
    seconds: Callable[[], float] = lambda: 0.0
    on_lost: Callable[[], None] = lambda: None
    period: float = PERIOD
    patience: float = PATIENCE
    settle: float = SETTLE
    lost: str = field(default="", init=False)
    _own: Holder = field(default_factory=Holder.me, init=False)
    _quit: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def take(self, say: Callable[[str], None] = lambda text: None) -> float:
        """Take the study: at once when nobody has it or who had it is known to be dead; else after watching.

        Args:
            say: told when it has to be waited.

        Returns:
            For how long the study had been searched when the holder before renewed last, in seconds; 0 for none.

        Raises:
            StudyBusyError: another process searches it.
        """
        found = _read(self.board)
        if found is not None and found.count >= 0 and not found.dead:
            if found.machine == self._own.machine:
                raise self._busy(found)
            say(f"study {self.study} was searched by process {found.pid} on {found.host}; watching if it still is")
            self._watch(found)
        self.board.write(asdict(self._own))
        time.sleep(self.settle)
        after = _read(self.board)
        if after is not None and after.name != self._own.name:
            raise self._busy(after)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return found.seconds if found is not None else 0.0

    def release(self) -> None:
        """Give the study back, if it is still held."""
        self._quit.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * self.period)
            if not self.lost:
                self.board.write(asdict(replace(self._own, count=-1, seconds=self.seconds())))

    def renew(self) -> None:
        """One renewal; finds out whether the study is still ours."""
        found = _read(self.board)
        if found is not None and found.name != self._own.name:
            self.lost = (
                f"process {found.pid} on {found.host} has taken study {self.study!r} over, as this one had not been"
                f" heard of for {self.patience:g} s; all scored rungs are kept, and that process goes on with them"
            )
            return
        self._own = replace(self._own, count=self._own.count + 1, seconds=self.seconds())
        self.board.write(asdict(self._own))

    def _keep(self) -> None:
        while not self._quit.wait(self.period):
            try:
                self.renew()
            except Exception:  # the storage is away: so it is for the search, which says so; tried again
                continue
            if self.lost:
                self.on_lost()
                return

    def _watch(self, found: Holder) -> None:
        """Return when the holder has not renewed for as long as patience lasts."""
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            time.sleep(min(0.5, self.patience / 10))
            now = _read(self.board)
            if now is None or (now.name == found.name and now.count < 0):
                return
            if (now.name, now.count) != (found.name, found.count):
                raise self._busy(now)

    def _busy(self, found: Holder) -> StudyBusyError:
        return StudyBusyError(
            f"study {self.study!r} is being searched by process {found.pid} on {found.host} already;"
            " wait for it, stop it, or choose another name with study="
        )


def _machine() -> str:
    """This boot and this space of process ids; the host's name alone where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> float | None:
    """When a process started, in ticks since the machine did; None where there is none, or only what is left of it."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    try:  # of the machine's own clock: psutil's date would move with the wall clock
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return float(process.create_time())
