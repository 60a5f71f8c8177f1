"""A checkpoint of a tiny network, as the training room writes it, and one MLflow store for all tests."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ambient_ray.diffusion import build_backbone
from ambient_ray.tracking import TrackingStore, resolve_store

UNET = {
    "_target_": "ambient_ray.diffusion.backbones.UNet",
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_groups": 2,
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingStore:
    """One SQLite store: its schema takes seconds, so tests share it and each uses a study of its own name."""
    return resolve_store(None, tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a checkpoint folder; its weights depend on `seed`."""

    def write(name: str = "checkpoint", seed: int = 0, num_classes: int | None = None, **changed: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        stored = {
            "backbone": UNET,
            "sigma_data": 0.5,
            "image": {"channels": 1, "resolution": 8, "num_classes": num_classes},
            "images_seen": 64_000,
            "sampler": {"steps": 3, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0},
            "scores": {"f_mem": 0.25},
            "facts": {"extractor": "pixels"},
        } | changed
        torch.manual_seed(seed)
        backbone = build_backbone(UNET, channels=1, resolution=8, num_classes=num_classes)
        for parameter in backbone.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)  # an untrained network ends in zeros: sample nothing
        save_file(backbone.state_dict(), folder / "model.safetensors")
        (folder / "checkpoint.json").write_text(json.dumps(stored))
        rng = np.random.default_rng(seed)
        np.savez(folder / "samples.npz", samples=rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8))
        return folder

    return write
