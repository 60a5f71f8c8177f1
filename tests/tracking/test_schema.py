"""A database with the tables that were kept is one that MLflow has made, and nobody's tables are touched."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ambient_ray.tracking.schema import prepared_tables


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        dumped = list(database.iterdump())
    return sorted(text for text in dumped if not text.startswith('INSERT INTO "experiments"'))


def opened(path: Path) -> MlflowClient:
    uri = f"sqlite:///{path}"
    with prepared_tables(uri):
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    return client


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlflow"


def test_the_second_store_is_made_as_mlflow_made_the_first(cache: Path, tmp_path: Path) -> None:
    first = opened(tmp_path / "first.db")
    first.create_experiment("mine")
    (kept,) = cache.iterdir()
    assert "mine" not in kept.read_text()
    second = opened(tmp_path / "second.db")
    assert [found.name for found in second.search_experiments()] == ["Default"]
    assert second.create_experiment("mine") == "1"
    assert tables(tmp_path / "first.db") == tables(tmp_path / "second.db")


def test_a_database_with_tables_and_a_full_one_are_left_alone(cache: Path, tmp_path: Path) -> None:
    opened(tmp_path / "first.db")
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (a INTEGER)")
    before = tables(path)
    with prepared_tables(f"sqlite:///{path}"):
        assert tables(path) == before
    with prepared_tables("http://127.0.0.1:1"):
        pass


def test_two_at_once_wait_for_each_other(cache: Path, tmp_path: Path) -> None:
    opened(tmp_path / "first.db")
    failures: list[Exception] = []

    def work() -> None:
        try:
            with prepared_tables(f"sqlite:///{tmp_path}/both.db"):
                pass
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert tables(tmp_path / "both.db") == tables(tmp_path / "first.db")


def test_a_cache_that_cannot_be_written_costs_a_second_and_nothing_else(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "file"))
    assert [found.name for found in opened(tmp_path / "first.db").search_experiments()] == ["Default"]
