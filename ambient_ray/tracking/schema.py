"""A new SQLite store gets the tables that MLflow made the last time, which takes milliseconds instead of a second.

MLflow makes them by running all of its migrations. What they come to depends on its version alone, so they are kept,
as SQL statements, under that version's name.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path

from ambient_ray.data.fetch import cache_folder

from .store import SQLITE, sqlite_path

# Rows that MLflow writes with the tables. The default experiment, which has a path, it writes where there is none.
_ROWS = ('INSERT INTO "alembic_version"', 'INSERT INTO "workspaces"')


@contextmanager
def prepared_tables(uri: str) -> Iterator[None]:
    """Within it MLflow opens the store at `uri`. A new database has its tables then, or they are kept afterwards.

    Other stores, and databases with tables, are left alone. Processes that open a new store at the same moment wait
    for each other. Raises sqlite3.Error.
    """
    kept = cache_folder() / "mlflow" / f"tables-{metadata.version('mlflow')}.json"
    new = _new(uri)
    if new and kept.is_file():
        new = not _make(sqlite_path(uri), json.loads(kept.read_text(encoding="utf-8")))
    yield
    if new:
        _keep(sqlite_path(uri), kept)


def _new(uri: str) -> bool:
    """Whether it is an SQLite database that is not there, or without anything in it."""
    return uri.startswith(SQLITE) and (not (path := sqlite_path(uri)).exists() or path.stat().st_size == 0)


def _make(path: Path, statements: list[str]) -> bool:
    """Make the tables where there are none; whether it was done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        try:
            if database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                return False
            for statement in statements:
                database.execute(statement)
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")
    return True


def _keep(path: Path, kept: Path) -> None:
    """Keep the tables that MLflow has just made."""
    with closing(sqlite3.connect(path, timeout=60)) as database:
        dumped = [text for text in database.iterdump() if text not in ("BEGIN TRANSACTION;", "COMMIT;")]
    statements = [text for text in dumped if not text.startswith(("INSERT", "DELETE")) or text.startswith(_ROWS)]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=kept.parent, delete=False, encoding="utf-8") as file:
            json.dump(statements, file, indent=0)
        os.replace(file.name, kept)
    except OSError:
        return  # a cache that cannot be written costs a second the next time
