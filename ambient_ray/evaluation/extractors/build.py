"""Feature extractors by name, or by the path of a class."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ambient_ray.data import ImageSet

from ..errors import UnknownExtractorError
from .base import Extractor, ModuleExtractor, PixelExtractor, on_device

BUILT_IN = ("pixels", "classifier", "efficientnet_lite0")


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
