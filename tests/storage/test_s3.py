"""Checkpoints in a real S3 server: whole or not at all, bit for bit, nothing twice, damage found, refusals told."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import small_world as world
from s3_server import CREDENTIALS, s3_store

from ambient_ray.storage import (
    CollectedCheckpointError,
    DamagedCheckpointError,
    StorageRefusedError,
    check_store,
    children,
    collect,
    fetch,
    locate,
    removable,
)
from ambient_ray.training import World, read_checkpoint, run_trial
from ambient_ray.training.newest import newest_checkpoint

RUNGS = (64, 128)
FILES = {"model.safetensors", "train_state.safetensors", "samples.npz", "checkpoint.json"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with s3_store(tmp_path_factory.mktemp("cache")) as served:
        yield served


@pytest.fixture
def place(store, request):
    return locate(f"{store.url}/{request.node.name.partition('[')[0]}/0000-uid")


def train(place, rungs=RUNGS, **more):
    recorder = world.Recorder()
    outcome = run_trial(
        world.settings(rungs=rungs), world.data(), World(), recorder, workdir=place, score=world.score, **more
    )
    return outcome, recorder


def keys_below(store, place):
    begin = place.base.removeprefix("s3://bucket/") + "/"
    return {key.removeprefix(begin) for key in store.keys() if key.startswith(begin)}  # noqa: SIM118


def forget(monkeypatch, tmp_path):
    """As on another node: nothing has been fetched here."""
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "elsewhere"))


def test_a_checkpoint_is_there_with_its_description_written_last(store, place):
    begun = len(store.requests)
    outcome, _ = train(place, (64,))
    assert str(outcome.results[0].checkpoint) == f"{place}/rung-00-000000064"
    assert keys_below(store, place) == {f"rung-00-000000064/{name}" for name in FILES}
    written = [path for verb, path in store.requests[begun:] if verb in ("PUT", "POST")]
    assert "checkpoint.json" in written[-1] and sum("checkpoint.json" in path for path in written) == 1


def test_an_upload_that_was_cut_off_is_no_checkpoint(store, place):
    train(place)
    key = place.base.removeprefix("s3://bucket/") + "/rung-01-000000128/checkpoint.json"
    store.client.delete_object(Bucket="bucket", Key=key)
    assert [c.name for c in children(place)] == ["rung-00-000000064"]
    notes = []
    assert newest_checkpoint(place, say=notes.append).images_seen == 64 and notes == []


def test_on_another_node_it_goes_on_bit_for_bit(store, place, monkeypatch, tmp_path):
    whole, _ = train(tmp_path / "whole", (64, 128, 192))
    train(place, RUNGS)
    forget(monkeypatch, tmp_path)
    newest = newest_checkpoint(place)
    outcome, recorder = train(place, (64, 128, 192), resume=newest.place)
    assert [r.rung for r in recorder.resumed] == [1] and outcome.state == "finished"
    mine, theirs = (fetch(o.results[-1].checkpoint, check=True) / "train_state.safetensors" for o in (outcome, whole))
    assert mine.read_bytes() == theirs.read_bytes()


def test_nothing_is_downloaded_twice_by_a_node(store, place, monkeypatch, tmp_path):
    outcome, _ = train(place, (64,))
    checkpoint = outcome.results[0].checkpoint
    begun = len(store.requests)
    fetch(checkpoint)  # this node wrote it
    assert not [p for verb, p in store.requests[begun:] if verb == "GET" and "safetensors" in p]
    forget(monkeypatch, tmp_path)
    begun = len(store.requests)
    for names in (
        ("samples.npz",),
        ("samples.npz", "model.safetensors"),
        FILES - {"checkpoint.json"},
        ("samples.npz",),
    ):
        fetch(checkpoint, names)
    got = [p.rpartition("/")[2].partition("?")[0] for verb, p in store.requests[begun:] if verb == "GET"]
    fetched = {name: got.count(name) for name in FILES}
    assert fetched == {"samples.npz": 1, "model.safetensors": 1, "train_state.safetensors": 1, "checkpoint.json": 4}


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing", "garbled"])
def test_a_damaged_object_is_found_and_the_checkpoint_before_it_is_taken_with_a_word(
    store, request, damage, monkeypatch, tmp_path
):
    place = locate(f"{store.url}/damage-{damage}/0000-uid")
    train(place)
    forget(monkeypatch, tmp_path)
    name = "checkpoint.json" if damage == "garbled" else "train_state.safetensors"
    where = {"Bucket": "bucket", "Key": f"{place.base.removeprefix('s3://bucket/')}/rung-01-000000128/{name}"}
    content = store.client.get_object(**where)["Body"].read()
    changed = {
        "flipped": content[:-1] + bytes([content[-1] ^ 1]), "truncated": content[:-9], "longer": content + b"x",
        "garbled": content[:50],
    }  # fmt: skip
    if damage == "missing":
        store.client.delete_object(**where)
    else:
        store.client.put_object(**where, Body=changed[damage])
    with pytest.raises(DamagedCheckpointError, match=name):
        read_checkpoint(place / "rung-01-000000128")
    notes = []
    assert newest_checkpoint(place, say=notes.append).images_seen == 64
    assert len(notes) == 1 and notes[0].startswith("goes on from the one before, 64 images: s3://bucket/")
    assert name in notes[0]
    assert not list((tmp_path / "elsewhere").rglob(".*partial"))


def test_a_store_that_does_not_answer_is_not_taken_for_one_without_checkpoints(store, place):
    train(place)
    store.away(60)
    try:
        with pytest.raises(OSError, match="SLOW_DOWN"):
            newest_checkpoint(place)
    finally:
        store.away(0)


def test_a_description_that_the_study_does_not_remember_is_refused(store, place, monkeypatch, tmp_path):
    result = train(place, (64,))[0].results[0]
    assert len(result.digest) == 64
    fetch(result.checkpoint, ("samples.npz",), digest=result.digest)
    key = f"{place.base.removeprefix('s3://bucket/')}/rung-00-000000064/checkpoint.json"
    content = json.loads(store.client.get_object(Bucket="bucket", Key=key)["Body"].read())
    content["backbone"] = {"_target_": "os.system"}
    store.client.put_object(Bucket="bucket", Key=key, Body=json.dumps(content).encode())
    with pytest.raises(DamagedCheckpointError, match="is not what its trial wrote"):
        fetch(result.checkpoint, ("samples.npz",), digest=result.digest)


def test_what_is_collected_leaves_its_description_and_says_so(store, place, monkeypatch, tmp_path):
    train(place)
    first = place / "rung-00-000000064"
    wanted = {"rung-00-000000064": frozenset(FILES) - {"checkpoint.json"}}
    (files, size) = removable(place, wanted)["rung-00-000000064"]
    assert files == wanted["rung-00-000000064"] and size > 0
    collect(first, files)
    assert removable(place, wanted) == {}
    assert {k for k in keys_below(store, place) if k.startswith("rung-00")} == {"rung-00-000000064/checkpoint.json"}
    with pytest.raises(CollectedCheckpointError, match=r"rung-00-000000064 was collected: model.safetensors and"):
        read_checkpoint(first)
    assert newest_checkpoint(place).images_seen == 128
    collect(first, files)  # once more is nothing


# -- refusals, before anything is computed


def test_a_store_that_can_be_written_to_is_left_as_it_was(store):
    before = store.keys()
    check_store(locate(f"{store.url}/study"))
    assert store.keys() == before


def test_a_missing_bucket_is_one_sentence(store):
    with pytest.raises(StorageRefusedError, match=r"checkpoints=s3://nobody/x cannot .*there is no bucket s3://nobody"):
        check_store(locate("s3://nobody/x"), "checkpoints=")


def test_wrong_credentials_are_one_sentence_that_does_not_hold_them(store):
    store.denied = True
    try:
        with pytest.raises(StorageRefusedError, match=r"s3://bucket refuses \(access_?.?denied\); look at its") as told:
            check_store(locate(store.url), "checkpoints=")
    finally:
        store.denied = False
    assert not any(CREDENTIALS[key] in str(told.value) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))


def test_a_store_that_is_not_there_is_one_sentence(store):
    with pytest.raises(StorageRefusedError, match=r"s3://bucket does not answer \(network connection\)"):
        check_store(locate("s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http"))


# -- another of pyarrow's file systems


def test_the_same_over_a_file_system_with_folders(tmp_path, monkeypatch):
    from pyarrow import fs

    from ambient_ray.storage import filesystems

    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(filesystems, "_other", lambda scheme, authority, query: (mock, authority))
    mock = fs._MockFileSystem()
    place = locate("mock://anywhere/study/0000-uid")
    outcome, _ = train(place)
    assert [c.name for c in children(place)] == ["rung-00-000000064", "rung-01-000000128"]
    forget(monkeypatch, tmp_path)
    checkpoint = read_checkpoint(outcome.results[-1].checkpoint)
    assert checkpoint.images_seen == 128
    with np.load(checkpoint.folder / "samples.npz", allow_pickle=False) as kept:
        assert kept["samples"].shape == (6, 6, 6, 1)
