"""Images in: readers to `ImageSet`, the split into training subset and held-out images, the noise bank."""

from .errors import (
    BadContentsError,
    BadOptionError,
    BrokenFileError,
    ChecksumError,
    FetchError,
    MixedChannelsError,
    MixedLayoutError,
    MixedSizesError,
    NoImagesError,
    SubsetError,
    TooFewImagesError,
    TooLargeError,
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
    "FetchError",
    "ImageSet",
    "MixedChannelsError",
    "MixedLayoutError",
    "MixedSizesError",
    "NoImagesError",
    "Split",
    "SubsetError",
    "TooFewImagesError",
    "TooLargeError",
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
