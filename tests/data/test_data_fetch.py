"""Fetching: whole and the published file, or not there; from a server on this machine alone."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ambient_ray.data import ChecksumError, FetchError
from ambient_ray.data.fetch import cache_folder, fetch

CONTENT = bytes(range(256)) * 5000
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    """(address, list of paths that were asked for)."""
    asked, wait = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/missing.bin":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/file.bin" else CONTENT[: len(CONTENT) // 2])
            if self.path == "/silent.bin":
                self.wfile.flush()
                wait.wait(20)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        wait.set()
        running.shutdown()


@pytest.mark.parametrize(("algorithm", "digest"), [("sha256", SHA256), ("md5", MD5)])
def test_fetches_once(server, tmp_path, capsys, algorithm, digest):
    address, asked = server
    for _ in range(2):
        path = fetch(f"{address}/file.bin", tmp_path / "a" / "b", digest=digest, algorithm=algorithm)
        assert path == tmp_path / "a" / "b" / "file.bin"
        assert path.read_bytes() == CONTENT
    assert asked == ["/file.bin"]
    assert f"fetching {address}/file.bin into" in capsys.readouterr().err
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    address, _ = server
    with pytest.raises(ChecksumError, match=rf"gave another file .* SHA256 is {SHA256}, not 00: ask for help$"):
        fetch(f"{address}/file.bin", tmp_path, digest="00", advice="ask for help")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_in_the_folder_is_refused(server, tmp_path):
    address, asked = server
    (tmp_path / "file.bin").write_bytes(CONTENT[1:])
    with pytest.raises(ChecksumError, match=r"file\.bin is not the published file\.bin: .*; remove it, so that"):
        fetch(f"{address}/file.bin", tmp_path, digest=SHA256)
    assert asked == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.bin", "the server answers 404 Not Found"),
        ("short.bin", r"640,000 of 1,280,000 bytes came"),
        ("silent.bin", r"nothing came for 0\.3 s"),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_nothing(server, tmp_path, name, reason):
    address, _ = server
    with pytest.raises(FetchError, match=rf"^{address}/{name} cannot be fetched \({reason}.*\): use dataset\.path$"):
        fetch(f"{address}/{name}", tmp_path, digest=SHA256, advice="use dataset.path", timeout=0.3)
    assert list(tmp_path.iterdir()) == []


def test_no_server(server, tmp_path):
    with pytest.raises(FetchError, match=r"cannot be fetched \(Connection refused\): check the connection"):
        fetch("http://127.0.0.1:1/file.bin", tmp_path, digest=SHA256)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FetchError, match=r"file cannot be written \(.*\): set AMBIENT_RAY_CACHE"):
        fetch(f"{server[0]}/file.bin", tmp_path / "file", digest=SHA256)


def test_the_cache_folder_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("AMBIENT_RAY_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "ambient-ray"
