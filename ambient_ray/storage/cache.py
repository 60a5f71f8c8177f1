"""Reading a checkpoint: a path of this machine, whichever store it is in, its files verified.

What comes from a store is kept in a folder of this node, by what it is and not by where it was: every process of the
node reads it from there. `AMBIENT_RAY_CACHE` names the folder, `AMBIENT_RAY_CACHE_GB` its size (10 by default).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from .description import (
    DESCRIPTION,
    MOST_DESCRIPTION,
    Described,
    Fingerprint,
    bounded,
    fingerprint,
    parse_description,
    read_description,
    verify,
)
from .errors import DamagedCheckpointError, StorageRefusedError
from .objects import download, read
from .place import Location, RemoteFolder

_IN_USE = 600.0  # seconds after its last use that a cached checkpoint stays, whatever the cache's size


def fetch(where: Location, names: Collection[str] | None = None, *, check: bool = False, digest: str = "") -> Path:
    """A folder of this machine with a checkpoint's description and these of its files.

    Args:
        where: the checkpoint. A path is given back as it is.
        names: files that are wanted besides the description; None: all that it has.
        check: verify what lies on this machine, too; what is downloaded always is.
        digest: SHA-256 of its description, in hex, as whoever wrote it told; "": not known.

    Raises:
        CollectedCheckpointError: one of the files was deleted.
        DamagedCheckpointError: a file is missing or not what was written.
        OSError: the store, or this machine's disk.
    """
    if isinstance(where, Path):
        return _checked(where, names, check, digest)
    described = read_remote(where)
    _agrees(described, digest, where)
    names = described.files if names is None else names
    described.check_there(names, where)
    view = cache_root() / _key(described.files)
    with _locked(view):
        view.mkdir(exist_ok=True)
        for name in sorted(names):
            expected = described.wanted(name, where)
            if not _holds(view / name, expected, check):
                _make_room(view, expected.bytes)
                partial = view / f".{name}.partial"
                download(where / name, partial, expected, where)
                partial.rename(view / name)
        _write(view / DESCRIPTION, described)
    os.utime(view)
    return view


def read_remote(where: RemoteFolder) -> Described:
    """The description of a checkpoint in a store. Raises DamagedCheckpointError and OSError."""
    try:
        raw = read(where / DESCRIPTION, MOST_DESCRIPTION + 1)
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{where} is no complete checkpoint: it has no {DESCRIPTION}") from error
    return parse_description(bounded(raw, where), where)


def adopt(scratch: Path, described: Described) -> None:
    """Keep a checkpoint that was just uploaded, whose folder lies in the cache already (`scratch_folder`)."""
    view = cache_root() / _key(described.files)
    with _locked(view):
        if view.exists():
            shutil.rmtree(scratch)
        else:
            scratch.rename(view)
    _make_room(view, 0)


def scratch_folder() -> Path:
    """A new folder on this node for a checkpoint that is being written. Raises OSError."""
    return Path(tempfile.mkdtemp(prefix=".scratch-", dir=cache_root()))


def cache_root() -> Path:
    """The cache's folder, made if need be, nobody's but this user's. Raises StorageRefusedError and OSError."""
    given = os.environ.get("AMBIENT_RAY_CACHE")
    root = Path(given) if given else Path(tempfile.gettempdir()) / f"ambient-ray-{os.getuid()}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    # In a folder that anybody may write to, another user could have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageRefusedError(
            f"{root}, where this node keeps checkpoints that it has fetched, can be changed by other users: set"
            " AMBIENT_RAY_CACHE to a folder that only this user can write to"
        )
    return root


def _checked(folder: Path, names: Collection[str] | None, check: bool, digest: str) -> Path:
    if check or digest or names is None:
        described = read_description(folder)
        _agrees(described, digest, folder)
        names = described.files if names is None else names
        described.check_there(names, folder)
        for name in sorted(names) if check else ():
            verify(folder / name, described.wanted(name, folder), folder)
    elif not all((folder / name).is_file() for name in names):
        with contextlib.suppress(FileNotFoundError):  # a folder of somebody's own, whose reader tells what it lacks
            (folder / DESCRIPTION).stat()
            read_description(folder).check_there(names, folder)
    return folder


def _agrees(described: Described, digest: str, where: Location) -> None:
    """A description that was changed after it was written, other than by collecting, is nobody's checkpoint."""
    if digest and not described.collected and described.digest != digest:
        raise DamagedCheckpointError(
            f"{where}/{DESCRIPTION} is not what its trial wrote (another SHA-256 than the study remembers)"
        )


def _holds(path: Path, expected: Fingerprint, check: bool) -> bool:
    if not path.is_file() or path.stat().st_size != expected.bytes:
        return False
    return not check or fingerprint(path) == expected


def _write(path: Path, described: Described) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(described.content), encoding="utf-8")
    partial.rename(path)


def _key(files: Mapping[str, Fingerprint]) -> str:
    """What the files are, as a name: the same wherever they lie, and whichever of them were deleted since."""
    told = sorted((name, entry.bytes, entry.sha256) for name, entry in files.items())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@contextlib.contextmanager
def _locked(view: Path) -> Iterator[None]:
    """One process at a time fills a checkpoint's folder; the others find it filled."""
    with view.with_name(f"{view.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_room(kept: Path, coming: int) -> None:
    """Remove the checkpoints that were used the longest ago, and what a killed process left, until all fits."""
    root, now = kept.parent, time.time()
    limit = float(os.environ.get("AMBIENT_RAY_CACHE_GB", "10")) * 1e9
    found = []
    for path in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process removes, too
            if path.is_dir() and path != kept:
                size = sum(file.stat().st_size for file in path.iterdir())
                found.append((path.stat().st_mtime, size, path))
    left = coming + sum(size for _, size, _ in found)
    free = shutil.disk_usage(root).free - coming
    for used, size, path in sorted(found):
        if (left > limit or free < 0) and now - used > _IN_USE:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            left, free = left - size, free + size
