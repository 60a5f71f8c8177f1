"""Images in: readers to `ImageSet`, the split into training subset and held-out images, the noise bank."""

from .errors import (
    BadContentsError,
    BadOptionError,
    BrokenFileError,
    ChecksumError,
    MixedChannelsError,
    MixedLayoutError,
    MixedSizesError,
    NoImagesError,
    TooFewImagesError,
    UnknownFormatError,
    UnknownSourceError,
    UnreadableFileError,
)
from .image_set import ImageSet
from .noise_bank import fixed_noise, noise_bank
from .pixels import to_float, to_uint8
from .readers import BUILT_IN, load_images
from .split import Split, split

__all__ = [
    "BUILT_IN",
    "BadContentsError",
    "BadOptionError",
    "BrokenFileError",
    "ChecksumError",
    "ImageSet",
    "MixedChannelsError",
    "MixedLayoutError",
    "MixedSizesError",
    "NoImagesError",
    "Split",
    "TooFewImagesError",
    "UnknownFormatError",
    "UnknownSourceError",
    "UnreadableFileError",
    "fixed_noise",
    "load_images",
    "noise_bank",
    "split",
    "to_float",
    "to_uint8",
]
