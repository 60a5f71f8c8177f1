"""Whether a command can write where it is to, found out before it computes anything."""

import tempfile
from pathlib import Path

from ambient_ray.errors import UserError


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
