"""Events that MLflow has not heard yet, in a folder: one subfolder an event, named by its place in the order.

A subfolder appears by one rename when all of it is written, and goes by one when MLflow has it, so whatever kills the
process leaves whole events in their order. One process at a time works on a spool; the system gives the lock back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted

from ..store import TrackingStore
from .event_json import SpooledEventError, decode, encode

_FORMAT = 1
_DIGITS = 8
_LOCK, _STORE = "lock", "store.json"


class SpoolBusyError(UserError):
    """Another process works on this spool."""


@dataclass(frozen=True)
class Spooled:
    """One event of a spool. folder: its own; at: when it happened, in seconds since 1970."""

    folder: Path
    event: Any
    at: float


class Spool:
    """The spool in `folder`, locked while this object lives; `close` gives the lock back.

    Making one makes the folder. store: what the events are for, kept without its password. Raises SpoolBusyError after
    `patience` seconds, OSError where nothing can be written.
    """

    def __init__(self, folder: Path, store: TrackingStore, patience: float = 0.0) -> None:
        self.folder = folder
        self._lock = _locked(folder, patience)
        kept = {"format": _FORMAT, "uri": redacted(store.uri), "artifact_location": store.artifact_location}
        (folder / _STORE).write_text(json.dumps(kept) + "\n", encoding="utf-8")
        for unfinished in folder.glob(".*.partial"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        self._last = max((int(entry.name) for entry in entries(folder)), default=0)

    def add(self, event: Any, at: float) -> Path:
        """Write an event behind the others and return its folder. Raises OSError, and nothing of it is left."""
        name = f"{self._last + 1:0{_DIGITS}d}"
        partial = self.folder / f".{name}.partial"
        try:
            partial.mkdir()
            stored = {"format": _FORMAT, "at": at, "event": encode(event, partial)}
            with (partial / "event.json").open("w", encoding="utf-8") as file:
                json.dump(stored, file, ensure_ascii=False, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._last += 1
        return self.folder / name

    def remove(self, entry: Path) -> None:
        """MLflow has this event."""
        gone = entry.with_name(f".{entry.name}.partial")
        entry.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, entry: Path) -> Path:
        """Keep an event that cannot be read, out of the order; returns where it is now."""
        kept = entry.with_name(f"{entry.name}.unreadable")
        entry.rename(kept)
        return kept

    def close(self) -> None:
        """Give the lock back; a spool without anything in it goes."""
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # not empty, or on a file system that has gone
            if {path.name for path in self.folder.iterdir()} <= {_LOCK, _STORE}:
                for name in (_STORE, _LOCK):
                    (self.folder / name).unlink(missing_ok=True)
                self.folder.rmdir()
        self._lock.close()
        self._lock = None


def entries(folder: Path) -> list[Path]:
    """The events in a spool, oldest first; none where there is no folder. Needs no lock."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and len(path.name) == _DIGITS)


def store_of(folder: Path) -> TrackingStore | None:
    """The store that a spool's events are for, without its password; None where that cannot be read."""
    try:
        kept = json.loads((folder / _STORE).read_text(encoding="utf-8"))
        return TrackingStore(kept["uri"], kept["artifact_location"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_entry(entry: Path) -> Spooled:
    """An event of a spool. Raises SpooledEventError."""
    try:
        stored = json.loads((entry / "event.json").read_text(encoding="utf-8"))
        if stored["format"] > _FORMAT:
            raise SpooledEventError(f"{entry} was written by a later ambient-ray: update this installation")
        return Spooled(entry, decode(stored["event"], entry), float(stored["at"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpooledEventError(f"{entry} holds no event that can be read: {error}") from error


def _locked(folder: Path, patience: float) -> IO[str] | None:
    deadline = time.monotonic() + patience
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _LOCK
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same(file, path):  # else the holder before has just removed it
                    opened.pop_all()
                    return file
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise SpoolBusyError(f"another process works on {folder}: wait until it has ended") from error
        time.sleep(0.05)


def _same(file: IO[str], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
