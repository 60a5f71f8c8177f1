"""`ambient-generate`: images to a folder or a grid, and one sentence for whatever is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ambient_ray.diffusion import build_backbone
from ambient_ray.generate import main
from ambient_ray.tracking import load_model
from ambient_ray.tracking.models.bundle import write_generator


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    config = {
        "_target_": "ambient_ray.diffusion.backbones.UNet",
        "block_out_channels": [8],
        "layers_per_block": 1,
        "norm_groups": 2,
    }
    image = {"channels": 1, "resolution": 8, "num_classes": 2}
    torch.manual_seed(0)
    backbone = build_backbone(config, **image)
    save_file(backbone.state_dict(), folder / "model.safetensors")
    stored = {
        "backbone": config,
        "sigma_data": 0.5,
        "image": image,
        "images_seen": 1,
        "sampler": {"steps": 2},
    }
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    return folder


def test_images_and_a_grid(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, grid = tmp_path / "new" / "images", tmp_path / "grid.png"
    arguments = [
        str(checkpoint),
        "--n",
        "5",
        "--seed",
        "3",
        "--label",
        "1",
        "--to",
        str(to),
        "--grid",
        str(grid),
    ]
    assert main(arguments) == 0
    assert sorted(path.name for path in to.iterdir()) == [f"{k:06d}.png" for k in range(5)]
    wanted = load_model(checkpoint).sample(5, seed=3, labels=1)
    for k in range(5):
        np.testing.assert_array_equal(np.asarray(Image.open(to / f"{k:06d}.png")), wanted[k, :, :, 0])
    assert Image.open(grid).size[0] > 100
    assert str(to) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--to FOLDER"),
        (["--n", "0", "--to", "{tmp}/x"], "--n must be at least 1, got 0"),
        (["--grid", "{tmp}/grid.jpg"], ".png"),
        (["--to", "{tmp}/file/x"], "cannot be written to"),
        (["--to", "{tmp}/x", "--label", "7"], "labels must lie in 0..1, got 7..7"),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments: list[str], told: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(checkpoint), *(part.format(tmp=tmp_path) for part in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1


def test_an_unknown_model_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "--to", str(tmp_path)]) == 2
    assert main(["models:/faces@champion", "--to", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/no.db"]) == 2
    assert "there is no MLflow database" in capsys.readouterr().err
    assert not (tmp_path / "no.db").exists()


def test_a_changed_model_is_told(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_generator(checkpoint, tmp_path / "model")
    assert main([str(model), "--n", "1", "--to", str(tmp_path / "images")]) == 0
    (model / "network" / "config.json").write_text("{}")
    capsys.readouterr()
    assert main([str(model), "--n", "1", "--to", str(tmp_path / "images")]) == 2
    error = capsys.readouterr().err
    assert "network/config.json was changed after the model was registered" in error and error.count("\n") == 1


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, ambient_ray.generate as g\n"
    code += "try: g.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
    code += "assert not {'torch', 'mlflow', 'numpy'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "models:/NAME@champion" in done.stdout
