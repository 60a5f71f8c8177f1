"""Feature extractors: what turns images into the vectors that distances and similarities are computed on."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ambient_ray.data import to_float

from ..errors import FeatureShapeError

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Fact = str | int | float


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
    """Any `nn.Module` as an extractor: batched, in eval mode, in float32 whatever surrounds the call.

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
        batch_size: int = 256,
    ) -> None:
        """Move the module to the device, freeze it and hash its weights."""
        self.module = module.to(device).eval().requires_grad_(False)
        self.name = name
        self.facts: Mapping[str, Fact] = dict(facts or {})
        self.weight_hash = weight_hash(module)
        self.device = torch.device(device)
        self.batch_size = batch_size

    def to(self, device: str | torch.device) -> Self:
        """This extractor, moved to a device."""
        self.device = torch.device(device)
        self.module.to(self.device)
        return self

    def __call__(self, images: Images) -> Features:
        """Features float32 [N,d] of images uint8 [N,H,W,C], N >= 1."""
        batches = []
        with torch.inference_mode(), _exact_float32(self.device):
            for start in range(0, len(images), self.batch_size):
                batch = torch.from_numpy(to_float(images[start : start + self.batch_size])).to(self.device)
                batches.append(self.module(batch).float().flatten(1).cpu().numpy())
        if not batches:
            raise FeatureShapeError(f"{self.name}: there are no images to extract features from.")
        return np.concatenate(batches)


@contextlib.contextmanager
def _exact_float32(device: torch.device) -> Iterator[None]:
    """No autocast of a surrounding loop, and no TF32 convolutions, which would move features by 1e-3."""
    with torch.autocast(device.type, enabled=False):
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
