"""A published file, fetched once into a folder of the user's: checked by its hash, whole or not there at all."""

import contextlib
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from .errors import ChecksumError, FetchError

BLOCK = 2**20
TIMEOUT_S = 30.0  # without a byte; some publishers serve 90 kB/s, so that the whole may take as long as it takes


def cache_folder() -> Path:
    """Where fetched and converted files are kept: $AMBIENT_RAY_CACHE, else ~/.cache/ambient-ray. Not made here."""
    named = os.environ.get("AMBIENT_RAY_CACHE")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "ambient-ray"


def fetch(
    url: str,
    folder: Path,
    *,
    digest: str,
    algorithm: str = "sha256",
    advice: str = "check the connection, or fetch it yourself",
    timeout: float = TIMEOUT_S,
) -> Path:
    """The file of this address, from the folder or, if it is not there, from the address; its hash is checked.

    url: its last part is the file's name; http(s)
    folder: made if need be; the file is written beside its place and renamed when its hash is right
    digest: hex, as published; algorithm: a name of hashlib ("sha256", "md5")
    advice: ends the sentence of a failure: what a user can do instead
    timeout: seconds without a byte after which the attempt ends
    Says on stderr that it fetches. Raises FetchError (no connection, refused, cut short, folder not writable),
    ChecksumError (another file than the published one, fetched or in the folder).
    """
    path = folder / unquote(Path(urlsplit(url).path).name)
    if path.exists():
        check_digest(path, digest, algorithm, f"remove it, so that it is fetched again from {url}")
        return path
    print(f"fetching {url} into {folder}", file=sys.stderr, flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name}-")
    except OSError as error:
        raise FetchError(f"{folder} cannot be written ({error.strerror or error}): set AMBIENT_RAY_CACHE") from error
    try:
        with os.fdopen(handle, "wb") as file:
            found = _receive(url, file, algorithm, timeout)
        if found != digest:
            raise ChecksumError(
                f"{url} gave another file than the published one, its {algorithm.upper()} is {found}, "
                f"not {digest}: {advice}"
            )
        os.chmod(name, 0o644)  # temporary files are their owner's alone, a cache may be shared
        os.replace(name, path)
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(f"{url} cannot be fetched ({_reason(error, timeout)}): {advice}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):  # it has been renamed
            os.unlink(name)
    return path


def check_digest(path: Path, digest: str, algorithm: str, advice: str) -> None:
    """Compare a file's hash with the published one. Raises ChecksumError, which `advice` ends; OSError."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    if found != digest:
        raise ChecksumError(
            f"{path} is not the published {path.name}: its {algorithm.upper()} is {found}, not {digest}; {advice}"
        )


def _receive(url: str, file: BinaryIO, algorithm: str, timeout: float) -> str:
    """Write what the address gives into the file; the hash of it."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    request = urllib.request.Request(url, headers={"User-Agent": "ambient-ray"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        expected, received = answer.headers.get("Content-Length"), 0
        while block := answer.read(BLOCK):
            file.write(block)
            hashed.update(block)
            received += len(block)
    if expected is not None and received != int(expected):
        raise http.client.HTTPException(f"{received:,} of {int(expected):,} bytes came")
    return hashed.hexdigest()


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"nothing came for {timeout:g} s"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
