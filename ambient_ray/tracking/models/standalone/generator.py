"""A trained diffusion model as a source of images: weights, configuration, and `sample`.

This file is copied into every registered model, beside the diffusion code that it names by `package`.
"""

from __future__ import annotations

import importlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from .load import INDEX, OWN_PREFIX, WEIGHTS, is_shipped

# Images in one forward pass, by kind of device. Always exactly this many (a smaller batch is padded): another
# batch size makes the libraries choose other kernels, which round differently, and then the same seed gives
# other bytes. A CPU is as fast an image at 16 as at 64 and pads less; a GPU hardly notices the padding.
FORWARD_BATCH = {"cpu": 16}
FORWARD_BATCH_ELSEWHERE = 64

# Numbers in a network's tables (a DiT's positions: tokens times channels): 1 GiB. They are in no file of weights.
MOST_BUFFERED = 2**28


class Generator:
    """Images from a trained denoiser. Built by `load`, `load_model` or `from_folder`, and inside of the pipeline.

    config: what model_index.json holds under `ambient` (backbone, sigma_data, image, sampler, images_seen, ...).
    scores: the scores of this checkpoint, as evaluated in the search; facts: how they were taken.
    """

    def __init__(
        self, backbone: torch.nn.Module, config: Mapping[str, Any], *, package: str, device: str | torch.device
    ) -> None:
        """backbone: `build_backbone`'s; package: where the modules backbones, precond and samplers are.

        Raises ValueError when the configuration's sampler or image is none (`_check_sampler`, `_check_image`).
        """
        _check_sampler(config["sampler"])
        _check_image(config["image"])
        self.config = dict(config)
        self.scores: dict[str, float] = dict(config.get("scores", {}))
        self.facts: dict[str, Any] = dict(config.get("facts", {}))
        self.device = device
        precond, self._samplers = (importlib.import_module(f"{package}.{name}") for name in ("precond", "samplers"))
        denoiser: torch.nn.Module = precond.EDMPrecond(_in_own_precision(backbone), config["sigma_data"])
        self._denoiser = denoiser.to(device).eval()

    @classmethod
    def from_folder(cls, folder: Path, *, package: str, device: str | None = None) -> Generator:
        """Read `folder`'s model_index.json and weights; package: as above.

        device: by default a GPU if there is one. Raises ImportError when the backbone's `_target_` is a
        user's own class and cannot be imported here, and ValueError when the configuration's network is not the
        one of the weights; a shipped network that is not is never allocated.
        """
        config = json.loads((folder / INDEX).read_text(encoding="utf-8"))["ambient"]
        target = config["backbone"]["_target_"]
        if not is_shipped(target):
            _check_importable(target)
        else:
            _check_sizes(config, package, folder / WEIGHTS)
        backbone = build(config, package)
        weights = load_file(folder / WEIGHTS)
        if is_shipped(target):
            backbone.net.load_state_dict(weights)  # a diffusers network, in a thin shell without weights
        else:
            backbone.load_state_dict({key.removeprefix(OWN_PREFIX): value for key, value in weights.items()})
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(backbone, config, package=package, device=chosen)

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

    def draw(
        self,
        seeds: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Image number `numbers[i]` of seed `seeds[i]` for all i: uint8 [n,H,W,C]. labels as in `sample`."""

        def latents(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            pairs = zip(seeds[rows].tolist(), numbers[rows].tolist(), strict=True)
            return torch.cat([self._samplers.latents(1, self.shape, seed=seed, start=j) for seed, j in pairs])

        return self._images(len(seeds), latents, self._classes(numbers, labels))

    def from_latents(self, latents: torch.Tensor, labels: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.uint8]:
        """The images of latents ~ N(0, I), float32 [n,C,H,W]: uint8 [n,H,W,C]. labels as in `sample`."""
        classes = self._classes(np.arange(len(latents), dtype=np.int64), labels)
        return self._images(len(latents), lambda rows: latents[torch.from_numpy(rows).to(latents.device)], classes)

    @torch.inference_mode()
    def _images(
        self,
        n: int,
        latents: Callable[[npt.NDArray[np.int64]], torch.Tensor],
        classes: npt.NDArray[np.int64] | None,
    ) -> npt.NDArray[np.uint8]:
        channels, height, width = self.shape
        images = np.empty((n, height, width, channels), dtype=np.uint8)
        size = FORWARD_BATCH.get(torch.device(self.device).type, FORWARD_BATCH_ELSEWHERE)
        for first in range(0, n, size):
            rows = np.minimum(np.arange(first, first + size), n - 1)  # pads with the last row
            x = self._forward(latents(rows), None if classes is None else classes[rows])
            kept = min(size, n - first)
            images[first : first + kept] = _to_uint8(x)[:kept]
        return images

    def _forward(self, z: torch.Tensor, classes: npt.NDArray[np.int64] | None) -> torch.Tensor:
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


class _OwnPrecision(torch.nn.Module):
    """A network in half precision inside a sampler that keeps float32 (Karras et al. 2022, appendix F.3)."""

    def __init__(self, backbone: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.backbone, self.dtype = backbone, dtype
        self.broadcasts_noise_level = bool(getattr(backbone, "broadcasts_noise_level", False))

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        out: torch.Tensor = self.backbone(x.to(self.dtype), c_noise, labels)
        return out


def _check_image(image: Any) -> None:
    """Raise ValueError unless this is what the images are: channels and resolution, and how many classes, or None."""
    sizes = [image.get(key) for key in ("channels", "resolution")] if isinstance(image, Mapping) else [None]
    classes = image.get("num_classes", 0) if isinstance(image, Mapping) else 0
    whole = [*sizes, *([] if classes is None else [classes])]
    if not all(type(size) is int and 0 < size <= 65536 for size in whole):
        raise ValueError(f"the configuration's image is none: {image!r:.80}")


def _check_sampler(steps: Any) -> None:
    """Raise ValueError unless these are a sampler's settings: steps, and the noise levels' ends and spacing."""
    known = {"steps", "sigma_min", "sigma_max", "rho"}
    numbers = isinstance(steps, Mapping) and all(type(v) in (int, float) and 0 < v <= 1e6 for v in steps.values())
    if not numbers or not set(steps) <= known or type(steps.get("steps", 18)) is not int:
        raise ValueError(f"the configuration's sampler is none: {steps!r:.80}")


def _in_own_precision(backbone: torch.nn.Module) -> torch.nn.Module:
    dtype = next((p.dtype for p in backbone.parameters() if p.is_floating_point()), torch.float32)
    return backbone if dtype == torch.float32 else _OwnPrecision(backbone, dtype)


def build(config: Mapping[str, Any], package: str, **net: Any) -> Any:
    """The backbone that config describes; net: a diffusers network that is there already, for it to wrap."""
    backbones = importlib.import_module(f"{package}.backbones")
    return backbones.build_backbone(dict(config["backbone"]) | net, **config["image"])


def _check_sizes(config: Mapping[str, Any], package: str, file: Path) -> None:
    """Raise ValueError unless the configuration's network has the weights that lie in `file`, by name and shape.

    It is built without memory (torch's `meta` device), and no further than the file's weights reach.
    """
    with safe_open(file, framework="pt") as weights:
        stored = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    left = sum(math.prod(shape) for shape in stored.values())
    thread, fault = threading.get_ident(), "the configuration's network is not the one whose weights these are"

    def count(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal left
        if parameter is None or threading.get_ident() != thread:
            return
        left -= parameter.numel()
        if left < 0:
            raise ValueError(f"{fault}: it is larger")

    handle = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            network = build(config, package).net
    finally:
        handle.remove()
    declared = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if wrong := sorted(name for name in {*declared, *stored} if declared.get(name) != stored.get(name)):
        name = wrong[0]
        raise ValueError(
            f"{fault}: {name:.80} is {stored.get(name)} in the file, and {declared.get(name)} in the network"
        )
    if sum(buffer.numel() for buffer in network.buffers()) > MOST_BUFFERED:
        raise ValueError(f"{fault}: its tables of positions are larger than any that this project trains")


def _check_importable(target: str) -> None:
    module = target.rpartition(".")[0]
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
