"""Checkpoints and models whose files are garbled, by whoever wrote their hashes too: one sentence with the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ambient_ray.tracking import ModelChangedError, ModelUnloadableError, load_model, verify_model
from ambient_ray.tracking.checkpoint import CheckpointUnreadableError, read_checkpoint, read_samples
from ambient_ray.tracking.models.bundle import write_generator
from ambient_ray.tracking.models.standalone.load import record

WriteCheckpoint = Callable[..., Path]


@pytest.mark.parametrize(
    "image", ["colour", None, {"channels": "x", "resolution": 8}, {"channels": [], "resolution": 8}]
)
def test_a_checkpoint_whose_description_has_other_kinds(write_checkpoint: WriteCheckpoint, image: object) -> None:
    folder = write_checkpoint(image=image)
    with pytest.raises(CheckpointUnreadableError, match=r"checkpoint\.json holds a value of another kind"):
        read_checkpoint(folder)
    (folder / "checkpoint.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointUnreadableError, match="cannot be read as JSON"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00\x02\x00{\n", b"\x93NUMPY", b"PK\x03\x04"])
def test_samples_that_are_no_archive(write_checkpoint: WriteCheckpoint, content: bytes) -> None:
    folder = write_checkpoint()
    (folder / "samples.npz").write_bytes(content)
    with pytest.raises(CheckpointUnreadableError, match=r"samples\.npz cannot be read"):
        read_samples(folder)


def test_hashes_of_another_form_and_of_files_elsewhere(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    model = write_generator(write_checkpoint(), tmp_path / "g")
    for hashes, fault in (
        ("[]", "no names with their hashes"),
        ("[" * 100_000, "cannot be read"),
        (json.dumps({"n" * 5000: "0"}), "n{200} is missing"),
        (json.dumps({"../checkpoint/checkpoint.json": "0"}), "checkpoint.json is missing"),
    ):
        (model / "hashes.json").write_text(hashes)
        with pytest.raises(ModelChangedError, match=fault):
            verify_model(model)


def test_weights_and_configuration_of_another_form_are_one_sentence(write_checkpoint, tmp_path: Path) -> None:
    model = write_generator(write_checkpoint(), tmp_path / "g")
    kept = {
        path: path.read_bytes()
        for path in (model / "network" / "diffusion_pytorch_model.safetensors", model / "model_index.json")
    }
    for path in kept:
        for content in (b"", b"\x08" + b"\0" * 7 + b'{"a": 1}', b"{}", b"[]", b'{"ambient": {"backbone": 3}}'):
            path.write_bytes(content)
            record(model)
            with pytest.raises(ModelUnloadableError, match="cannot be loaded") as told:
                load_model(model)
            assert str(model) in str(told.value) and "\n" not in str(told.value)
        path.write_bytes(kept[path])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("sampler", v) for v in (None, [], {"steps": 2.5}, {"steps": True}, {"sigma_min": -1.0}, {"sigma": 1.0})],
        *[("image", {"channels": 1, "resolution": 8, **v}) for v in ({}, {"num_classes": 0}, {"num_classes": "ten"})],
    ],
)
def test_a_configuration_that_is_none_is_refused_before_anything_is_sampled(
    write_checkpoint, tmp_path: Path, key, value
) -> None:
    model = write_generator(write_checkpoint(), tmp_path / "g")
    index = json.loads((model / "model_index.json").read_text())
    index["ambient"][key] = value
    (model / "model_index.json").write_text(json.dumps(index))
    record(model)
    with pytest.raises(ModelUnloadableError, match=f"{key} is none|cannot be loaded"):
        load_model(model)


UNET = {"_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [32], "layers_per_block": 1}


@pytest.mark.parametrize(
    ("backbone", "fault"),
    [
        (UNET | {"block_out_channels": [2_000_000]}, "it is larger"),
        (UNET | {"layers_per_block": 1_000_000_000}, "it is larger"),
        (UNET | {"block_out_channels": [16]}, r"is \(.*\) in the file, and \(.*\) in the network"),
        ({"_target_": "ambient_ray.diffusion.backbones.DiT", "layers": 1, "heads": 1}, "and .* in the network"),
        ({"_target_": "ambient_ray.diffusion.backbones.DiT", "layers": 1_000_000_000}, "it is larger"),
    ],
)
def test_a_network_that_its_weights_are_not_is_refused_before_it_is_allocated(
    write_checkpoint, tmp_path: Path, monkeypatch, backbone, fault
) -> None:
    import torch

    model = write_generator(write_checkpoint(), tmp_path / "g")
    index = json.loads((model / "model_index.json").read_text())
    index["ambient"]["backbone"] = backbone
    (model / "model_index.json").write_text(json.dumps(index))
    record(model)
    devices: set[str] = set()
    for layer in (torch.nn.Conv2d, torch.nn.Linear):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: devices.add(self.weight.device.type))
    with pytest.raises(ModelUnloadableError, match=fault):
        load_model(model)
    assert devices <= {"meta"}
