"""A model's folder is a diffusers pipeline: the images of `load_model`, from a stock network."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, DiTTransformer2DModel, UNet2DModel
from safetensors.torch import load_file, save_file

from ambient_ray.diffusion import backbones, build_backbone
from ambient_ray.tracking import load_model
from ambient_ray.tracking.models import bundle
from ambient_ray.tracking.models.bundle import COPIED, write_generator, write_mlflow_model

WriteCheckpoint = Callable[..., Path]

BACKBONES = {
    "UNet": {"block_out_channels": [8, 16], "layers_per_block": 1, "attention": [4], "attention_head_dim": 8},
    "DiT": {"patch_size": 4, "layers": 1, "heads": 2, "head_dim": 8},
    "one token": {"_target_": "DiT", "patch_size": 8, "layers": 2, "heads": 2, "head_dim": 8, "time_scale": 100.0},
}


@pytest.fixture(scope="module", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """diffusers copies a pipeline's code to a folder: a new one for these tests."""
    from diffusers.utils import dynamic_modules_utils

    folder = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(folder))
        patched.setattr(sys, "path", [*sys.path])
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "diffusers_modules"]:
        del sys.modules[name]


def from_pretrained(folder: Path, **options: Any) -> Any:
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **options)


def trained(write_checkpoint: WriteCheckpoint, kind: str, channels: int, num_classes: int | None) -> Path:
    """A checkpoint of a shipped backbone."""
    backbone = {"_target_": kind} | BACKBONES[kind]
    backbone["_target_"] = f"ambient_ray.diffusion.backbones.{backbone['_target_']}"
    image = {"channels": channels, "resolution": 8, "num_classes": num_classes}
    folder = write_checkpoint(kind.replace(" ", "_"), backbone=backbone, image=image)
    torch.manual_seed(0)
    module = build_backbone(backbone, **image)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    save_file(module.state_dict(), folder / "model.safetensors")
    return folder


def test_all_shipped_backbones_are_tried_here() -> None:
    shipped = {name for name, found in vars(backbones).items() if hasattr(found, "made_of")}
    networks = {
        name
        for name, found in vars(backbones).items()
        if isinstance(found, type) and issubclass(found, torch.nn.Module) and found.__module__ == backbones.__name__
    }
    assert shipped == networks == {str(sizes.get("_target_", kind)) for kind, sizes in BACKBONES.items()}


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("kind", BACKBONES)
def test_a_pipelines_images_are_load_models(
    kind: str, num_classes: int | None, write_checkpoint: WriteCheckpoint, tmp_path: Path
) -> None:
    channels = 1 if num_classes is None else 3
    folder = write_mlflow_model(
        write_generator(trained(write_checkpoint, kind, channels, num_classes), tmp_path / "g"), tmp_path / "model"
    )
    wanted = load_model(folder, device="cpu").sample(17, seed=5)
    assert wanted.std() > 10
    pipe = from_pretrained(folder)
    pictures = pipe(batch_size=17, seed=5).images
    np.testing.assert_array_equal([np.atleast_3d(np.asarray(picture)) for picture in pictures], wanted)
    floats = pipe(batch_size=2, seed=5, output_type="np").images
    assert floats.dtype == np.float32
    np.testing.assert_array_equal((floats * 255).round(), wanted[:2])
    # The network is diffusers' own: its class, its file, with no code of ours; and as the one that was trained.
    network = {"UNet": UNet2DModel}.get(kind, DiTTransformer2DModel).from_pretrained(folder, subfolder="network")
    config = json.loads((folder / "model_index.json").read_text())["ambient"]
    trained_one = build_backbone(config["backbone"], **config["image"]).net
    settings = [
        json.loads(json.dumps({key: value for key, value in net.config.items() if key[0] != "_"}))
        for net in (network, trained_one)
    ]
    assert settings[0] == settings[1] and network.state_dict().keys() == trained_one.state_dict().keys()


def test_classes_steps_and_generators(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_generator(write_checkpoint(num_classes=3), tmp_path / "model")
    pipe, model = from_pretrained(folder), load_model(folder, device="cpu")

    def drawn(**arguments: Any) -> Any:
        return np.rint(pipe(output_type="np", **arguments).images * 255)

    np.testing.assert_array_equal(drawn(batch_size=4, seed=1, class_labels=2), model.sample(4, 1, labels=2))
    labels = torch.tensor([2, 0, 1])
    np.testing.assert_array_equal(
        drawn(batch_size=3, seed=1, class_labels=labels), model.sample(3, 1, labels=[2, 0, 1])
    )
    seeded = [drawn(batch_size=3, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    np.testing.assert_array_equal(*seeded)
    one_each = [torch.Generator().manual_seed(7 + k) for k in range(3)]
    np.testing.assert_array_equal(
        drawn(batch_size=3, generator=one_each)[:1], drawn(generator=one_each[0].manual_seed(7))
    )
    assert not np.array_equal(drawn(batch_size=3), drawn(batch_size=3))  # no seed at all: torch's global generator
    assert not np.array_equal(drawn(seed=1, num_inference_steps=9), drawn(seed=1))
    np.testing.assert_array_equal(drawn(seed=1, num_inference_steps=3), drawn(seed=1))  # what its checkpoint says
    assert pipe(batch_size=2, seed=1, return_dict=False)[0][0].size == (8, 8)
    for wrong, told in (
        ({"class_labels": 3}, r"0\.\.2"),
        ({"class_labels": [0, 1]}, r"or 1 as batch_size is, got shape \(2,\)"),
        ({"output_type": "latent"}, "'pil' or 'np'"),
        ({"seed": 1, "generator": torch.Generator()}, "not both"),
    ):
        with pytest.raises(ValueError, match=told):
            pipe(**wrong)


def test_versions_with_other_code_do_not_get_each_others(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules_cache: Path
) -> None:
    new = write_generator(write_checkpoint("b"), tmp_path / "new")
    other = tmp_path / "samplers.py"
    text = next(file for file in COPIED if file.name == other.name).read_text()
    other.write_text(text.replace("x = latents * levels[0]", "x = 0 * latents"))  # all of its images are alike
    with monkeypatch.context() as patched:
        patched.setattr(bundle, "COPIED", tuple(other if file.name == other.name else file for file in COPIED))
        old = write_generator(write_checkpoint("a"), tmp_path / "old")
    pipes = [from_pretrained(folder) for folder in (new, old, new, old)]
    for pipe, alike in zip(pipes, (False, True, False, True), strict=True):
        images = pipe(batch_size=3, seed=0, output_type="np").images
        assert (images == images[:1]).all() == alike
    assert len(list(modules_cache.rglob("pipeline_*.py"))) == 2  # diffusers' copies, one each


@pytest.mark.parametrize("own", [False, True])
def test_a_pipeline_is_saved_and_loaded_again(
    own: bool, write_checkpoint: WriteCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint()
    if own:
        (tmp_path / "nets_of_mine.py").write_text("from ambient_ray.diffusion import UNet\n\n\nclass Mine(UNet): ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        stored = json.loads((checkpoint / "checkpoint.json").read_text())
        stored["backbone"]["_target_"] = "nets_of_mine.Mine"
        (checkpoint / "checkpoint.json").write_text(json.dumps(stored))
    folder = write_generator(checkpoint, tmp_path / "model")
    wanted = load_model(folder, device="cpu").sample(3, seed=2)
    from_pretrained(folder).to("cpu").save_pretrained(tmp_path / "saved")
    for found in (tmp_path / "saved", folder):
        images = from_pretrained(found, torch_dtype=torch.float32)(batch_size=3, seed=2, output_type="np").images
        np.testing.assert_array_equal(np.rint(images * 255), wanted)
        np.testing.assert_array_equal(load_model(found, device="cpu").sample(3, seed=2), wanted)
    names = [{path.relative_to(at).as_posix() for path in at.rglob("*")} for at in (folder, tmp_path / "saved")]
    assert names[0] == names[1]
    with pytest.raises(ValueError, match="safetensors"):
        from_pretrained(folder).save_pretrained(tmp_path / "unsafe", safe_serialization=False)


def test_half_precision(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_generator(write_checkpoint(), tmp_path / "model")
    pipe = from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert pipe.network.dtype == torch.bfloat16
    images = pipe(batch_size=4, seed=0, output_type="np").images
    whole = from_pretrained(folder)(batch_size=4, seed=0, output_type="np").images
    assert 0 < np.abs(images - whole).mean() < 0.02
    pipe.save_pretrained(tmp_path / "half")
    stored = load_file(tmp_path / "half" / "network" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}


def test_a_network_of_ones_own_that_is_not_here(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = json.loads((write_checkpoint() / "checkpoint.json").read_text())["backbone"]
    folder = write_generator(write_checkpoint("own", backbone=own | {"_target_": "never.Installed"}), tmp_path / "m")
    with pytest.raises(ImportError, match=r"never\.Installed.*install the package that holds never"):
        from_pretrained(folder)


def test_images_that_are_no_pictures(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_generator(trained(write_checkpoint, "DiT", 2, None), tmp_path / "model")
    pipe = from_pretrained(folder)
    with pytest.raises(ValueError, match="2 channels are no pictures: ask for output_type='np'"):
        pipe(seed=0)
    assert pipe(seed=0, output_type="np").images.shape == (1, 8, 8, 2)


def test_diffusers_says_that_code_comes_with_the_model(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_generator(write_checkpoint(), tmp_path / "model")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(folder)


def test_a_picture_can_be_written(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    pipe = from_pretrained(write_generator(write_checkpoint(), tmp_path / "model"))
    file = io.BytesIO()
    pipe(seed=0).images[0].save(file, "PNG")
    assert file.getvalue().startswith(b"\x89PNG")
