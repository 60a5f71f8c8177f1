"""Whether a command can write where it is to, found out before it computes anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.errors import UserError
from ambient_ray.storage import check_store

if TYPE_CHECKING:
    from .configuration import Configuration


class OutputFolderError(UserError):
    """The output folder cannot be written."""


def check_writable(folder: Path, called: str = "") -> None:
    """Make the folder and write a file in it.

    Args:
        folder: made with its parents.
        called: what stands before its path in an error, as in `output_dir=`.

    Raises:
        OutputFolderError: with the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputFolderError(f"{called}{folder} cannot be written to: {error.strerror or error}") from error


def check_place(config: Configuration) -> None:
    """Find out whether checkpoints can be written where they are to be, by writing there.

    Raises:
        OutputFolderError: a folder that cannot be written to, with the reason.
        StorageUrlError, StorageRefusedError: the same of a store.
    """
    place = config.checkpoint_folder
    if isinstance(place, Path):
        check_writable(place, "checkpoints=" if config.checkpoints is not None else "output_dir=")
    else:
        check_store(place, "checkpoints=")
