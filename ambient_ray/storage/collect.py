"""Deleting what nothing needs of a checkpoint: its description stays, and says what is gone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from .cache import read_remote
from .description import DESCRIPTION, read_description
from .objects import listed, remove, write
from .place import Location, RemoteFolder


def removable(folder: Location, wanted: Mapping[str, Collection[str]]) -> dict[str, tuple[frozenset[str], int]]:
    """Which of the files that may go are still there, and their bytes, by checkpoint; one look at the whole folder.

    Args:
        folder: of all checkpoints.
        wanted: by a checkpoint's path below it, the names of the files that may go.

    Raises:
        OSError: of the disk or the store.
    """
    sizes = _sizes(folder, wanted)
    found: dict[str, tuple[frozenset[str], int]] = {}
    for below, names in wanted.items():
        there = {name: sizes[f"{below}/{name}"] for name in names if f"{below}/{name}" in sizes}
        if there:
            found[below] = frozenset(there), sum(there.values())
    return found


def collect(where: Location, names: Collection[str]) -> None:
    """Delete these files of a checkpoint. First its description says so: a kill between leaves files that can go.

    Raises:
        DamagedCheckpointError: it has no description that can be read; nothing is deleted.
        OSError: of the disk or the store; the same call goes on where it stopped.
    """
    described = read_description(where) if isinstance(where, Path) else read_remote(where)
    gone = sorted(described.collected | set(names))
    if gone != sorted(described.collected):
        content = json.dumps({**described.content, "collected": gone}, indent=1) + "\n"
        if isinstance(where, Path):
            partial = where / f".{DESCRIPTION}.partial"
            partial.write_text(content, encoding="utf-8")
            partial.rename(where / DESCRIPTION)
        else:
            write(content.encode(), where / DESCRIPTION)
    for name in gone:
        if isinstance(where, Path):
            (where / name).unlink(missing_ok=True)
        else:
            remove(where / name)


def _sizes(folder: Location, below: Iterable[str]) -> dict[str, int]:
    if isinstance(folder, RemoteFolder):
        return listed(folder)
    files = (path for name in below for path in (folder / name).glob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
