"""Writing a checkpoint so that it appears whole or not at all, and finding those that are there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .cache import adopt, scratch_folder
from .description import DESCRIPTION, FILES, Described, fingerprint, read_description
from .objects import listed, remove, upload
from .place import Location, RemoteFolder

_KINDS = ("rung-", "pause-")


def publish(where: Location, write: Callable[[Path], None]) -> Described:
    """Have a checkpoint written into a new folder of this machine and put where it belongs.

    On a file system it is synced and renamed. In a store, which cannot rename, its description is uploaded last: a
    checkpoint without one is none. Whatever kills the process leaves none or a whole one.

    Args:
        where: the checkpoint's place. One that is there already is replaced.
        write: writes the files and the description into the folder that it is given.

    Raises:
        OSError: of the disk or the store. Nothing is left of it then, and it may be tried again.
    """
    return _to_path(where, write) if isinstance(where, Path) else _to_store(where, write)


def children(folder: Location) -> list[Location]:
    """The checkpoints in a folder by name, the first first: those that are whole. Raises OSError."""
    if isinstance(folder, Path):
        return [path for path in sorted(folder.glob("*-*")) if path.name.startswith(_KINDS)]
    found = {path.removesuffix(f"/{DESCRIPTION}") for path in listed(folder) if path.endswith(f"/{DESCRIPTION}")}
    return [folder / name for name in sorted(found) if name.startswith(_KINDS) and "/" not in name]


def discard(folder: Location, kind: str) -> None:
    """Delete the checkpoints in a folder whose names begin with `kind`. Raises OSError; it may be tried again."""
    for place in children(folder):
        if place.name.startswith(kind) and isinstance(place, Path):
            shutil.rmtree(place)
        elif place.name.startswith(kind) and isinstance(place, RemoteFolder):
            remove(place / DESCRIPTION)  # from here on it is none
            for name in FILES:
                remove(place / name)


def _to_path(folder: Path, write: Callable[[Path], None]) -> Described:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while writing
    try:
        partial.mkdir()
        write(partial)
        for path in (*partial.iterdir(), partial):
            _sync(path)
        described = read_description(partial, folder)
        if folder.exists():  # the same rung, trained again after a checkpoint was given up
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError:  # a full disk is not to hold half of it
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(folder.parent)
    return described


def _to_store(where: RemoteFolder, write: Callable[[Path], None]) -> Described:
    scratch = scratch_folder()
    try:
        write(scratch)
        described = read_description(scratch, where)
        remove(where / DESCRIPTION)  # of the same rung, trained again: its files are about to be replaced
        for name, expected in described.files.items():
            upload(scratch / name, where / name, expected)
        upload(scratch / DESCRIPTION, where / DESCRIPTION, fingerprint(scratch / DESCRIPTION))
        with contextlib.suppress(OSError):  # it is where it belongs; keeping it here only saves a download
            adopt(scratch, described)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return described


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
