"""A place for checkpoints: a path of this machine, or a folder behind a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import StorageUrlError

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# What may stand behind the question mark of an S3 URL: none of it is a secret.
S3_OPTIONS = frozenset({"endpoint_override", "region", "scheme"})
_BUCKETS = frozenset({"s3", "gs", "gcs"})
_ENVIRONMENT = "give them by the environment (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the machine's role"


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of a store that is reached by a URL.

    Attributes:
        base: scheme, authority and path, without a slash at its end.
        query: what stands behind the question mark, the same for all folders of the store; "" for nothing.
    """

    base: str
    query: str = ""

    def __truediv__(self, name: str) -> RemoteFolder:
        """A folder or file in it."""
        return RemoteFolder(f"{self.base}/{name}", self.query)

    def __str__(self) -> str:
        return f"{self.base}?{self.query}" if self.query else self.base

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.base.rpartition("/")[2]

    @property
    def parent(self) -> RemoteFolder:
        """The folder that it is in."""
        return RemoteFolder(self.base.rpartition("/")[0], self.query)

    @property
    def root(self) -> str:
        """Scheme and authority, for a sentence about the store: `s3://bucket`."""
        split = urlsplit(self.base)
        return f"{split.scheme}://{split.netloc}"


Location = Path | RemoteFolder


def locate(text: str | Path) -> Location:
    """The place that a path or URL names; `file://` is a path.

    Raises:
        StorageUrlError: a relative path behind `file://`, a bucket without a name, an unknown option, or credentials,
            which do not belong into what is stored and logged.
    """
    if isinstance(text, Path) or not _URL.match(text):
        return Path(text)
    split = urlsplit(text)
    shown = f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
    if split.password is not None or (split.username is not None and split.scheme in _BUCKETS):
        raise StorageUrlError(f"the URL {shown} holds credentials, which would be stored and logged; {_ENVIRONMENT}")
    options = parse_qsl(split.query, keep_blank_values=True)
    for key, value in options:
        if split.scheme == "s3" and key not in S3_OPTIONS:
            known = ", ".join(sorted(S3_OPTIONS))
            raise StorageUrlError(f"the URL {shown} has the option {key!r}, which is none of {known}; {_ENVIRONMENT}")
        if "@" in value or re.search("secret|token|password|credential", key, re.IGNORECASE):
            raise StorageUrlError(f"the URL {shown} holds credentials in its option {key!r}; {_ENVIRONMENT}")
    if split.scheme == "file":
        path = Path(unquote(split.path))
        if split.netloc not in ("", "localhost") or not path.is_absolute():
            raise StorageUrlError(f"{text} names no file of this machine: write file:///absolute/path")
        return path
    if split.scheme in _BUCKETS and not split.netloc:
        raise StorageUrlError(f"{text} names no bucket: write {split.scheme}://BUCKET/PREFIX")
    if any(part in (".", "..") for part in split.path.split("/")):
        raise StorageUrlError(f"the path of {shown} may not hold . or ..")
    return RemoteFolder(f"{split.scheme}://{split.netloc}{split.path.rstrip('/')}", split.query)
