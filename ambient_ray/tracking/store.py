"""Where MLflow keeps the runs: one absolute URI, checked before anything expensive starts.

MLflow's own default is a file in the current directory, which is another one on every node and in every job;
here a store is always absolute. The file store (`./mlruns`) is refused, because MLflow 3 refuses it too,
later.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted

from .server import ask_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
_DATABASE_SUFFIXES = {".db", ".sqlite", ".sqlite3"}
# Python packages that speak to a database, the preferred first. What SQLAlchemy takes for a scheme alone depends on its
# version: psycopg2 until 2.0, psycopg from 2.1 on.
_DRIVERS = {"postgresql": ("psycopg2", "psycopg"), "mysql": ("MySQLdb", "pymysql"), "mssql": ("pyodbc",)}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class TrackingUriError(UserError):
    """The tracking URI is of a kind that MLflow 3 cannot write to."""


class TrackingUnreachableError(UserError):
    """The tracking store cannot be reached or written to."""


@dataclass(frozen=True)
class TrackingStore:
    """An absolute tracking URI, and where a new experiment keeps its artifacts (None: the server decides)."""

    uri: str
    artifact_location: str | None


def resolve_store(uri: str | None, output_dir: Path | str) -> TrackingStore:
    """The store that `tracking.uri` names.

    None: the SQLite file `output_dir/mlflow.db`. A relative SQLite path, or a bare path ending in .db, is
    made absolute against the current directory. Over http(s) the server decides where artifacts lie; for
    every other store they lie under `output_dir/artifacts`. Raises TrackingUriError for a folder of files
    (`./mlruns`, `file:...`) and for an in-memory database.
    """
    output_dir = Path(output_dir).expanduser().resolve()
    absolute = absolute_uri(uri) if uri else f"{SQLITE}{output_dir / 'mlflow.db'}"
    remote = absolute.startswith(("http://", "https://"))
    return TrackingStore(absolute, None if remote else (output_dir / "artifacts").as_uri())


def absolute_uri(uri: str) -> str:
    """`uri` with its relative SQLite path made absolute, and PostgreSQL's with the driver that is installed.

    Raises TrackingUriError as `resolve_store` says.
    """
    scheme, _, driver = urlsplit(uri).scheme.partition("+")
    if scheme == "postgresql" and not driver and (installed := _installed(scheme)):
        return f"{scheme}+{installed}{uri.removeprefix(scheme)}"
    if scheme in ("http", "https", *_DRIVERS):
        return uri
    if scheme == "sqlite":
        path, _, query = uri.partition(":///")[2].partition("?")
        if path in ("", ":memory:"):
            raise TrackingUriError(
                f"tracking.uri={redacted(uri)} is kept in memory and would be lost: name a file, as in sqlite:///mlflow.db"
            )
        return f"{SQLITE}{Path(path).expanduser().resolve()}" + (f"?{query}" if query else "")
    if scheme == "" and Path(uri).suffix in _DATABASE_SUFFIXES:
        return f"{SQLITE}{Path(uri).expanduser().resolve()}"
    if scheme in ("", "file"):
        raise TrackingUriError(
            f"tracking.uri={redacted(uri)} is a folder of files, which MLflow 3 no longer writes to: "
            "use sqlite:///path/to/mlflow.db or the address of a tracking server"
        )
    raise TrackingUriError(
        f"tracking.uri={redacted(uri)}: expected sqlite:///FILE.db, postgresql://... or http(s)://..., got '{scheme}:'"
    )


def check_tracking(uri: str, timeout: float = 5.0) -> None:
    """Return if something answers at `uri` (absolute) within about `timeout` seconds.

    Does not import MLflow: its client would retry for minutes, and importing it takes seconds.
    Raises TrackingUnreachableError with one sentence that says what was tried, TrackingRefusedError where a server
    answers but lets us not in.
    """
    parts = urlsplit(uri)
    scheme, _, driver = parts.scheme.partition("+")
    if scheme == "sqlite":
        _check_sqlite(sqlite_path(uri), timeout)
    elif scheme in ("http", "https"):
        _within(timeout, redacted(uri), lambda: ask_server(uri, timeout))
    else:
        module = driver or _installed(scheme) or _DRIVERS[scheme][0]
        if importlib.util.find_spec(module) is None:
            raise TrackingUnreachableError(
                f"tracking.uri={redacted(uri)} needs the package '{module}', which is not installed"
            )
        address = (parts.hostname or "localhost", parts.port or _PORTS[scheme])
        _within(timeout, redacted(uri), lambda: socket.create_connection(address, timeout).close())


def sqlite_path(uri: str) -> Path:
    """The file of an absolute SQLite URI."""
    return Path(uri.partition(":///")[2].partition("?")[0])


def open_client(uri: str) -> MlflowClient:
    """A client of the store at `uri` that leaves MLflow's global state alone; its first use makes the schema.

    MLflow's usage statistics, which it sends to its makers, are switched off unless the user has decided.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _check_sqlite(path: Path, timeout: float) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # BEGIN IMMEDIATE takes the write lock: it fails on a read-only file or folder, where a plain open
        # succeeds.
        with sqlite3.connect(path, timeout=timeout) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        connection.close()
    except (OSError, sqlite3.Error) as error:
        reason = str(error) if isinstance(error, sqlite3.Error) else (error.strerror or str(error))
        raise TrackingUnreachableError(
            f"the MLflow database {path} cannot be written ({reason}): "
            "choose another with tracking.uri=sqlite:///path/to/mlflow.db or another output_dir"
        ) from error


def _within(timeout: float, uri: str, attempt: Callable[[], None]) -> None:
    """Run `attempt` for at most about `timeout` seconds; name resolution has no time limit of its own."""
    failure: list[Exception] = []

    def run() -> None:
        try:
            attempt()
        except (OSError, ValueError, UserError) as error:  # URLError and socket errors are OSErrors
            failure.append(error)

    thread = threading.Thread(target=run, name="check-tracking", daemon=True)
    thread.start()
    thread.join(timeout + 0.5)
    if thread.is_alive():
        failure.append(TimeoutError("no answer"))
    if failure and isinstance(failure[0], UserError):
        raise failure[0]
    if failure:
        reason = getattr(failure[0], "reason", None) or failure[0]
        raise TrackingUnreachableError(
            f"nothing answers at tracking.uri={uri} within {timeout:g} s ({reason}): "
            "start the server, correct the address, or leave tracking.uri out to write to a local file"
        ) from failure[0]


def _installed(scheme: str) -> str | None:
    return next((name for name in _DRIVERS[scheme] if importlib.util.find_spec(name) is not None), None)
