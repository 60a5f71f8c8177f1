"""What turns images into the vectors that distances and similarities are computed on."""

from .base import Extractor, Fact, Features, Images, ModuleExtractor, PixelExtractor, on_device, weight_hash
from .build import BUILT_IN, build_extractor
from .cache import CachedExtractor

__all__ = [
    "BUILT_IN",
    "CachedExtractor",
    "Extractor",
    "Fact",
    "Features",
    "Images",
    "ModuleExtractor",
    "PixelExtractor",
    "build_extractor",
    "on_device",
    "weight_hash",
]
