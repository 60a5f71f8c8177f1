"""Whether a model's files are those that were registered: hashes.json in its folder, and a tag of its version."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ambient_ray.errors import UserError

from .standalone.load import HASHES, INDEX, changed

FILES_TAG = "ambient_ray.files_sha256"  # of the version: `files_hash` of what was registered


class ModelChangedError(UserError):
    """A model's files are not those that were registered."""


def verify_model(folder: Path, *, name: str | None = None, recorded: str | None = None) -> None:
    """Raise ModelChangedError, naming the file, unless the model in `folder` consists of the files it was written with.

    folder: a registered model's, an MLflow model's or a generator's; one that holds no model passes. name: what the
    error calls it, by default the folder. recorded: the version's tag FILES_TAG, where there is one, against somebody
    who changed hashes.json too. README.md, the model's card, may change.
    """
    root = model_root(folder)
    if root is None:
        return
    fault = changed(root)
    if fault is None and recorded and files_hash(root) != recorded:
        fault = f"{HASHES} was changed after the model was registered: its SHA-256 is not the version's {FILES_TAG}"
    if fault:
        raise ModelChangedError(
            f"{name or folder} is not the model that was registered: {fault} (register it again from its checkpoint, "
            "or restore the file)"
        )


def files_hash(folder: Path) -> str:
    """SHA-256, in hex, of a model's hashes.json, and so of all its files; "" for a model that has none."""
    path = folder / HASHES
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def model_root(folder: Path) -> Path | None:
    """Where the generator lies in a model's folder: at its top, or in models of before under artifacts/; else None."""
    if any((folder / name).is_file() for name in (INDEX, HASHES, "load.py")):
        return folder
    return next((found.parent for found in sorted(folder.glob("artifacts/*/load.py"))), None)
