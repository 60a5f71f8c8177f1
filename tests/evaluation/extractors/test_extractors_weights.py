"""Files of weights: only the right file is taken, only as data, and never half of it."""

import functools
import hashlib
import http.server
import pickle
import threading

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ambient_ray.data import ChecksumError, FetchError
from ambient_ray.evaluation import (
    MissingWeightsError,
    NotAStateDictError,
    WeightsHashError,
    WrongNetworkError,
)
from ambient_ray.evaluation.extractors.weights import Published, find_weights, load_into, read_state

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server of a folder on this machine, and an empty cache."""
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(STATE, folder / "w.pth")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def end_headers(self):
            if "short" in self.path:  # more is announced than comes
                self._headers_buffer = [
                    b"Content-Length: 999999\r\n" if line.startswith(b"Content-Length") else line
                    for line in self._headers_buffer
                ]
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, folder, tmp_path / "cache" / "weights"
    server.shutdown()
    server.server_close()


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_download_is_made_once_checked_and_survives_the_server(served):
    server, folder, cache = served
    there = Published(f"http://127.0.0.1:{server.server_port}/w.pth", digest(folder / "w.pth"))
    found = find_weights(there)
    assert found.sha256 == there.sha256
    assert torch.equal(read_state(found.path)["a"], STATE["a"])
    server.shutdown()
    server.server_close()
    assert find_weights(there) == found
    assert [path.name for path in cache.iterdir()] == ["w.pth"]


def test_a_download_of_another_file_leaves_nothing(served):
    server, _, cache = served
    with pytest.raises(ChecksumError, match=r"another file than the published one, its SHA256 .*evaluation\.weights="):
        find_weights(Published(f"http://127.0.0.1:{server.server_port}/w.pth", "0" * 64))
    assert list(cache.iterdir()) == []


def test_a_broken_off_or_failed_download_says_the_url_and_leaves_nothing(served):
    server, folder, cache = served
    (folder / "short.pth").write_bytes(b"abc")
    url = f"http://127.0.0.1:{server.server_port}"
    for name in ("short.pth", "none.pth"):
        with pytest.raises(FetchError, match=rf"{url}/{name} cannot be fetched .*evaluation\.weights="):
            find_weights(Published(f"{url}/{name}", "0" * 64))
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match="cannot be fetched"):
        find_weights(Published(f"{url}/w.pth", "0" * 64))
    assert list(cache.iterdir()) == []


def test_a_local_file_is_checked_against_the_users_digest_or_the_published_one(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    published = Published("http://127.0.0.1:1/w.pth", "0" * 64)
    right = digest(tmp_path / "w.pth")
    assert find_weights(published, tmp_path / "w.pth", sha256=right.upper()).sha256 == right
    with pytest.raises(WeightsHashError, match=rf"{right}, expected 0000.*evaluation\.sha256="):
        find_weights(published, tmp_path / "w.pth")
    with pytest.raises(MissingWeightsError, match="There is no file of weights at"):
        find_weights(published, tmp_path / "no.pth")


class Evil:
    def __reduce__(self):
        return print, ("this was run",)


def test_nothing_but_tensors_by_name_is_read(tmp_path, capsys):
    whole, path = tmp_path / "w.pth", tmp_path / "x.pth"
    torch.save(STATE, whole)
    torch.save(Evil(), tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "script.pth"))
    torch.save({"a": STATE["a"], "epoch": 3}, tmp_path / "checkpoint.pth")
    path.write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    names = ["evil.pth", "plain.pth", "script.pth", "checkpoint.pth", "x.pth", "x.safetensors"]
    for name in names:
        with pytest.raises(NotAStateDictError, match="state dict"):
            read_state(tmp_path / name)
    assert "this was run" not in capsys.readouterr().out


def test_both_formats_hold_the_same_weights(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    save_file(STATE, tmp_path / "w.safetensors")
    one, other = read_state(tmp_path / "w.pth"), read_state(tmp_path / "w.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in STATE)


def test_weights_of_another_network_are_named(tmp_path):
    module = nn.Linear(3, 2)
    with pytest.raises(
        WrongNetworkError, match=r"bias is \(5,\) instead of \(2,\), extra is unknown, weight is missing"
    ):
        load_into(module, {"bias": torch.ones(5), "extra": torch.ones(1)}, tmp_path / "w", "net")
