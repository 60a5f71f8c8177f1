"""The study's journal: a file of lines that survives whatever kills its writer, and a disk that is full."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import BaseJournalFileLock, get_lock_file

from ambient_ray.storage import Patience, patiently

_BACK = 65536  # bytes that are looked through at a time for the end of the last whole line
#: Errors of a file system that has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Journal(JournalFileBackend):  # type: ignore[misc]  # Optuna ships no types that mypy reads here
    """Optuna's journal in a file, for a writer that may be killed at any moment, on a disk that may be full.

    The system gives its lock back when a process ends, however it ends, so the next one does not wait for a dead one;
    where the file system has no such locks, Optuna's own is taken, which the next writer breaks after 30 s. What a
    killed writer left of a line is cut off by the next one: it was never read as an entry. Optuna's own appends to it,
    and cannot read the study from there on.

    Args:
        path: the file; made where it is missing.
        patience: how long a full disk is waited for.

    Attributes:
        say: told when it waits, and when it goes on.
    """

    def __init__(self, path: Path, patience: Patience = Patience()) -> None:  # noqa: B008  # frozen
        self._path, self._patience = path, patience
        self.say: Callable[[str], None] = lambda text: None
        super().__init__(str(path), _lock_for(path))

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """See Optuna's; an unfinished line before these is cut off. Raises StorageGivenUpError after the patience."""
        patiently(
            lambda: self._append(logs), self._path, patience=self._patience, say=lambda text: self.say(f"study {text}")
        )

    def _append(self, logs: Sequence[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with get_lock_file(self._lock):
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                end = end_of_last_line(handle)
                os.ftruncate(handle, end)  # of what a killed process had begun to write
                try:
                    _write(handle, text, end)
                    os.fsync(handle)
                except OSError:
                    os.ftruncate(handle, end)
                    raise
            finally:
                os.close(handle)


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


def end_of_last_line(handle: int) -> int:
    """The offset behind the last line end of an open file; 0 where it has none."""
    end = os.fstat(handle).st_size
    while end > 0:
        begin = max(0, end - _BACK)
        found = os.pread(handle, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _write(handle: int, text: bytes, at: int) -> None:
    while text:
        written = os.pwrite(handle, text, at)
        text, at = text[written:], at + written
