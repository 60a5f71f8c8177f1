"""A tracking URI is absolute, and a store that cannot be used is told at once, in one sentence."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ambient_ray.errors import UserError
from ambient_ray.tracking import TrackingUnreachableError, TrackingUriError, check_tracking, resolve_store


def test_the_default_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = resolve_store(None, "outputs")
    assert store.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert store.artifact_location == f"file://{tmp_path}/outputs/artifacts"


@pytest.mark.parametrize("uri", ["sqlite:///runs/a.db", "runs/a.db", "sqlite:///runs/../runs/a.db"])
def test_a_relative_database_is_made_absolute(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_store(uri, "outputs").uri == f"sqlite:///{tmp_path}/runs/a.db"


def test_a_server_decides_where_artifacts_lie(tmp_path: Path) -> None:
    assert resolve_store("http://server:5000", tmp_path).artifact_location is None
    assert resolve_store("postgresql://u:p@db/mlflow", tmp_path).artifact_location == f"file://{tmp_path}/artifacts"


@pytest.mark.parametrize(
    "uri", ["./mlruns", "file:///runs", "mlruns", "sqlite://", "ftp://host/x", "sqlite:///:memory:"]
)
def test_stores_that_mlflow_cannot_use_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingUriError, match=r"tracking\.uri=.*sqlite:///"):
        resolve_store(uri, tmp_path)


def test_a_port_where_nothing_listens_is_told_within_seconds() -> None:
    with socket.socket() as held:  # bound but not listening: refused, and nobody else can take it
        held.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(TrackingUnreachableError, match=r"nothing answers at tracking\.uri=http://127"):
            check_tracking(f"http://127.0.0.1:{held.getsockname()[1]}", timeout=3)
        assert time.monotonic() - began < 3


def test_a_server_that_accepts_and_stays_silent_is_told_within_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(TrackingUnreachableError, match=r"within 0\.5 s"):
            check_tracking(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(("status", "there"), [(200, True), (401, True), (404, True), (502, False)])
def test_any_answer_but_a_proxys_excuse_will_do(status: int, there: bool) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}/mlflow"
        if there:
            check_tracking(uri, timeout=5)
        else:
            with pytest.raises(TrackingUnreachableError, match="Bad Gateway"):
                check_tracking(uri, timeout=5)
        server.shutdown()


def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "text.db").write_text("not a database, but long enough to have a header " * 5)
    for name in ("file/mlflow.db", "text.db"):
        with pytest.raises(TrackingUnreachableError, match="cannot be written") as told:
            check_tracking(resolve_store(f"sqlite:///{tmp_path}/{name}", tmp_path).uri)
        assert str(tmp_path / name) in str(told.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TrackingUnreachableError, match="cannot be written"):
        check_tracking(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_good_database_passes_and_a_password_is_never_printed(tmp_path: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path}/new folder/mlflow.db")
    with pytest.raises(UserError) as told:
        check_tracking("postgresql://me:secret@127.0.0.1:1/mlflow", timeout=1)
    assert "secret" not in str(told.value)


def test_the_check_does_not_import_mlflow() -> None:
    code = "import sys; from ambient_ray.tracking import check_tracking, StudyRecorder, load_model;"
    code += "assert not {'mlflow', 'torch', 'matplotlib', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
