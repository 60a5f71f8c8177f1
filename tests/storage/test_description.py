"""A checkpoint that others can write may say anything: nothing outside of it is read, and no more than it has."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ambient_ray.storage import DamagedCheckpointError, fetch, read_description
from ambient_ray.storage.arrays import read_arrays
from ambient_ray.storage.description import MOST_DESCRIPTION, parse_description

HASH = "0" * 64
GOOD = {name: {"bytes": 3, "sha256": HASH} for name in ("model.safetensors", "train_state.safetensors", "samples.npz")}


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "lacks or garbles a key \\('files'\\)"),
        ([], "is no JSON object"),
        ({"files": {**GOOD, "../../../etc/passwd": GOOD["samples.npz"]}}, "names the file '../../../etc/passwd'"),
        ({"files": {**GOOD, "/etc/passwd": GOOD["samples.npz"]}}, "which no checkpoint has"),
        ({"files": without("model.safetensors")}, "does not name the file 'model.safetensors'"),
        ({"files": {**GOOD, "samples.npz": {"bytes": -1, "sha256": HASH}}}, "the size of 'samples.npz'"),
        ({"files": {**GOOD, "samples.npz": {"bytes": True, "sha256": HASH}}}, "the size of 'samples.npz'"),
        ({"files": {**GOOD, "samples.npz": {"bytes": 1, "sha256": "../" * 21 + "x"}}}, "the SHA-256 of 'samples.npz'"),
        ({"files": {**GOOD, "samples.npz": 3}}, "the size of 'samples.npz'"),
        ({"files": GOOD, "collected": ["../x"]}, "'collected'"),
        ({"files": GOOD, "collected": 5}, "'collected'"),
    ],
)
def test_a_description_that_names_anything_else_is_refused(tmp_path, content, words):
    (tmp_path / "checkpoint.json").write_text(json.dumps(content))
    with pytest.raises(DamagedCheckpointError, match=words):
        read_description(tmp_path)


def test_a_description_without_end_is_not_read_into_memory(tmp_path):
    with (tmp_path / "checkpoint.json").open("wb") as file:
        file.truncate(40 * MOST_DESCRIPTION)
    with pytest.raises(DamagedCheckpointError, match=f"has more than {MOST_DESCRIPTION} bytes, which none has"):
        read_description(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["files", "collected", "bytes", "sha256", "samples.npz"]), inner, max_size=4),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_whatever_stands_there_is_a_sentence(tmp_path_factory, raw):
    with pytest.raises(DamagedCheckpointError):
        parse_description(raw, tmp_path_factory.getbasetemp())


def test_a_link_to_somewhere_else_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"abc")
    folder = tmp_path / "rung"
    folder.mkdir()
    (folder / "checkpoint.json").write_text(json.dumps({"files": GOOD}))
    (folder / "model.safetensors").symlink_to(secret)
    with pytest.raises(DamagedCheckpointError, match=r"model.safetensors is missing"):
        fetch(folder, ("model.safetensors",), check=True)


# -- arrays


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays_are_what_numpy_wrote(tmp_path):
    kept = {
        "a": np.arange(12, dtype=np.int64).reshape(3, 4),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "h": np.ones((2, 0, 3), dtype=np.float16),
        "b": np.array([[True, False]]),
        "n": np.array(3.5),
    }
    found = read_arrays(npz(tmp_path / "x.npz", **kept))
    assert set(found) == set(kept)
    for name, array in kept.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    assert set(read_arrays(tmp_path / "x.npz", lambda name: name == "a")) == {"a"}


def test_a_bomb_is_refused_before_it_unpacks(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.zeros(50_000_000, dtype=np.uint8))
    assert path.stat().st_size < 100_000
    with pytest.raises(DamagedCheckpointError, match="compressed"):
        read_arrays(path)


def test_a_header_that_promises_more_than_there_is_is_refused_before_room_is_made(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + b"12345678")
    with pytest.raises(DamagedCheckpointError, match="has not the size that its header says"):
        read_arrays(tmp_path / "x.npz")


def test_objects_which_are_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DamagedCheckpointError, match="holds objects"):
        read_arrays(tmp_path / "x.npz")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.integers(0, 420))
def test_damaged_arrays_are_read_or_are_a_sentence(tmp_path_factory, changes, length):
    path = npz(tmp_path_factory.mktemp("npz") / "x.npz", a=np.arange(10, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(bytes(content[: max(1, len(content) - length // 8)]))
    try:
        found = read_arrays(path)
    except DamagedCheckpointError:
        return
    assert sum(array.nbytes for array in found.values()) <= len(content)
