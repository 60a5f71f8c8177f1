"""One picture: whatever Pillow reads, as 8-bit grey or RGB, upright, square and of the wanted size.

Decisions, in the order in which they are applied:
- the first frame of an animation, the first page of a document;
- EXIF orientation is applied, colour profiles (ICC) are not;
- 16 bits a value are scaled by 255/65535; floating point counts as 0..1 or, if any is above 1, as 0..255;
- transparency is laid on white, before any resizing, so that hidden colours cannot bleed in;
- a palette picture is grey if its palette is;
- with a resolution: the largest centred square, then Lanczos. It is antialiased in both directions (its
  support grows with the reduction, unlike a framework's plain bicubic; Parmar et al. 2022 show what that does
  to FID) and keeps more detail than area averaging, which when enlarging would be plain repetition.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from .errors import BadOptionError, TooLargeError
from .image_set import blocks, let_go

WHITE = (255, 255, 255, 255)
ORIENTATION = 0x0112
# A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which makes large photographs load several times
# faster. This many times the resolution is kept for Lanczos: 0.35 grey levels from decoding it whole on
# average, where decoding down to the resolution itself is 1.7 off.
DRAFT_MARGIN = 4
COMMON_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Formats that Pillow names but cannot decode itself; EPS would start another program on the user's files.
REFUSED_FORMATS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC"})


Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]


def in_memory(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array for images of this shape [N,H,W,C]. Raises TooLargeError where the machine has less memory."""
    count, height, width, _ = shape
    advice = "set dataset.memory_map=true and evaluation.heldout=10000, or a smaller dataset.resolution"
    check_memory(int(np.prod(shape, dtype=object)), f"{count:,} images of {width}x{height} take", advice)
    return np.empty(shape, dtype=np.uint8)


def check_memory(needed: int, what: str, advice: str = "give fewer images, or save them as .npy") -> None:
    """Raise TooLargeError where so many bytes exceed this machine's memory: "`what` 9.9 GB and ..."."""
    memory = psutil.virtual_memory().total
    if needed > memory:
        raise TooLargeError(f"{what} {needed / 1e9:,.1f} GB and this machine has {memory / 1e9:,.1f}: {advice}")


@dataclass(frozen=True)
class Fit:
    """What every image is brought to: side of the square, and 1 or 3 channels; None keeps what it has.

    allocate: makes the array that a reader puts the images into.
    """

    resolution: int | None = None
    channels: int | None = None
    allocate: Allocate = in_memory

    def __post_init__(self) -> None:
        """Refuse what is neither, naming the key."""
        side = self.resolution
        if side is not None and (isinstance(side, bool) or not isinstance(side, int | np.integer) or side < 1):
            raise BadOptionError(f"dataset.resolution={side}: expected a whole number of pixels, 1 or more")
        if self.channels not in (None, 1, 3) or isinstance(self.channels, bool):
            raise BadOptionError(f"dataset.channels={self.channels}: expected 1 (greyscale) or 3 (colour)")

    @property
    def changes_nothing(self) -> bool:
        """Whether images are kept as they are."""
        return self.resolution is None and self.channels is None


def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, the common ones first, those of plug-ins included."""
    Image.init()
    others = sorted(set(Image.OPEN) - set(COMMON_FORMATS) - REFUSED_FORMATS)
    return (*(name for name in COMMON_FORMATS if name in Image.OPEN), *others)


def picture_suffixes() -> frozenset[str]:
    """Lower-case file name endings, with their dot, by which a picture is known in a folder or zip."""
    formats = set(picture_formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def decode(data: bytes, fit: Fit, formats: tuple[str, ...]) -> NDArray[np.uint8]:
    """A picture file's bytes -> uint8 [H,W,C], C = 1 or 3 as the picture has it unless `fit` says otherwise.

    Raises whatever Pillow raises for bytes that are no complete picture, ValueError for values that have no
    8-bit meaning.
    """
    with Image.open(io.BytesIO(data), formats=formats) as picture:
        if fit.resolution is not None:
            picture.draft(None, (DRAFT_MARGIN * fit.resolution,) * 2)
        picture.load()  # the whole file: a truncated one must fail here, whatever is needed of it
        upright = ImageOps.exif_transpose(picture) if picture.getexif().get(ORIENTATION, 1) != 1 else picture
        return fit_picture(to_grey_or_rgb(upright), fit)


def fit_picture(picture: Image.Image, fit: Fit) -> NDArray[np.uint8]:
    """A picture of mode L or RGB -> uint8 [H,W,C], with the channels and the resolution of `fit`."""
    mode = {None: picture.mode, 1: "L", 3: "RGB"}[fit.channels]
    if picture.mode != mode:
        picture = picture.convert(mode)  # to grey by ITU-R 601-2 luma, to RGB by repetition
    if fit.resolution is not None and picture.size != (fit.resolution, fit.resolution):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((fit.resolution, fit.resolution), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def fit_array(images: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    """uint8 [N,H,W,1 or 3] brought to `fit`: the same array where nothing is to do, otherwise one new one."""
    count, height, width, channels = images.shape
    wanted = (fit.resolution or height, fit.resolution or width, fit.channels or channels)
    if wanted == (height, width, channels):
        return images
    fitted = fit.allocate((count, *wanted))
    for start, block in blocks(images):
        for image, target in zip(block, fitted[start : start + len(block)], strict=True):
            target[:] = fit_picture(Image.fromarray(image[:, :, 0] if channels == 1 else image), fit)
        let_go(fitted)
    return fitted


def to_grey_or_rgb(picture: Image.Image) -> Image.Image:
    """A picture of any mode -> mode L if it is greyscale by its mode (or palette), mode RGB otherwise."""
    mode = picture.mode
    if mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(picture), mode))
    if mode == "LAB":  # convert() of older Pillow cannot
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        if converted is None:
            raise ValueError("its LAB colours cannot be converted")
        return converted
    grey = mode in ("1", "L", "LA", "La") or (mode in ("P", "PA") and _palette_is_grey(picture))
    if picture.has_transparency_data:
        rgba = picture.convert("LA").convert("RGBA") if mode == "La" else picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), rgba)
    return picture.convert("RGB").convert("L") if grey else picture.convert("RGB")


def _palette_is_grey(picture: Image.Image) -> bool:
    palette = np.asarray(picture.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _to_8_bits(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    # Mode I holds 32 bits, but the formats that give it (16-bit PNG in older Pillow, PGM, PNM) fill 0..65535.
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("its pixels hold NaN or infinity")
    low, high = float(wide.min()), float(wide.max())
    if mode == "F":
        top, meaning = (1.0 if high <= 1 else 255.0), "0..1 or 0..255"
    else:
        top, meaning = 65535.0, "0..65535"
    if low < 0 or high > top:
        raise ValueError(f"its pixels go from {low:g} to {high:g}, expected {meaning}")
    return np.rint(wide * (255 / top)).astype(np.uint8)
