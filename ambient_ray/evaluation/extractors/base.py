"""Feature extractors: what turns images into the vectors that distances and similarities are computed on."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ambient_ray.data import to_float

from ..arrays import as_features
from ..errors import EvaluationSettingsError, FeatureShapeError
from ..memory import free_memory

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Fact = str | int | float
Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROCESSOR_BYTES = 2.0**30
_MOST = 1024  # images a batch: more gains nothing, and input and resized copies are not among what is counted


@runtime_checkable
class Extractor(Protocol):
    """Maps images uint8 [N,H,W,C] to features float32 [N,d], the same ones wherever it runs.

    name: part of the scores' keys. weight_hash: sha256 hex of the weights (with the preprocessing, features
    are a function of it alone). facts: what else a report should say, e.g. the classifier's held-out
    accuracy. Picklable.
    """

    name: str
    weight_hash: str
    facts: Mapping[str, Fact]

    def __call__(self, images: Images) -> Features:
        """Features float32 [N,d] of images uint8 [N,H,W,C]."""
        ...


class PixelExtractor:
    """The pixels themselves, flattened, in [-1, 1]: a baseline that does not see quality."""

    name = "pixels"
    weight_hash = hashlib.sha256(b"pixels: images / 127.5 - 1, flattened as [C,H,W]").hexdigest()

    def __init__(self) -> None:
        """Nothing to set."""
        self.facts: Mapping[str, Fact] = {}

    def __call__(self, images: Images) -> Features:
        """Features float32 [N, C*H*W]."""
        return to_float(images).reshape(len(images), -1)


class ModuleExtractor:
    """Any `nn.Module` as an extractor: batched, in eval mode, in its own precision whatever surrounds the call.

    module: float32 [B,C,H,W] in [-1, 1] -> [B, d] or [B, ...] (flattened). No more than one batch is on the
    device, so the module may enlarge its input. Its parameters and buffers are the `weight_hash`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        facts: Mapping[str, Fact] | None = None,
        device: str | torch.device = "cpu",
        batch_size: int | Literal["auto"] = 256,
        precision: Precision = "fp32",
        preprocessing: str = "",
        takes: Literal["float32", "uint8"] = "float32",
    ) -> None:
        """Move the module to the device, freeze it and hash its weights.

        batch_size: auto takes what fits into 1 GiB on a processor, a quarter of what is free on a GPU. precision: of
        matrix products and convolutions; features are float32. preprocessing: what the module does to images before
        its weights. Both are part of weight_hash unless fp32 and empty. takes: uint8 hands over the bytes, 0..255.
        """
        if precision not in _TYPES:
            raise EvaluationSettingsError(f"evaluation.precision is fp32, bf16 or fp16, got {precision!r}.")
        self.module = module.to(device).eval().requires_grad_(False)
        self.name = name
        self.facts: Mapping[str, Fact] = dict(facts or {}) | ({} if precision == "fp32" else {"precision": precision})
        self.weight_hash = weight_hash(module)
        if preprocessing or precision != "fp32":
            identity = f"{self.weight_hash} {preprocessing}; {precision}"
            self.weight_hash = hashlib.sha256(identity.encode()).hexdigest()
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.precision: Precision = precision
        self._takes = takes

    def to(self, device: str | torch.device) -> Self:
        """This extractor, moved to a device."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self

    def __call__(self, images: Images) -> Features:
        """Features float32 [N,d] of images uint8 [N,H,W,C], N >= 1.

        Raises FeatureShapeError (no images), NonFiniteFeaturesError (says which image).
        """
        if not len(images):
            raise FeatureShapeError(f"{self.name}: there are no images to extract features from.")
        batches = []
        with torch.inference_mode(), _own_precision(self.device, _TYPES[self.precision]):
            size = self.batch_size if isinstance(self.batch_size, int) else self._what_fits(images)
            for start in range(0, len(images), size):
                batch = self._input(images[start : start + size])
                batches.append(self.module(batch).float().flatten(1).cpu().numpy())
        return as_features(np.concatenate(batches), f"{self.name} features")

    def _input(self, images: Images) -> torch.Tensor:
        if self._takes == "uint8":
            return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self.device)
        return torch.from_numpy(to_float(images)).to(self.device)

    def _what_fits(self, images: Images) -> int:
        """How many images' layer outputs, all together, fit into the memory; measured on the first image."""
        memory = _PROCESSOR_BYTES if self.device.type != "cuda" else free_memory(self.device) / 4
        returned = 0

        def count(module: nn.Module, given: Any, result: Any) -> None:
            nonlocal returned
            if isinstance(result, torch.Tensor) and not any(module.children()):
                returned += result.nbytes

        hooks = [module.register_forward_hook(count) for module in self.module.modules()]
        try:
            self.module(self._input(images[:1]))
        finally:
            for hook in hooks:
                hook.remove()
        return max(1, min(_MOST, int(memory / max(1, returned))))


@contextlib.contextmanager
def _own_precision(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """No autocast of a surrounding loop, and no TF32 convolutions, which would move features by 1e-3."""
    half = dtype != torch.float32
    with torch.autocast(device.type, dtype=dtype if half else None, enabled=half):
        if device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def weight_hash(module: nn.Module) -> str:
    """sha256 hex of a module's state dict: names, shapes, types and bytes, whatever the device."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        data = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(data.shape)} {data.dtype};".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def on_device(extractor: Extractor, device: str | torch.device) -> Extractor:
    """The extractor on a device, if it can be moved (has `.to`); others say themselves where they compute."""
    move = getattr(extractor, "to", None)
    moved: Extractor = extractor if move is None else move(device)
    return moved


def device_of(extractor: Extractor) -> torch.device:
    """Where neighbours among an extractor's features are looked for: on its own device, else on the processor.

    Not on Apple's MPS, which lacks float64.
    """
    device = torch.device(getattr(extractor, "device", None) or "cpu")
    return torch.device("cpu") if device.type == "mps" else device
