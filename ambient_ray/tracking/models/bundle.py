"""From a checkpoint to a folder that loads anywhere: a diffusers pipeline and an MLflow model in one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import WEIGHTS, CheckpointConfig, read_checkpoint
from .standalone.load import INDEX, OWN_PREFIX, code_digest, entry, entry_name, own_network_name, record
from .standalone.load import WEIGHTS as STORED_WEIGHTS

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

STANDALONE = Path(__file__).parent / "standalone"
DIFFUSION = Path(__file__).parents[2] / "diffusion"
# Together these import nothing but each other, torch, numpy, diffusers and safetensors (held by a test).
COPIED = (
    *(STANDALONE / name for name in ("generator.py", "load.py", "own_network.py", "pipeline.py")),
    *(DIFFUSION / name for name in ("backbones.py", "precond.py", "samplers.py")),
)
_REQUIRED = ("mlflow", "torch", "diffusers", "safetensors", "numpy", "pandas")


def write_generator(
    checkpoint: Path,
    folder: Path,
    *,
    scores: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write the generator of `checkpoint`, a diffusers pipeline, into `folder` (created), and return it.

    scores, facts: what the model carries as its own; by default the checkpoint's. The layout is told in
    standalone/load.py. Raises CheckpointUnreadableError.
    """
    stored = read_checkpoint(checkpoint)
    code = folder / f"code_{code_digest(COPIED)}"
    code.mkdir(parents=True)
    for file in COPIED:
        shutil.copyfile(file, code / file.name)
    (folder / entry_name(code)).write_text(entry(code), encoding="utf-8")
    index = {
        "_class_name": [Path(entry_name(code)).stem, "AmbientPipeline"],
        "_diffusers_version": _version("diffusers"),
        "ambient": {
            "backbone": dict(stored.backbone),
            "sigma_data": stored.sigma_data,
            "image": dict(stored.image),
            "images_seen": stored.images_seen,
            "sampler": dict(stored.sampler),
            "scores": dict(stored.scores if scores is None else scores),
            "facts": dict(stored.facts if facts is None else facts),
            "weights_sha256": weights_hash(checkpoint),
            "ambient_ray": _version("ambient-ray"),
        },
        "network": _write_network(checkpoint, stored, code, folder / "network"),
    }
    _write_json(index, folder / INDEX)
    record(folder)
    return folder


def _write_network(checkpoint: Path, stored: CheckpointConfig, code: Path, folder: Path) -> list[str]:
    """The network as diffusers stores one; returns the module and class that model_index.json names for it.

    No network is built: that would import diffusers, seconds at the end of a search.
    """
    from safetensors.torch import load_file, save_file

    from ambient_ray.diffusion import diffusers_network

    folder.mkdir()
    weights = load_file(checkpoint / WEIGHTS)
    image: Any = stored.image
    if found := diffusers_network(stored.backbone, **image):
        name, arguments = found
        weights = {key.removeprefix("net."): value for key, value in weights.items()}
        library = "diffusers"
    else:
        sizes = dict(stored.backbone)
        name, arguments = "OwnNetwork", {"target": sizes.pop("_target_"), **image, "sizes": sizes}
        weights = {OWN_PREFIX + key: value for key, value in weights.items()}
        shutil.copyfile(STANDALONE / "own_network.py", folder / own_network_name(code))
        library = Path(own_network_name(code)).stem
    _write_json({"_class_name": name, "_diffusers_version": _version("diffusers")} | arguments, folder / "config.json")
    save_file(weights, folder / Path(STORED_WEIGHTS).name, metadata={"format": "pt"})
    return [library, name]


def write_mlflow_model(generator: Path, folder: Path) -> Path:
    """Make an MLflow model (a pyfunc, models-from-code) of a folder of `write_generator`, moved to `folder`; return it.

    MLflow's files lie beside the pipeline's, so the one folder is both and holds the weights once.
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    config = json.loads((generator / INDEX).read_text(encoding="utf-8"))["ambient"]
    columns = {"seed": [0, 0]}
    if config["image"]["num_classes"] is not None:
        columns["label"] = [0, 1]
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(STANDALONE / "pyfunc_model.py"),
        pip_requirements=[f"{name}=={_version(name)}" for name in _REQUIRED],
        signature=_signature(config["image"]),
        input_example=pd.DataFrame(columns, dtype="int64"),
    )
    for path in generator.iterdir():
        shutil.move(path, folder / path.name)
    generator.rmdir()
    model = Model.load(str(folder))
    model.flavors[mlflow.pyfunc.FLAVOR_NAME]["model_code_path"] = "pyfunc_model.py"  # not where it lies on this machine
    model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    model.save(str(folder / "MLmodel"))
    record(folder)
    return folder


def weights_hash(checkpoint: Path) -> str:
    """SHA-256, in hex, of the checkpoint's weights: what makes two registered models the same."""
    with (checkpoint / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(values: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _signature(image: Mapping[str, int | None]) -> ModelSignature:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    inputs = [ColSpec(DataType.long, "seed")]
    if image["num_classes"] is not None:
        inputs.append(ColSpec(DataType.long, "label", required=False))
    pixels = (-1, image["resolution"], image["resolution"], image["channels"])
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([TensorSpec(np.dtype("uint8"), pixels)]))


def _version(package: str) -> str:
    """The installed version without its local part (`+cpu`), which no package index serves."""
    return metadata.version(package).partition("+")[0]
