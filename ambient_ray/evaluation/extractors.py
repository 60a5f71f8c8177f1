"""Feature extractors: what turns images into the vectors that distances and similarities are computed on."""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ambient_ray.data import ImageSet, to_float

from .errors import FeatureShapeError, UnknownExtractorError

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Fact = str | int | float
BUILT_IN = ("pixels", "classifier", "efficientnet_lite0")


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


def device_of(extractor: Extractor) -> torch.device:
    """Where neighbours among an extractor's features are looked for: on its own device, else on the processor.

    Not on Apple's MPS, which lacks float64.
    """
    device = torch.device(getattr(extractor, "device", None) or "cpu")
    return torch.device("cpu") if device.type == "mps" else device


def build_extractor(
    name_or_config: str | Mapping[str, Any],
    *,
    image_set: ImageSet,
    cache_dir: Path,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Extractor:
    """The extractor of that name, or of a mapping `{_target_: "package.module.Class", **arguments}`.

    `classifier` is trained on `image_set` (all its labelled images) once per content, architecture and
    seed, and kept under cache_dir. A `_target_` may be an `Extractor` or an `nn.Module` from float32
    [B,C,H,W] in [-1, 1] to features; the key `name` names the latter (default: its class in lower case).
    Raises UnknownExtractorError, LabelsMissingError.
    """
    if not isinstance(name_or_config, str):
        return _from_target(name_or_config, device)
    if name_or_config == "pixels":
        return PixelExtractor()
    if name_or_config == "classifier":
        from .classifier import build_classifier

        return build_classifier(image_set, cache_dir, seed=seed, device=device)
    if name_or_config == "efficientnet_lite0":
        from .efficientnet import EfficientNetLite0

        return EfficientNetLite0(device=device)
    raise UnknownExtractorError(
        f"There is no feature extractor {name_or_config!r}; use one of {', '.join(BUILT_IN)}, "
        "or a mapping with _target_."
    )


def _from_target(config: Mapping[str, Any], device: str | torch.device) -> Extractor:
    arguments = {str(key): value for key, value in config.items()}
    target = arguments.pop("_target_", None)
    if not isinstance(target, str) or "." not in target:
        raise UnknownExtractorError("A feature extractor's mapping needs _target_: package.module.Class.")
    module_name, _, attribute = target.rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownExtractorError(f"The feature extractor {target} cannot be imported: {error}.") from error
    is_module = isinstance(factory, type) and issubclass(factory, nn.Module)
    name = str(arguments.pop("name", attribute.lower())) if is_module else attribute.lower()
    try:
        built = factory(**arguments)
    except TypeError as error:
        raise UnknownExtractorError(f"The feature extractor {target} does not take its arguments: {error}.") from error
    if isinstance(built, Extractor):
        return on_device(built, device)
    if isinstance(built, nn.Module):
        return ModuleExtractor(built, name=name, facts={"target": target}, device=device)
    raise UnknownExtractorError(
        f"{target} gives a {type(built).__name__}; expected an nn.Module, or an object "
        "with name, weight_hash and facts that is called with images."
    )
