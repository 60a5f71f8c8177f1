"""Whether a store can be written to, found out before anything is computed."""

from __future__ import annotations

import uuid

from .errors import StorageRefusedError
from .objects import remove, write
from .patience import trouble
from .place import RemoteFolder


def check_store(folder: RemoteFolder, called: str = "") -> None:
    """Write a small object into a folder of a store, and delete it.

    Args:
        folder: where checkpoints are to be.
        called: what stands before its URL in an error, as in `checkpoints=`.

    Raises:
        StorageUrlError: no file system is known for the URL.
        StorageRefusedError: with the reason.
    """
    import pyarrow

    probe = folder / f".can-this-be-written-{uuid.uuid4().hex}"
    try:
        write(b"yes\n", probe)
        remove(probe)
    except OSError as error:
        raise StorageRefusedError(f"{called}{folder} cannot be written to: {trouble(error, folder)}") from error
    except pyarrow.ArrowException as error:
        raise StorageRefusedError(f"{called}{folder} cannot be used: {str(error).splitlines()[0]}") from error
