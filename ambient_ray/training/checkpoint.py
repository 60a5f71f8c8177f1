"""Checkpoints: a folder of safetensors, JSON and npz that appears complete or not at all. No pickle."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from ambient_ray.errors import UserError
from ambient_ray.storage import (
    DESCRIPTION,
    MODEL,
    SAMPLES,
    TRAIN_STATE,
    DamagedCheckpointError,
    Location,
    fetch,
    publish,
    read_description,
)
from ambient_ray.storage.description import fingerprint

from .meter import Sums
from .settings import FREE_ON_RESUME, TrainSettings, TrainSettingsError
from .state import TrainState
from .tensors import read_tensors
from .trial import RungResult, checkpoint_name

FORMAT = 1


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

    place: where it is; folder: the same on this machine. rung: the last one that was scored, -1 before the first.
    pause: of one that was written between rungs, else None.
    """

    place: Location
    folder: Path
    settings: TrainSettings
    images_seen: int
    rung: int
    sigma_data: float
    content_hash: str
    history: tuple[RungResult, ...]
    pause: Pause | None = None


def save_checkpoint(
    place: Location,
    state: TrainState,
    history: tuple[RungResult, ...],
    *,
    content_hash: str,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    pause: Pause | None = None,
) -> str:
    """Write a checkpoint for the rung of history[-1], or between rungs (`pause`): its description's SHA-256, in hex.

    It appears whole or not at all (`publish`). arrays: the samples (`samples`, uint8 [n,H,W,C]) and what belongs to
    them, for samples.npz; between rungs there are none. Raises OSError, after which it may be tried again.
    """

    def write(folder: Path) -> None:
        # As bytes: safetensors' own writer makes files that only their owner may read.
        (folder / MODEL).write_bytes(save(_clone(state.ema.model.backbone.state_dict())))
        (folder / TRAIN_STATE).write_bytes(save(_train_tensors(state)))
        if arrays is not None:
            with (folder / SAMPLES).open("wb") as file:
                np.savez(file, allow_pickle=False, **dict(arrays))
        files = {path.name: vars(fingerprint(path)) for path in sorted(folder.iterdir())}
        description = _describe(state, history, content_hash) | {"files": files}
        if pause is not None:
            description["pause"] = {"sums": pause.meter.ranks, "steps": pause.meter.steps, "seconds": pause.seconds}
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")

    return publish(place, write).digest


def read_checkpoint(place: Location) -> Checkpoint:
    """Read and verify a checkpoint, every file's size and hash.

    Raises:
        DamagedCheckpointError: it is not what was written; CollectedCheckpointError: or was deleted on purpose.
        OSError: the store that it is in does not answer.
    """
    folder = fetch(place, check=True)
    described = read_description(folder, place)
    stored, path = described.content, f"{place}/{DESCRIPTION}"
    try:
        if stored["format"] != FORMAT:
            raise DamagedCheckpointError(
                f"{path} has format {stored['format']!r:.60}, this version reads format {FORMAT}"
            )
        kept = stored.get("pause")
        pause = None if kept is None else Pause(_sums(kept), float(kept["seconds"]))
        history = [RungResult.from_dict(entry) for entry in stored["history"]]
        if history or pause is None:  # a rung's is this one itself, the one before a pause lies beside it
            last = history.pop()
            if pause is None:
                history.append(replace(last, checkpoint=place, digest=described.digest))
            else:
                history.append(replace(last, checkpoint=place.parent / checkpoint_name(last.rung, last.images_seen)))
        return Checkpoint(
            place=place,
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
    device, where = str(state.world.device), checkpoint.place
    model_state, live = state.ema.model.backbone.state_dict(), state.model.backbone.state_dict()
    moments_of = {f"{part}.{name}": p for name, p in _trained(state) for part in ("exp_avg", "exp_avg_sq")}
    expected = {f"weights.{name}": tensor for name, tensor in live.items()} | moments_of | {"step": torch.zeros(())}
    model = read_tensors(checkpoint.folder / MODEL, model_state, device, where)
    train = read_tensors(checkpoint.folder / TRAIN_STATE, expected, device, where)
    state.ema.model.backbone.load_state_dict(model)
    state.model.backbone.load_state_dict(
        {name.removeprefix("weights."): tensor for name, tensor in train.items() if name.startswith("weights.")}
    )
    moments = {
        number: {
            "step": train["step"].clone(),  # one each: the optimizer counts them up in place
            "exp_avg": _laid_out_as(parameter, train[f"exp_avg.{name}"]),
            "exp_avg_sq": _laid_out_as(parameter, train[f"exp_avg_sq.{name}"]),
        }
        for number, (name, parameter) in enumerate(_trained(state))
    }
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state.images_seen = checkpoint.images_seen


def check_continues(checkpoint: Checkpoint, settings: TrainSettings, content_hash: str) -> None:
    """Refuse, with a CheckpointMismatchError naming the key, a checkpoint of another training run."""
    before, now = checkpoint.settings.to_dict(), settings.to_dict()
    for key in before:
        if key not in FREE_ON_RESUME and before[key] != now[key]:
            raise CheckpointMismatchError(
                f"{checkpoint.place} was trained with {key} = {before[key]!r}, this trial has {now[key]!r}"
            )
    if checkpoint.content_hash != content_hash:
        raise CheckpointMismatchError(f"{checkpoint.place} was trained on other images than this trial's")
    rung, rungs = checkpoint.rung, settings.rungs
    if checkpoint.pause is not None and rungs[rung + 1 : rung + 2] != checkpoint.settings.rungs[rung + 1 : rung + 2]:
        raise CheckpointMismatchError(
            f"{checkpoint.place} was on the way to rung {rung + 1} of {list(checkpoint.settings.rungs)}, which this "
            f"trial's rungs {list(rungs)} do not have"
        )
    if rung >= len(rungs) or rungs[: rung + 1] != checkpoint.settings.rungs[: rung + 1]:
        raise CheckpointMismatchError(
            f"{checkpoint.place} stands at rung {rung} of {list(checkpoint.settings.rungs)}, which "
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
