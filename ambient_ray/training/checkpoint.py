"""Checkpoints: a folder of safetensors, JSON and npz that appears complete or not at all. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ambient_ray.errors import UserError

from .meter import Sums
from .settings import FREE_ON_RESUME, TrainSettings, TrainSettingsError
from .state import TrainState
from .trial import RungResult, checkpoint_name

FORMAT = 1
MODEL, TRAIN_STATE, SAMPLES, DESCRIPTION = (
    "model.safetensors",
    "train_state.safetensors",
    "samples.npz",
    "checkpoint.json",
)


class DamagedCheckpointError(UserError):
    """A checkpoint lacks a file or key, or a file is not what was written."""


class CheckpointMismatchError(UserError):
    """A checkpoint belongs to other settings or other images than the trial that should continue it."""


@dataclass(frozen=True)
class Pause:
    """What a run between two rungs holds besides its weights: the meter, and the seconds since the last rung."""

    meter: Sums
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's JSON says: settings, progress, the image facts, and every rung's result so far.

    rung: the last one that was scored, -1 before the first. pause: of one that was written between rungs, else None.
    """

    folder: Path
    settings: TrainSettings
    images_seen: int
    rung: int
    sigma_data: float
    content_hash: str
    history: tuple[RungResult, ...]
    pause: Pause | None = None


def save_checkpoint(
    folder: Path,
    state: TrainState,
    history: tuple[RungResult, ...],
    *,
    content_hash: str,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    pause: Pause | None = None,
) -> Path:
    """Write a checkpoint for the rung of history[-1], or between rungs (`pause`), and return its folder.

    It is written beside its place, synced, and renamed, so a kill at any moment leaves either none or a whole
    one. arrays: the samples (`samples`, uint8 [n,H,W,C]) and what belongs to them, for samples.npz; between
    rungs there are none.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed while writing
    partial.mkdir()
    # As bytes: safetensors' own writer makes files that only their owner may read.
    (partial / MODEL).write_bytes(save(_clone(state.ema.model.backbone.state_dict())))
    (partial / TRAIN_STATE).write_bytes(save(_train_tensors(state)))
    if arrays is not None:
        with (partial / SAMPLES).open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))
    files = {path.name: _fingerprint(path) for path in sorted(partial.iterdir())}
    description = _describe(state, history, content_hash) | {"files": files}
    if pause is not None:
        description["pause"] = {"sums": pause.meter.ranks, "steps": pause.meter.steps, "seconds": pause.seconds}
    (partial / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if folder.exists():  # the same rung, trained again after a checkpoint was given up
        shutil.rmtree(folder)
    partial.rename(folder)
    _sync(folder.parent)
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint, every file's size and hash. Raises DamagedCheckpointError."""
    path = folder / DESCRIPTION
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{folder} is no complete checkpoint: it has no {DESCRIPTION}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is not JSON ({error}); use an older checkpoint") from error
    try:
        own = {MODEL, TRAIN_STATE} if "pause" in stored else {MODEL, TRAIN_STATE, SAMPLES}
        if set(stored["files"]) != own:
            raise DamagedCheckpointError(f"{path} names other files than {', '.join(sorted(own))}")
        for name, expected in stored["files"].items():
            _verify(folder / name, expected)
        if stored["format"] != FORMAT:
            raise DamagedCheckpointError(
                f"{path} has format {stored['format']!r:.60}, this version reads format {FORMAT}"
            )
        kept = stored.get("pause")
        pause = None if kept is None else Pause(_sums(kept), float(kept["seconds"]))
        history = [RungResult.from_dict(entry) for entry in stored["history"]]
        if history or pause is None:  # a rung's is this folder itself, the one before a pause lies beside it
            last = history.pop()
            place = folder if pause is None else folder.parent / checkpoint_name(last.rung, last.images_seen)
            history.append(replace(last, checkpoint=place))
        return Checkpoint(
            folder=folder,
            settings=TrainSettings.from_dict(stored["settings"]),
            images_seen=int(stored["images_seen"]),
            rung=int(stored["rung"]),
            sigma_data=float(stored["sigma_data"]),
            content_hash=str(stored["content_hash"]),
            history=tuple(history),
            pause=pause,
        )
    except TrainSettingsError as error:
        raise DamagedCheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise DamagedCheckpointError(f"{path} lacks or garbles a key ({str(error)!r:.200})") from error


@torch.no_grad()
def restore(state: TrainState, checkpoint: Checkpoint) -> None:
    """Bring a fresh state to where the checkpoint was written. Raises DamagedCheckpointError."""
    device = str(state.world.device)
    model = _load(checkpoint.folder / MODEL, device)
    train = _load(checkpoint.folder / TRAIN_STATE, device)
    weights = {name.removeprefix("weights."): t for name, t in train.items() if name.startswith("weights.")}
    try:
        state.ema.model.backbone.load_state_dict(model)
        state.model.backbone.load_state_dict(weights)
        moments = {
            number: {
                "step": train["step"].clone(),  # one each: the optimizer counts them up in place
                "exp_avg": _laid_out_as(parameter, train[f"exp_avg.{name}"]),
                "exp_avg_sq": _laid_out_as(parameter, train[f"exp_avg_sq.{name}"]),
            }
            for number, (name, parameter) in enumerate(_trained(state))
        }
    except (KeyError, RuntimeError) as error:
        raise DamagedCheckpointError(
            f"{checkpoint.folder} does not fit its own network: {' '.join(str(error).split()):.300}"
        ) from error
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state.images_seen = checkpoint.images_seen


def check_continues(checkpoint: Checkpoint, settings: TrainSettings, content_hash: str) -> None:
    """Refuse, with a CheckpointMismatchError naming the key, a checkpoint of another training run."""
    before, now = checkpoint.settings.to_dict(), settings.to_dict()
    for key in before:
        if key not in FREE_ON_RESUME and before[key] != now[key]:
            raise CheckpointMismatchError(
                f"{checkpoint.folder} was trained with {key} = {before[key]!r}, this trial has {now[key]!r}"
            )
    if checkpoint.content_hash != content_hash:
        raise CheckpointMismatchError(f"{checkpoint.folder} was trained on other images than this trial's")
    rung, rungs = checkpoint.rung, settings.rungs
    if checkpoint.pause is not None and rungs[rung + 1 : rung + 2] != checkpoint.settings.rungs[rung + 1 : rung + 2]:
        raise CheckpointMismatchError(
            f"{checkpoint.folder} was on the way to rung {rung + 1} of {list(checkpoint.settings.rungs)}, which this "
            f"trial's rungs {list(rungs)} do not have"
        )
    if rung >= len(rungs) or rungs[: rung + 1] != checkpoint.settings.rungs[: rung + 1]:
        raise CheckpointMismatchError(
            f"{checkpoint.folder} stands at rung {rung} of {list(checkpoint.settings.rungs)}, which "
            f"this trial's rungs {list(rungs)} do not begin with"
        )


def _describe(state: TrainState, history: tuple[RungResult, ...], content_hash: str) -> dict[str, Any]:
    last = history[-1] if history else RungResult(-1, 0, {}, {}, None, 0.0)
    return {
        "format": FORMAT,
        "settings": state.settings.to_dict(),
        "backbone": state.settings.to_dict()["backbone"],
        "image": state.image,
        "sigma_data": state.sigma_data,
        "sampler": {
            "steps": state.settings.sample_steps,
            "sigma_min": 0.002,
            "sigma_max": 80.0,
            "rho": state.settings.sample_rho,
        },
        "content_hash": content_hash,
        "images_seen": state.images_seen,
        "rung": last.rung,
        "scores": dict(last.scores),
        "facts": dict(last.facts),
        "history": [result.to_dict() for result in history],
        "versions": {
            "ambient_ray": metadata.version("ambient-ray"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _sums(kept: Mapping[str, Any]) -> Sums:
    return Sums(tuple((float(loss), float(norm)) for loss, norm in kept["sums"]), int(kept["steps"]))


def _train_tensors(state: TrainState) -> dict[str, Tensor]:
    tensors = {f"weights.{k}": v for k, v in _clone(state.model.backbone.state_dict()).items()}
    moments = state.optimizer.state_dict()["state"]
    for number, (name, _) in enumerate(_trained(state)):
        for part in ("exp_avg", "exp_avg_sq"):
            tensors[f"{part}.{name}"] = moments[number][part].contiguous()
    tensors["step"] = moments[0]["step"].clone()
    return tensors


def _trained(state: TrainState) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in state.model.backbone.named_parameters() if p.requires_grad]


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    # The fused optimizer walks through memory: a moment must have its parameter's strides (channels_last).
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(moment)


def _clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory (tied weights) and such that are not contiguous.
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _load(path: Path, device: str) -> dict[str, Tensor]:
    try:
        return load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{path} cannot be read ({error}); use an older checkpoint") from error


def _fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _verify(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise DamagedCheckpointError(f"{path} is missing; use an older checkpoint")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise DamagedCheckpointError(
            f"{path} has {size} bytes, {expected['bytes']!r:.60} were written; use an older checkpoint"
        )
    if _fingerprint(path)["sha256"] != expected["sha256"]:
        raise DamagedCheckpointError(f"{path} is not what was written (another SHA-256); use an older checkpoint")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
