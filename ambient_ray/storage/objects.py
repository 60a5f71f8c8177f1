"""Single files of a store: written whole, read with a bound, listed and removed."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from .description import Fingerprint
from .errors import DamagedCheckpointError
from .filesystems import makes_folders, opened
from .place import RemoteFolder

_CHUNK = 8 * 2**20


def upload(source: Path, target: RemoteFolder, expected: Fingerprint) -> None:
    """Write a file of this machine to a store, and look at what is there then.

    Raises:
        OSError: the store, or this machine's disk, which gave back other bytes than were written to it.
    """
    filesystem, path = opened(target)
    if makes_folders(filesystem):
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    digest = hashlib.sha256()
    with source.open("rb") as file, filesystem.open_output_stream(path) as stream:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            stream.write(chunk)
    if digest.hexdigest() != expected.sha256:
        raise OSError(f"{source} did not give back what was written to it")
    size = filesystem.get_file_info(path).size
    if size != expected.bytes:
        raise OSError(f"{target} has {size} bytes after {expected.bytes} were written")


def write(content: bytes, target: RemoteFolder) -> None:
    """Write a small file. Raises OSError."""
    filesystem, path = opened(target)
    if makes_folders(filesystem):
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def read(source: RemoteFolder, most: int) -> bytes:
    """At most so many bytes of a file. Raises OSError, FileNotFoundError where there is none."""
    filesystem, path = opened(source)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read(most))


def download(source: RemoteFolder, target: Path, expected: Fingerprint, where: RemoteFolder) -> None:
    """Fetch a file, never more of it than was written.

    Raises:
        DamagedCheckpointError: it is missing or another one; nothing is left at `target`.
        OSError: the store or this machine's disk.
    """
    filesystem, path = opened(source)
    size = filesystem.get_file_info(path).size
    if size is None:
        raise DamagedCheckpointError(f"{source} is missing; use an older checkpoint")
    if size != expected.bytes:
        raise DamagedCheckpointError(
            f"{source} has {size} bytes, {expected.bytes} were written; use an older checkpoint"
        )
    digest, left = hashlib.sha256(), expected.bytes
    try:
        with filesystem.open_input_stream(path) as stream, target.open("wb") as file:
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                digest.update(chunk)
                file.write(chunk)
                left -= len(chunk)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if digest.hexdigest() != expected.sha256:
        target.unlink()
        raise DamagedCheckpointError(f"{source} is not what was written (another SHA-256); use an older checkpoint")


def remove(target: RemoteFolder) -> None:
    """Delete a file; one that is gone is gone. Raises OSError."""
    filesystem, path = opened(target)
    if not filesystem.get_file_info(path).is_file:
        return
    with contextlib.suppress(FileNotFoundError):
        filesystem.delete_file(path)


def listed(folder: RemoteFolder) -> dict[str, int]:
    """Every file below a folder by its path from there, with its size; none where there is no such folder."""
    from pyarrow import fs

    filesystem, path = opened(folder)
    found: list[Any] = filesystem.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    begin = len(path) + 1
    return {info.path[begin:]: info.size for info in found if info.is_file}
