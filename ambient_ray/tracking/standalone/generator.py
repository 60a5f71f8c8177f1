"""A trained diffusion model as a source of images: weights, configuration, and `sample`.

This file is copied into every registered model, beside the diffusion code that it names by `package`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

# Images in one forward pass, by kind of device. Always exactly this many (a smaller batch is padded): another
# batch size makes the libraries choose other kernels, which round differently, and then the same seed gives
# other bytes. A CPU is as fast an image at 16 as at 64 and pads less; a GPU hardly notices the padding.
FORWARD_BATCH = {"cpu": 16}
FORWARD_BATCH_ELSEWHERE = 64


class Generator:
    """Images from a trained denoiser. Built by `load`, `load_model` or `from_folder`.

    config: what config.json holds (backbone, sigma_data, image, sampler, images_seen, ...).
    scores: the scores of this checkpoint, as evaluated in the search; facts: how they were taken.
    """

    def __init__(self, denoiser: torch.nn.Module, config: Mapping[str, Any], samplers: Any, device: str) -> None:
        """`samplers`: the module that has `latents` and `heun_sampler`."""
        self.config = dict(config)
        self.scores: dict[str, float] = dict(config.get("scores", {}))
        self.facts: dict[str, Any] = dict(config.get("facts", {}))
        self.device = device
        self._denoiser = denoiser.to(device).eval()
        self._samplers = samplers

    @classmethod
    def from_folder(cls, folder: Path, *, package: str, device: str | None = None) -> Generator:
        """Read `folder`'s weights and config.json; `package` has the modules backbones, precond and samplers.

        device: by default a GPU if there is one. Raises ImportError when the backbone's `_target_` is a
        user's own class and cannot be imported here.
        """
        backbones, precond, samplers = (
            importlib.import_module(f"{package}.{name}") for name in ("backbones", "precond", "samplers")
        )
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        image = config["image"]
        _check_importable(config["backbone"]["_target_"])
        backbone = backbones.build_backbone(
            config["backbone"],
            channels=image["channels"],
            resolution=image["resolution"],
            num_classes=image["num_classes"],
        )
        backbone.load_state_dict(load_file(folder / "model.safetensors"))
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(precond.EDMPrecond(backbone, config["sigma_data"]), config, samplers, chosen)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        image = self.config["image"]
        return image["channels"], image["resolution"], image["resolution"]

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None for a model without."""
        classes: int | None = self.config["image"]["num_classes"]
        return classes

    def sample(
        self,
        n: int,
        seed: int = 0,
        labels: int | Sequence[int] | npt.NDArray[np.int64] | None = None,
        batch_size: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Images 0 .. n - 1 of `seed`: uint8 [n,H,W,C].

        Image j depends on (seed, j) and its label only, so the first n of 2n images are the same bytes on the
        same platform. labels: one class for all, or n classes; None gives image j the class j mod
        num_classes. batch_size is accepted for callers that pass one and changes nothing: every forward pass
        has the same size (FORWARD_BATCH), because another would change the last bits. ValueError for bad
        arguments.
        """
        if n < 0 or (batch_size is not None and batch_size < 1):
            raise ValueError(f"sample needs n >= 0 and batch_size >= 1, got n={n}, batch_size={batch_size}")
        numbers = np.arange(n, dtype=np.int64)
        chosen = None if labels is None else np.broadcast_to(np.asarray(labels, dtype=np.int64), (n,))
        return self.draw(np.full(n, seed, dtype=np.int64), numbers, chosen)

    @torch.inference_mode()
    def draw(
        self,
        seeds: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Image number `numbers[i]` of seed `seeds[i]` for all i: uint8 [n,H,W,C]. labels as in `sample`."""
        classes = self._classes(numbers, labels)
        channels, height, width = self.shape
        images = np.empty((len(seeds), height, width, channels), dtype=np.uint8)
        size = FORWARD_BATCH.get(torch.device(self.device).type, FORWARD_BATCH_ELSEWHERE)
        for first in range(0, len(seeds), size):
            rows = np.minimum(np.arange(first, first + size), len(seeds) - 1)  # pads with the last row
            x = self._forward(seeds[rows], numbers[rows], None if classes is None else classes[rows])
            kept = len(seeds[first : first + size])
            images[first : first + kept] = _to_uint8(x)[:kept]
        return images

    def _forward(
        self,
        seeds: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        classes: npt.NDArray[np.int64] | None,
    ) -> torch.Tensor:
        pairs = zip(seeds.tolist(), numbers.tolist(), strict=True)
        z = torch.cat([self._samplers.latents(1, self.shape, seed=seed, start=j) for seed, j in pairs])
        labels = None if classes is None else torch.from_numpy(classes).to(self.device)
        steps = self.config["sampler"]
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            x: torch.Tensor = self._samplers.heun_sampler(self._denoiser, z.to(self.device), labels=labels, **steps)
        return x

    def _classes(
        self, numbers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.int64] | None:
        if self.num_classes is None:
            if labels is not None:
                raise ValueError("this model has no classes: leave labels out")
            return None
        if labels is None:
            return numbers % self.num_classes
        if len(labels) and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise ValueError(f"labels must lie in 0..{self.num_classes - 1}, got {labels.min()}..{labels.max()}")
        return np.ascontiguousarray(labels)


def _check_importable(target: str) -> None:
    module = target.rpartition(".")[0]
    if module == "ambient_ray.diffusion.backbones":
        return  # the copy beside this file
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this model's network is {target}, its maker's own code, which cannot be imported ({error}): "
            f"install the package that holds {module}, or put its folder on PYTHONPATH"
        ) from error


def _to_uint8(x: torch.Tensor) -> npt.NDArray[np.uint8]:
    """[-1, 1] float [B,C,H,W] -> uint8 [B,H,W,C]."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError("this model returned pixels that are not finite")
    pixels = ((x.float() + 1.0) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
    array: npt.NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return array
