"""What checkpoint.json says of the files beside it: the part of a checkpoint that its storage needs to know."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CollectedCheckpointError, DamagedCheckpointError
from .place import Location

MODEL, TRAIN_STATE, SAMPLES = "model.safetensors", "train_state.safetensors", "samples.npz"
DESCRIPTION = "checkpoint.json"
FILES = frozenset({MODEL, TRAIN_STATE, SAMPLES})
#: checkpoint.json is read into memory before anything is known of it; a trial of 100 rungs has some 500 kB.
MOST_DESCRIPTION = 16 * 2**20
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fingerprint:
    """What a file was when it was written: its size, and its SHA-256 in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Described:
    """A description that was read.

    Attributes:
        content: all of it.
        files: of those that were written.
        collected: names of those that were deleted since.
        digest: SHA-256 of the description itself, in hex.
    """

    content: Mapping[str, Any]
    files: Mapping[str, Fingerprint]
    collected: frozenset[str]
    digest: str

    def wanted(self, name: str, where: Location) -> Fingerprint:
        """What a file was. Raises DamagedCheckpointError where the checkpoint never had it."""
        if name not in self.files:
            raise DamagedCheckpointError(f"{where} has no {name}")
        return self.files[name]

    def check_there(self, names: Collection[str], where: Location) -> None:
        """Raise CollectedCheckpointError if one of the files was deleted."""
        if gone := sorted(self.collected & set(names)):
            raise CollectedCheckpointError(
                f"{where} was collected: {' and '.join(gone)} of it was deleted when its trial had ended, being neither"
                " on that trial's front nor its end; checkpoint.json has its scores (keep_checkpoints=all keeps it all)"
            )


def parse_description(raw: bytes, where: Location) -> Described:
    """The description of the checkpoint at `where`, checked: known names only, sizes and hashes that can be.

    Raises:
        DamagedCheckpointError: it is not what was written.
    """
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} is not JSON ({error}); use an older checkpoint") from error
    if not isinstance(content, dict):
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} is no JSON object; use an older checkpoint")
    files, collected = content.get("files"), content.get("collected", [])
    if not isinstance(files, dict):
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} lacks or garbles a key ('files')")
    if unknown := sorted(set(files) - FILES):
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} names the file {unknown[0]!r}, which no checkpoint has")
    # Between two rungs nothing was sampled.
    if missing := sorted((FILES - {SAMPLES} if "pause" in content else FILES) - set(files)):
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} does not name the file {missing[0]!r}")
    if not isinstance(collected, list) or not set(map(str, collected)) <= FILES:
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} lacks or garbles a key ('collected')")
    prints = {name: _fingerprint(entry, name, where) for name, entry in files.items()}
    return Described(content, prints, frozenset(map(str, collected)), hashlib.sha256(raw).hexdigest())


def read_description(folder: Path, where: Location | None = None) -> Described:
    """The description in a folder of this machine. where: what an error calls it. Raises DamagedCheckpointError."""
    where = folder if where is None else where
    path = folder / DESCRIPTION
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_DESCRIPTION + 1)
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{where} is no complete checkpoint: it has no {DESCRIPTION}") from error
    except OSError as error:
        raise DamagedCheckpointError(
            f"{where}/{DESCRIPTION} cannot be read ({error}); use an older checkpoint"
        ) from error
    return parse_description(bounded(raw, where), where)


def bounded(raw: bytes, where: Location) -> bytes:
    """The bytes of a description, refused where they are more than any has. Raises DamagedCheckpointError."""
    if len(raw) > MOST_DESCRIPTION:
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} has more than {MOST_DESCRIPTION} bytes, which none has")
    return raw


def fingerprint(path: Path) -> Fingerprint:
    """Size and SHA-256 of a file as it is now."""
    with path.open("rb") as file:
        return Fingerprint(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def verify(path: Path, expected: Fingerprint, where: Location) -> None:
    """Raise DamagedCheckpointError unless the file is what was written. where: the checkpoint, for the sentence."""
    if path.is_symlink() or not path.is_file():
        raise DamagedCheckpointError(f"{where}/{path.name} is missing; use an older checkpoint")
    size = path.stat().st_size
    if size != expected.bytes:
        raise DamagedCheckpointError(
            f"{where}/{path.name} has {size} bytes, {expected.bytes} were written; use an older checkpoint"
        )
    if fingerprint(path).sha256 != expected.sha256:
        raise DamagedCheckpointError(
            f"{where}/{path.name} is not what was written (another SHA-256); use an older checkpoint"
        )


def _fingerprint(entry: Any, name: str, where: Location) -> Fingerprint:
    size, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} lacks or garbles a key (the size of {name!r})")
    if not isinstance(digest, str) or not _HEX.fullmatch(digest):
        raise DamagedCheckpointError(f"{where}/{DESCRIPTION} lacks or garbles a key (the SHA-256 of {name!r})")
    return Fingerprint(size, digest)
