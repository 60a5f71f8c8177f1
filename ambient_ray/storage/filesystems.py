"""From a URL to pyarrow's file system: one a store and process, with time limits."""

from __future__ import annotations

import functools
import os
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .errors import StorageUrlError
from .place import RemoteFolder

_CONNECT, _REQUEST = 10.0, 60.0  # seconds that an S3 store may take to answer, and without sending anything
_ENDPOINT, _REGIONS = "AWS_ENDPOINT_URL", ("AWS_REGION", "AWS_DEFAULT_REGION")
# Stores whose folders are nothing but the beginning of names.
_FLAT = frozenset({"s3", "gcs", "abfs"})


def opened(folder: RemoteFolder) -> tuple[Any, str]:
    """The file system of a folder and its path there. Raises StorageUrlError, and OSError of a store that is away."""
    split = urlsplit(folder.base)
    if split.scheme == "s3":
        return _s3(split.netloc, folder.query, os.environ.get(_ENDPOINT, "")), f"{split.netloc}{split.path}"
    filesystem, base = _other(split.scheme, split.netloc, folder.query)
    return filesystem, f"{base.rstrip('/')}/{split.path.lstrip('/')}".rstrip("/")


def makes_folders(filesystem: Any) -> bool:
    """Whether a file's folder must be made before it."""
    return filesystem.type_name not in _FLAT


@functools.lru_cache(maxsize=32)
def _s3(bucket: str, query: str, environment: str) -> Any:
    from pyarrow import fs

    options = dict(parse_qsl(query))
    endpoint = options.get("endpoint_override") or environment
    region = options.get("region") or next((os.environ[name] for name in _REGIONS if os.environ.get(name)), None)
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
    given: dict[str, Any] = {"endpoint_override": endpoint} if endpoint else {}
    given |= {"scheme": options["scheme"]} if "scheme" in options else {}
    # Small objects go up in one request, and none appears before it is closed.
    return fs.S3FileSystem(
        region=region, connect_timeout=_CONNECT, request_timeout=_REQUEST, allow_delayed_open=True, **given
    )


@functools.lru_cache(maxsize=32)
def _other(scheme: str, authority: str, query: str) -> tuple[Any, str]:
    import pyarrow
    from pyarrow import fs

    url = f"{scheme}://{authority}/" + (f"?{query}" if query else "")
    try:
        filesystem, path = fs.FileSystem.from_uri(url)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise StorageUrlError(
            f"no file system is known for {scheme}:// ({str(error).splitlines()[0]}); give an absolute path, or"
            " s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or another that pyarrow.fs opens"
        ) from error
    return filesystem, str(path)
