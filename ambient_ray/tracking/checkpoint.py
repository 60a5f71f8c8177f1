"""Reads a checkpoint folder as the training room writes it; nothing else in this room knows the layout."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.errors import UserError
from ambient_ray.storage import DamagedCheckpointError, Location, Patience, StorageGivenUpError, fetch, patiently
from ambient_ray.storage.arrays import read_arrays

if TYPE_CHECKING:
    from ambient_ray.evaluation import PartialCopies

WEIGHTS = "model.safetensors"
SAMPLER = {"steps": 18, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}


class CheckpointUnreadableError(UserError):
    """A checkpoint folder lacks a file or a key."""


_PATIENCE = Patience(hours=2 / 60, longest=10.0)  # for what is only drawn, or registered by the same command again


def local_checkpoint(where: Location, names: Collection[str], digest: str = "") -> Path:
    """A folder of this machine with these files of a checkpoint; a store that is away is waited for, for two minutes.

    digest: SHA-256 of its description, in hex, where whoever asks knows it. CheckpointUnreadableError with the reason.
    """
    if isinstance(where, Path) and not where.is_dir():
        raise CheckpointUnreadableError(f"{where} is gone")
    try:
        return patiently(lambda: fetch(where, names, digest=digest), where, patience=_PATIENCE)
    except (DamagedCheckpointError, StorageGivenUpError) as error:
        raise CheckpointUnreadableError(str(error)) from error


@dataclass(frozen=True)
class CheckpointConfig:
    """What it takes to build the network again and sample from it.

    backbone: `_target_` and sizes; image: channels, resolution, num_classes (None without classes);
    sampler: steps, sigma_min, sigma_max, rho; scores and facts: of the newest rung.
    """

    backbone: Mapping[str, Any]
    sigma_data: float
    image: Mapping[str, int | None]
    images_seen: int
    sampler: Mapping[str, float]
    scores: Mapping[str, float]
    facts: Mapping[str, Any]


def read_checkpoint(folder: Path) -> CheckpointConfig:
    """The configuration in `folder`/checkpoint.json. CheckpointUnreadableError names the file or key."""
    path = Path(folder) / "checkpoint.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointUnreadableError(f"{folder} is no checkpoint: it has no checkpoint.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointUnreadableError(f"{path} cannot be read as JSON: {error}") from error
    if not (Path(folder) / WEIGHTS).is_file():
        raise CheckpointUnreadableError(f"{folder} is no complete checkpoint: it has no {WEIGHTS}")
    try:
        image = stored["image"]
        return CheckpointConfig(
            backbone=stored["backbone"],
            sigma_data=float(stored["sigma_data"]),
            image={
                "channels": int(image["channels"]),
                "resolution": int(image["resolution"]),
                "num_classes": image.get("num_classes"),
            },
            images_seen=int(stored["images_seen"]),
            sampler={key: stored.get("sampler", {}).get(key, default) for key, default in SAMPLER.items()},
            scores=stored.get("scores", {}),
            facts=stored.get("facts", {}),
        )
    except KeyError as error:
        raise CheckpointUnreadableError(f"{path} lacks the key {error}") from error
    except (TypeError, AttributeError, ValueError, OverflowError, IndexError) as error:
        raise CheckpointUnreadableError(f"{path} holds a value of another kind ({error!s:.200})") from error


@dataclass(frozen=True)
class ScoredSamples:
    """The samples that a rung was scored by: images uint8 [n,H,W,C], and what is known of each.

    nearest: index [n] of the nearest training image in pixels; ratio [n]: d1/d2 of the two nearest;
    similarity [n]: highest cosine in features; order [n]: the most similar first; features [n,d]; partial: which
    part of each is copied. All but images may be None.
    """

    images: NDArray[np.uint8]
    nearest: NDArray[np.int64] | None = None
    ratio: NDArray[np.float64] | None = None
    similarity: NDArray[np.float64] | None = None
    order: NDArray[np.int64] | None = None
    features: NDArray[np.float16] | None = None
    partial: PartialCopies | None = None


def read_samples(folder: Path) -> ScoredSamples | None:
    """The samples in `folder`/samples.npz, or None if there are none. Raises CheckpointUnreadableError."""
    path = Path(folder) / "samples.npz"
    if not path.is_file():
        return None
    try:
        arrays = read_arrays(path)
    except (OSError, DamagedCheckpointError) as error:
        raise CheckpointUnreadableError(f"{path} cannot be read: {error!s:.200}") from error
    images = arrays.get("samples")
    if images is None or images.dtype != np.uint8 or images.ndim != 4:
        raise CheckpointUnreadableError(f"{path} holds no uint8 images [n,H,W,C] under 'samples'")
    return ScoredSamples(
        images,
        nearest=arrays.get("nearest_index"),
        ratio=arrays.get("ratio"),
        similarity=arrays.get("similarity"),
        order=arrays.get("most_similar_first"),
        features=arrays.get("features"),
        partial=_partial(arrays),
    )


def _partial(arrays: Mapping[str, NDArray[Any]]) -> PartialCopies | None:
    from ambient_ray.evaluation import PartialCopies

    parts = [arrays.get(f"partial_{name}") for name in ("area", "index", "tiles")]
    area, index, tiles = parts
    return None if area is None or index is None or tiles is None else PartialCopies(area, index, tiles)
