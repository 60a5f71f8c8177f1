"""Feature extractors by name, or by the path of a class."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ambient_ray.data import ImageSet

from ..errors import EvaluationSettingsError, UnknownExtractorError
from .base import Extractor, ModuleExtractor, PixelExtractor, Precision, on_device
from .classifier import build_classifier
from .dinov2 import NAMES, DINOv2
from .efficientnet import EfficientNetLite0
from .inception import Inception

WITH_WEIGHTS = ("inception", *NAMES)
BUILT_IN = ("pixels", "classifier", "efficientnet_lite0", *WITH_WEIGHTS)


def build_extractor(
    name_or_config: str | Mapping[str, Any],
    *,
    image_set: ImageSet,
    cache_dir: Path,
    seed: int = 0,
    device: str | torch.device = "cpu",
    weights: str | Path | None = None,
    sha256: str | None = None,
    repo: str | Path | None = None,
    precision: Precision = "fp32",
) -> Extractor:
    """The extractor of that name, or of a mapping `{_target_: "package.module.Class", **arguments}`.

    `classifier` is trained on `image_set` (all its labelled images) once per content, architecture and
    seed, and kept under cache_dir. A `_target_` may be an `Extractor` or an `nn.Module` from float32
    [B,C,H,W] in [-1, 1] to features; the key `name` names the latter (default: its class in lower case).
    weights, sha256: a local file, and the digest it should have, for inception and dinov2 (`find_weights`).
    repo: a local clone of DINOv2. precision: of those that run a network of somebody else's.
    Raises UnknownExtractorError, LabelsMissingError, EvaluationSettingsError, and what weights can be wrong by.
    """
    named = name_or_config if isinstance(name_or_config, str) else str(name_or_config.get("_target_"))
    _check_options(named, weights=weights, sha256=sha256, repo=repo)
    if precision != "fp32" and named in ("pixels", "classifier"):
        raise EvaluationSettingsError(f"evaluation.precision={precision}: features={named} are computed in fp32 only.")
    if not isinstance(name_or_config, str):
        return _from_target(name_or_config, device, precision)
    if named == "pixels":
        return PixelExtractor()
    if named == "classifier":
        return build_classifier(image_set, cache_dir, seed=seed, device=device)
    if named == "efficientnet_lite0":
        return EfficientNetLite0(device=device, precision=precision)
    if named == "inception":
        return Inception(weights, sha256=sha256, device=device, precision=precision)
    if named in NAMES:
        return DINOv2(named, weights, repo=repo, sha256=sha256, device=device, precision=precision)
    raise UnknownExtractorError(
        f"There is no feature extractor {named!r}; use one of {', '.join(BUILT_IN)}, or a mapping with _target_."
    )


def _check_options(name: str, **options: str | Path | None) -> None:
    for key, value in options.items():
        takers = tuple(NAMES) if key == "repo" else WITH_WEIGHTS
        if value is not None and name not in takers:
            raise EvaluationSettingsError(
                f"evaluation.{key} is for features={', '.join(takers)}; features={name} takes none."
            )


def _from_target(config: Mapping[str, Any], device: str | torch.device, precision: Precision) -> Extractor:
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
        if precision != "fp32":
            raise EvaluationSettingsError(
                f"evaluation.precision={precision}: {target} is an extractor of its own; give it its precision itself."
            )
        return on_device(built, device)
    if isinstance(built, nn.Module):
        return ModuleExtractor(built, name=name, facts={"target": target}, device=device, precision=precision)
    raise UnknownExtractorError(
        f"{target} gives a {type(built).__name__}; expected an nn.Module, or an object "
        "with name, weight_hash and facts that is called with images."
    )
