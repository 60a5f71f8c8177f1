"""Arrays of a samples.npz that may have been changed: no more memory than the file has bytes, and no pickle."""

from __future__ import annotations

import errno
import struct
import tokenize
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .errors import DamagedCheckpointError

# What zipfile and numpy say of a file that is none, or an encrypted or a nonsensical one.
_UNREADABLE = (
    ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, SyntaxError, TypeError, OverflowError,
    MemoryError, struct.error, IndexError, KeyError, AttributeError, tokenize.TokenError,
)  # fmt: skip


def read_arrays(path: Path, only: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file as `numpy.savez` writes it, not compressed, by name; all, or those that are wanted.

    What a header says of an array's size is compared with what there is of it before room is made for it.

    Raises:
        DamagedCheckpointError: it is none, is compressed (a small file may then unpack to any size), holds objects, or
            says of an array what is not so.
        OSError: it cannot be read.
    """
    found: dict[str, NDArray[Any]] = {}
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if not only(name):
                    continue
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
                    raise DamagedCheckpointError(f"{path.name} holds {member.filename!r} compressed")
                if sum(array.nbytes for array in found.values()) + member.file_size > size:
                    raise DamagedCheckpointError(f"{path.name} says that it holds more than it has bytes")
                with archive.open(member) as file:
                    found[name] = _array(file, member)
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a place before the file's begin, where a damaged directory points
            raise
        raise DamagedCheckpointError(f"{path.name} holds no arrays that can be read ({error})") from error
    except _UNREADABLE as error:
        raise DamagedCheckpointError(f"{path.name} holds no arrays that can be read ({error})") from error
    return found


def _array(file: Any, member: zipfile.ZipInfo) -> NDArray[Any]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{member.filename} has the format {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise ValueError(f"{member.filename} holds objects")
    count = 1
    for length in shape:
        count *= length
    if count * kind.itemsize + file.tell() != member.file_size:
        raise ValueError(f"{member.filename} has not the size that its header says")
    flat = np.frombuffer(file.read(), dtype=kind, count=count)
    return (flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)).copy()
