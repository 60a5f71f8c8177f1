"""A tracking URI is absolute, and a store that cannot be used is told at once, in one sentence."""

import base64
import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import pytest

from ambient_ray.errors import UserError
from ambient_ray.tracking import (
    TrackingRefusedError,
    TrackingUnreachableError,
    TrackingUriError,
    check_tracking,
    resolve_store,
)
from ambient_ray.tracking.store import absolute_uri


def test_the_default_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = resolve_store(None, "outputs")
    assert store.uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert store.artifact_location == f"file://{tmp_path}/outputs/artifacts"


@pytest.mark.parametrize("uri", ["sqlite:///runs/a.db", "runs/a.db", "sqlite:///runs/../runs/a.db"])
def test_a_relative_database_is_made_absolute(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_store(uri, "outputs").uri == f"sqlite:///{tmp_path}/runs/a.db"


def test_postgresql_is_spoken_to_by_the_driver_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy 2.1 takes psycopg for `postgresql:`, 2.0 took psycopg2, and neither looks which is there."""
    there = {"psycopg"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    assert absolute_uri("postgresql://u@db/mlflow") == "postgresql+psycopg://u@db/mlflow"
    there.add("psycopg2")
    assert absolute_uri("postgresql://u@db/mlflow") == "postgresql+psycopg2://u@db/mlflow"
    assert absolute_uri("postgresql+psycopg://u@db/mlflow") == "postgresql+psycopg://u@db/mlflow"
    there.clear()
    with pytest.raises(TrackingUnreachableError, match=r"u:\*\*\*@db/mlflow needs the package 'psycopg2'"):
        check_tracking(absolute_uri("postgresql://u:secret@db/mlflow"))


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


@contextlib.contextmanager
def answering(
    answer: Callable[[str, Message], tuple[int, str]], tls: ssl.SSLContext | None = None
) -> Iterator[http.server.HTTPServer]:
    """A server whose `answer(path, headers)` is a status and a body."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path, self.headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, True), (502, False)])
def test_any_answer_but_a_proxys_excuse_will_do(status: int, there: bool) -> None:
    with answering(lambda path, headers: (status, "")) as server:
        uri = f"http://127.0.0.1:{server.server_port}/mlflow"
        if there:
            check_tracking(uri, timeout=5)
        else:
            with pytest.raises(TrackingUnreachableError, match="Bad Gateway"):
                check_tracking(uri, timeout=5)


def test_a_password_is_asked_for_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(path: str, headers: Message) -> tuple[int, str]:
        good = headers.get("Authorization") == "Basic " + base64.b64encode(b"ada:s%cret").decode()
        return (200, "OK") if good or path == "/health" else (401, "You are not authenticated")

    monkeypatch.setenv("HOME", str(tmp_path))
    for key in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{key}", raising=False)
    with answering(guarded) as server:
        address = f"127.0.0.1:{server.server_port}"
        with pytest.raises(TrackingRefusedError, match=r"asks for a user and a password \(401\).*MLFLOW_TRACKING_USER"):
            check_tracking(f"http://{address}")
        check_tracking(f"http://ada:s%25cret@{address}")
        with pytest.raises(TrackingRefusedError, match="refuses this user and password") as told:
            check_tracking(f"http://ada:wrong@{address}")
        assert "wrong" not in str(told.value)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s%cret")
        check_tracking(f"http://{address}")
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
        (tmp_path / ".mlflow").mkdir()
        (tmp_path / ".mlflow" / "credentials").write_text("[mlflow]\nmlflow_tracking_password = s%cret\n")
        check_tracking(f"http://{address}")


def test_a_name_that_the_server_does_not_allow_is_told() -> None:
    refusal = "Invalid Host header - possible DNS rebinding attack detected"  # MLflow 3's words
    told = pytest.raises(
        TrackingRefusedError, match=r"does not allow the name 127\.0\.0\.1:\d+: add it to its --allowed"
    )
    with answering(lambda path, headers: (200, "OK") if path == "/health" else (403, refusal)) as server, told:
        check_tracking(f"http://127.0.0.1:{server.server_port}")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_of_ones_own_is_trusted_as_mlflow_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_INSECURE_TLS"):
        monkeypatch.delenv(name, raising=False)
    with answering(lambda path, headers: (200, "OK"), tls) as server:
        uri = f"https://127.0.0.1:{server.server_port}"
        with pytest.raises(TrackingUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            check_tracking(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        check_tracking(uri)
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        check_tracking(uri)


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
