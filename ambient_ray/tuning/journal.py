"""Optuna's journal file for a disk that may be full and a process that may be killed while it writes.

Optuna's own appends to whatever stands there. A line that a kill or a full disk cut off then runs into the next one,
and the study cannot be read from there on. Here a line is all there or not at all, and a full disk is waited for.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import get_lock_file

from ambient_ray.storage import Patience, patiently

_BACK = 65536  # bytes that are looked through at a time for the end of the last whole line


class PatientJournal(JournalFileBackend):
    """A journal whose last line is always whole for whoever appends.

    Args:
        path: the file, made if need be.
        patience: how long a full disk is waited for.

    Attributes:
        say: told when it waits, and when it goes on.
    """

    def __init__(self, path: Path, patience: Patience) -> None:
        super().__init__(str(path))
        self.say: Callable[[str], None] = lambda text: None
        self._path, self._patience = path, patience

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append and wait for the disk. Raises StorageGivenUpError after as long as the patience lasts."""
        patiently(
            lambda: self._append(logs), self._path, patience=self._patience, say=lambda text: self.say(f"study {text}")
        )

    def _append(self, logs: list[dict[str, Any]]) -> None:
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
