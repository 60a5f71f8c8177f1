"""What turns images into the vectors that distances and similarities are computed on."""

from .base import (
    Extractor,
    Fact,
    Features,
    Images,
    ModuleExtractor,
    PixelExtractor,
    Precision,
    device_of,
    on_device,
    weight_hash,
)
from .build import BUILT_IN, build_extractor
from .cache import CachedExtractor
from .dinov2 import DINOv2
from .inception import Inception

__all__ = [
    "BUILT_IN",
    "CachedExtractor",
    "DINOv2",
    "Extractor",
    "Fact",
    "Features",
    "Images",
    "Inception",
    "ModuleExtractor",
    "PixelExtractor",
    "Precision",
    "build_extractor",
    "device_of",
    "on_device",
    "weight_hash",
]
