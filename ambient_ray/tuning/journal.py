"""The study's journal: a file of lines that survives whatever kills its writer."""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import BaseJournalFileLock

#: Errors of a file system that has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Journal(JournalFileBackend):  # type: ignore[misc]  # Optuna ships no types that mypy reads here
    """Optuna's journal in a file, for a writer that may be killed at any moment.

    The system gives its lock back when a process ends, however it ends, so the next one does not wait for a dead one;
    where the file system has no such locks, Optuna's own is taken, which the next writer breaks after 30 s. What a
    killed writer left of a line is cut off by the next one: it was never read as an entry.

    Args:
        path: the file; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(str(path), _lock_for(path))

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """See Optuna's; an unfinished line before these is cut off."""
        self._lock.acquire()
        try:
            _cut_unfinished(self._path)
        finally:
            self._lock.release()
        super().append_logs(list(logs))


class SystemLock(BaseJournalFileLock):  # type: ignore[misc]
    """A lock that ends with its process: flock on a file beside the journal.

    Args:
        path: the lock's own file; it stays, and means nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for it."""
        file = self._path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held = file
        return True

    def release(self) -> None:
        """Give it back."""
        if self._held is not None:
            self._held.close()
            self._held = None


def _lock_for(path: Path) -> BaseJournalFileLock:
    lock = SystemLock(path.with_name(f"{path.name}.flock"))
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return JournalFileSymlinkLock(str(path))
    lock.release()
    return lock


def _cut_unfinished(path: Path) -> None:
    """Drop what stands behind the last line's end."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        kept = end
        while kept > 0:
            begin = max(0, kept - 65536)
            file.seek(begin)
            block = file.read(kept - begin)
            if (found := block.rfind(b"\n")) >= 0:
                kept = begin + found + 1
                break
            kept = begin
        file.truncate(kept)
