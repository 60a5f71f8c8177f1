"""Registered models' folders: garbled hashes, index and configuration, weights that lie, names that lead elsewhere."""

import json
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.generate import GenerateError
from ambient_ray.tracking.models.bundle import write_generator
from ambient_ray.tracking.models.integrity import verify_model
from ambient_ray.tracking.models.model import load_model
from ambient_ray.tracking.models.standalone.load import HASHES, INDEX, WEIGHTS, record

from .harness import Kind
from .mutations import as_json, document_edits, edited, edits, mutate

CONFIG = "network/config.json"
made: dict[str, bytes] = {}
images: list[np.ndarray] = []


@dataclass(frozen=True)
class Damage:
    """What is done: to which file, and whether the hashes are written again by whoever did it."""

    file: str
    document: tuple
    edits: tuple
    rehashed: bool
    hashes: tuple
    missing: str

    @property
    def whole(self) -> bool:
        return not (self.document or self.edits or self.hashes or self.missing)


@st.composite
def damages(draw) -> Damage:
    file = draw(st.sampled_from([INDEX, CONFIG, WEIGHTS]))
    return Damage(
        file, tuple(draw(document_edits)), tuple(draw(edits)) if draw(st.integers(0, 3)) == 0 else (),
        draw(st.integers(0, 3)) > 0, tuple(draw(document_edits)) if draw(st.integers(0, 3)) == 0 else (),
        draw(st.sampled_from(["", "", "", "", "", "", INDEX, CONFIG, WEIGHTS, HASHES])),
    )  # fmt: skip


def prepare(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from ambient_ray.diffusion import build_backbone

    backbone = {"_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [32], "layers_per_block": 1}
    image = {"channels": 1, "resolution": 8, "num_classes": None}
    torch.manual_seed(0)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    save_file(build_backbone(backbone, **image).state_dict(), checkpoint / "model.safetensors")
    description = {
        "backbone": backbone, "image": image, "sigma_data": 0.5, "images_seen": 64, "scores": {"f_mem": 0.1},
        "sampler": {"steps": 2, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}, "facts": {"n_train": 9},
    }  # fmt: skip
    (checkpoint / "checkpoint.json").write_text(json.dumps(description))
    model = write_generator(checkpoint, folder / "model")
    made.update({path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()})
    images.append(load_model(model, device="cpu").sample(1))


def write(case: Damage, folder: Path) -> None:
    model = folder / "model"
    for name, data in made.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(data)
    data = made[case.file]
    if case.file == WEIGHTS:
        length = struct.unpack("<Q", data[:8])[0]
        text = as_json(edited(json.loads(data[8 : 8 + length]), case.document))
        data = struct.pack("<Q", len(text)) + text + data[8 + length :]
    else:
        data = as_json(edited(json.loads(data), case.document))
    (model / case.file).write_bytes(mutate(data, case.edits) if not case.whole else made[case.file])
    if case.missing and case.missing != HASHES:
        (model / case.missing).unlink()
    if case.rehashed:
        record(model)
    (model / HASHES).write_bytes(as_json(edited(json.loads((model / HASHES).read_text()), case.hashes)))
    if case.missing == HASHES:
        (model / HASHES).unlink()
    shutil.rmtree(folder / "cache", ignore_errors=True)
    os.makedirs(folder / "cache")


def read(case: Damage, folder: Path):
    verify_model(folder / "model")
    model = load_model(folder / "model", device="cpu")
    try:
        return model.sample(1)
    except ValueError as error:  # weights that lead to no pixels; `ambient-generate` and the audit tell it so, too
        raise GenerateError(f"{folder / 'model'}: {error}") from error


def verify(case: Damage, folder: Path, found: np.ndarray) -> None:
    assert found.dtype == np.uint8 and found.ndim == 4
    if case.whole:
        assert np.array_equal(found, images[0])
    elif not case.rehashed:  # what was not signed again runs only where nothing that it runs from was changed
        changed = json.loads(made[HASHES])
        assert (not case.edits and not case.document) or case.hashes, changed


KIND = Kind(
    "models", damages(), write, read, verify, lambda case, folder: (str(folder / "model"),), lambda case: case.whole,
    memory=256 * 2**20, prepare=prepare,
)  # fmt: skip
