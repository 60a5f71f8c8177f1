import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.training import (
    CheckpointMismatchError,
    DamagedCheckpointError,
    TrainingData,
    World,
    read_checkpoint,
    run_trial,
)
from ambient_ray.training.checkpoint import restore, save_checkpoint
from ambient_ray.training.state import TrainState

FILES = {"model.safetensors", "train_state.safetensors", "samples.npz", "checkpoint.json"}


@pytest.fixture
def trained(tmp_path):
    recorder = world.Recorder()
    outcome = run_trial(
        world.settings(rungs=(64, 128)), world.data(), World(), recorder, workdir=tmp_path, score=world.score
    )
    return outcome, tmp_path


def test_a_checkpoint_is_complete_and_free_of_pickle(trained):
    outcome, folder = trained
    newest = outcome.results[-1].checkpoint
    assert sorted(path.name for path in folder.iterdir()) == ["rung-00-000000064", "rung-01-000000128"]
    assert {path.name for path in newest.iterdir()} == FILES
    for path in newest.iterdir():
        content = path.read_bytes()
        # A pickle starts with its protocol; zip members of torch.save are named data.pkl.
        assert content[:1] != b"\x80"
        assert b"data.pkl" not in content
        assert path.stat().st_mode & 0o044, "readable by other users of the store"
    with np.load(newest / "samples.npz", allow_pickle=False) as kept:
        assert kept["samples"].shape == (6, 6, 6, 1)
        assert kept["samples"].dtype == np.uint8


def test_the_description_carries_what_the_model_and_the_search_need(trained):
    outcome, _ = trained
    stored = json.loads((outcome.results[-1].checkpoint / "checkpoint.json").read_text())
    assert stored["backbone"] == world.TINY
    assert stored["image"] == {"channels": 1, "resolution": 6, "num_classes": None}
    assert stored["sigma_data"] == 0.5
    assert stored["images_seen"] == 128
    assert stored["sampler"]["steps"] == 3
    assert [entry["images_seen"] for entry in stored["history"]] == [64, 128]
    assert stored["scores"] == stored["history"][-1]["scores"]
    assert stored["facts"] == {"n": 6}
    assert stored["versions"]["torch"] == torch.__version__


def test_reading_gives_back_settings_and_results(trained):
    outcome, _ = trained
    checkpoint = read_checkpoint(outcome.results[-1].checkpoint)
    assert checkpoint.settings == world.settings(rungs=(64, 128))
    assert checkpoint.rung == 1
    assert [r.scores for r in checkpoint.history] == [r.scores for r in outcome.results]
    assert checkpoint.history[-1].checkpoint == outcome.results[-1].checkpoint


def test_model_safetensors_is_the_averaged_backbone(trained):
    outcome, _ = trained
    folder = outcome.results[-1].checkpoint
    net = world.TinyNet(1, 6, None)
    net.load_state_dict(load_file(folder / "model.safetensors"))
    live = load_file(folder / "train_state.safetensors")
    assert not torch.equal(net.out.weight, live["weights.out.weight"])


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "flipped"])
def test_damage_is_found_and_the_file_named(trained, name, damage):
    folder = trained[0].results[-1].checkpoint
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        if name == "checkpoint.json":
            pytest.skip("a changed JSON that still parses is an edit")
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(DamagedCheckpointError, match=name):
        read_checkpoint(folder)


def test_a_garbled_key_is_named(trained):
    path = trained[0].results[-1].checkpoint / "checkpoint.json"
    stored = json.loads(path.read_text())
    del stored["images_seen"]
    path.write_text(json.dumps(stored))
    with pytest.raises(DamagedCheckpointError, match="images_seen"):
        read_checkpoint(path.parent)


def test_a_kill_while_writing_leaves_no_half_checkpoint(trained, monkeypatch):
    outcome, folder = trained
    checkpoint = read_checkpoint(outcome.results[-1].checkpoint)
    state = TrainState(checkpoint.settings, world.data(), World())
    restore(state, checkpoint)
    target = folder / "rung-02-000000192"

    def write():
        return save_checkpoint(target, state, checkpoint.history, content_hash="x", arrays={"samples": np.zeros(1)})

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write()
    assert not target.exists()
    write()
    assert {path.name for path in target.iterdir()} == FILES
    write()  # and once more over the finished one
    assert not list(folder.glob(".*partial"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 1.0}, "was trained with lr = 0.003, this trial has 1.0"),
        ({"sigma_tn": 1.0}, "sigma_tn = 0.5, this trial has 1.0"),
        ({"rungs": (64, 256)}, r"stands at rung 1 of \[64, 128\]"),
        ({"rungs": (128,)}, "stands at rung 1"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(trained, tmp_path, changes, message):
    outcome, _ = trained
    with pytest.raises(CheckpointMismatchError, match=message):
        run_trial(
            world.settings(**{"rungs": (64, 128)} | changes),
            world.data(),
            World(),
            world.Recorder(),
            workdir=tmp_path,
            resume=outcome.results[-1].checkpoint,
            score=world.score,
        )


def test_other_images_are_refused(trained, tmp_path):
    outcome, _ = trained
    other = world.data(seed=5)
    with pytest.raises(CheckpointMismatchError, match="other images"):
        run_trial(
            world.settings(rungs=(64, 128)),
            TrainingData(other.train, other.heldout, other.noise_bank),
            World(),
            world.Recorder(),
            workdir=tmp_path,
            resume=outcome.results[-1].checkpoint,
            score=world.score,
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"../rung-00-000000064/model.safetensors": {}}}, "names the file .*, which no checkpoint has"),
        ({"files": None}, "lacks or garbles a key"),
        ({"images_seen": "many"}, "lacks or garbles a key"),
        ({"rung": float("inf")}, "lacks or garbles a key"),
        ({"settings": {"lr": 1}}, "checkpoint.json: the training setting backbone is missing"),
    ],
)
def test_a_garbled_description_is_damage_and_names_its_file(trained, changes, message):
    outcome, _ = trained
    newest = outcome.results[-1].checkpoint
    path = newest / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DamagedCheckpointError, match=message) as told:
        read_checkpoint(newest)
    assert str(newest) in str(told.value)
    path.write_text("[" * 100_000)
    with pytest.raises(DamagedCheckpointError, match="is not JSON"):
        read_checkpoint(newest)
