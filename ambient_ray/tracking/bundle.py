"""From a checkpoint to a folder that loads anywhere: weights, configuration, a copy of the code."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import WEIGHTS, read_checkpoint

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

STANDALONE = Path(__file__).parent / "standalone"
DIFFUSION = Path(__file__).parents[1] / "diffusion"
# Together these import nothing but each other, torch, numpy, diffusers and safetensors (held by a test).
COPIED = (
    STANDALONE / "generator.py",
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
    """Write the standalone generator of `checkpoint` into `folder` (created), and return it.

    It holds model.safetensors, config.json, load.py and code/. scores, facts: what the model carries as its
    own; by default the checkpoint's. Raises CheckpointUnreadableError.
    """
    stored = read_checkpoint(checkpoint)
    (folder / "code").mkdir(parents=True)
    shutil.copyfile(checkpoint / WEIGHTS, folder / WEIGHTS)
    shutil.copyfile(STANDALONE / "load.py", folder / "load.py")
    for file in COPIED:
        shutil.copyfile(file, folder / "code" / file.name)
    (folder / "code" / "__init__.py").write_text(
        f'"""Copied verbatim from ambient_ray {_version("ambient-ray")} (Apache-2.0)."""\n', encoding="utf-8"
    )
    config = {
        "backbone": dict(stored.backbone),
        "sigma_data": stored.sigma_data,
        "image": dict(stored.image),
        "images_seen": stored.images_seen,
        "sampler": dict(stored.sampler),
        "scores": dict(stored.scores if scores is None else scores),
        "facts": dict(stored.facts if facts is None else facts),
        "weights_sha256": weights_hash(checkpoint),
        "ambient_ray": _version("ambient-ray"),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def write_mlflow_model(generator: Path, folder: Path) -> Path:
    """Write the MLflow model (a pyfunc, models-from-code) around a folder of `write_generator`; return it."""
    import mlflow.pyfunc
    import pandas as pd

    config = json.loads((generator / "config.json").read_text(encoding="utf-8"))
    columns = {"seed": [0, 0]}
    if config["image"]["num_classes"] is not None:
        columns["label"] = [0, 1]
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(STANDALONE / "pyfunc_model.py"),
        artifacts={"generator": str(generator)},
        pip_requirements=[f"{name}=={_version(name)}" for name in _REQUIRED],
        signature=_signature(config["image"]),
        input_example=pd.DataFrame(columns, dtype="int64"),
    )
    return folder


def weights_hash(checkpoint: Path) -> str:
    """SHA-256, in hex, of the checkpoint's weights: what makes two registered models the same."""
    with (checkpoint / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
