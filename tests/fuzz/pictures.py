"""Valid picture files of every format that Pillow writes here, and damage that knows their structure."""

import io
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from .mutations import Edit, edits, mutate

PNG = b"\x89PNG\r\n\x1a\n"
SIZE = (9, 7)


def pixels(mode: str, size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """A picture of random pixels in a mode of Pillow's."""
    rng, (width, height) = np.random.default_rng(seed), size
    colours = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    match mode:
        case "I;16":
            return Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.uint16))
        case "I":
            return Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.int32))
        case "F":
            return Image.fromarray(rng.random((height, width), dtype=np.float32))
        case "LA":
            return Image.fromarray(colours[:, :, :2].copy())
        case "RGBA":
            return Image.fromarray(colours)
        case _:
            return Image.fromarray(colours[:, :, :3].copy()).convert(mode)


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    """The file's bytes."""
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def _valid() -> list[tuple[str, bytes]]:
    found = [(f"png {mode}", encoded(pixels(mode), "PNG")) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    upright = Image.Exif()
    upright[0x0112] = 6
    upright[0x010E] = "described"
    jpeg = pixels("RGB", (33, 17))
    found += [
        ("png exif", encoded(pixels("RGB"), "PNG", exif=upright)),
        ("png transparent", encoded(pixels("RGB"), "PNG", transparency=(1, 2, 3))),
        ("jpeg", encoded(jpeg, "JPEG")),
        ("jpeg L", encoded(pixels("L"), "JPEG")),
        ("jpeg CMYK", encoded(pixels("CMYK"), "JPEG")),
        ("jpeg exif", encoded(jpeg, "JPEG", exif=upright, progressive=True)),
        ("gif", encoded(pixels("P"), "GIF", transparency=3)),
        ("bmp", encoded(pixels("RGB"), "BMP")),
        ("bmp 1", encoded(pixels("1"), "BMP")),
        ("ppm", encoded(pixels("RGB"), "PPM")),
        ("pgm", b"P2\n3 2\n255\n" + b" ".join(b"%d" % value for value in range(6))),
        ("webp", encoded(jpeg, "WEBP")),
        ("webp alpha", encoded(pixels("RGBA"), "WEBP", lossless=True)),
        ("tiff jpeg", encoded(jpeg, "TIFF", compression="jpeg")),
        ("tiff exif", encoded(pixels("RGB"), "TIFF", exif=upright)),
    ]
    more = [pixels("RGB", seed=seed) for seed in (1, 2)]
    for name in ("GIF", "TIFF", "WEBP", "PNG"):
        found.append((f"animated {name}", encoded(pixels("RGB"), name, save_all=True, append_images=more)))
    for mode in ("L", "RGB", "I;16", "F", "CMYK", "LAB"):
        picture = Image.new("LAB", SIZE, (99, 3, 4)) if mode == "LAB" else pixels(mode)
        found.append((f"tiff {mode}", encoded(picture, "TIFF")))
    for compression in ("tiff_lzw", "tiff_deflate", "packbits"):
        found.append((f"tiff {compression}", encoded(pixels("RGB"), "TIFF", compression=compression)))
    for name in ("ICO", "ICNS", "TGA", "PCX", "DDS", "JPEG2000", "AVIF", "SGI", "QOI", "IM", "MSP", "SPIDER"):
        if name in Image.SAVE:
            picture = pixels({"MSP": "1", "SPIDER": "F", "ICO": "RGBA"}.get(name, "RGB"), (32, 32))
            found.append((name.lower(), encoded(picture, name)))
    return found


Image.init()
VALID = _valid()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG whose header says what it likes; data: the rows, compressed."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG + head + b"".join(chunk(*each) for each in extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@lru_cache(maxsize=200)
def zeros(count: int) -> bytes:
    """So many zeros, compressed: what bombs are made of."""
    return zlib.compress(bytes(count), 9)


def with_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks' checksums are right, so that what is in them is believed."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : at + 8 + min(length, len(data))]
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return out


SIDES = (0, 1, 9, 1000, 1200, 1500, 65535, 2**31 - 1, 2**31, 2**32 - 1)
DEPTHS = ((8, 0), (8, 2), (16, 0), (8, 3), (8, 6), (1, 0), (16, 2), (4, 3), (7, 9))
# A palette, and texts and profiles that inflate to 8 MB.
EXTRA = (
    (), ((b"PLTE", b"\1\2\3" * 5),), ((b"tRNS", b"\0\1"),),
    ((b"zTXt", b"a\0\0" + zeros(2**23)),), ((b"iCCP", b"a\0\0" + zeros(2**23)),),
)  # fmt: skip


@st.composite
def made_up(draw) -> bytes:
    """A PNG with any header and as many rows as it says, or others; perhaps a text that inflates to megabytes."""
    width, height = draw(st.sampled_from(SIDES)), draw(st.sampled_from(SIDES))
    depth, colour = draw(st.sampled_from(DEPTHS))
    values = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    whole = (1 + (width * values * depth + 7) // 8) * height
    rows = zeros(min(whole, 2**24) if draw(st.integers(0, 3)) else draw(st.integers(0, 400)))
    return png(width, height, depth, colour, rows, *draw(st.sampled_from(EXTRA)))


@st.composite
def picture_bytes(draw) -> tuple[str, bytes]:
    """(what it is, a file's bytes): valid, damaged, two of them spliced, or made up. "valid" begins what is whole."""
    if draw(st.integers(0, 9)) == 0:
        return "made up", draw(made_up())
    name, data = draw(st.sampled_from(VALID))
    changes: Sequence[Edit] = draw(edits)
    if not changes:
        return f"valid {name}", data
    if draw(st.integers(0, 7)) == 0:
        _, other = draw(st.sampled_from(VALID))
        data = data[: len(data) // 2] + other[len(other) // 2 :]
    damaged = mutate(data, changes)
    if damaged.startswith(PNG) and draw(st.booleans()):
        damaged = with_checksums(damaged)
    return f"damaged {name}", damaged


def as_pillow_says(data: bytes) -> np.ndarray | None:
    """Pixels by the rules that the package states, said again in few words; None where these are not that simple."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        if picture.getexif().get(0x0112, 1) != 1 or "transparency" in picture.info:
            return None
        if picture.mode in ("L", "RGB"):
            return np.asarray(picture).reshape(picture.height, picture.width, -1)
        if picture.mode in ("1", "CMYK", "YCbCr"):
            flat = picture.convert("L" if picture.mode == "1" else "RGB")
            return np.asarray(flat).reshape(picture.height, picture.width, -1)
        if picture.mode in ("I;16", "I"):
            return np.rint(np.asarray(picture).astype(float) / 257).astype(np.uint8)[:, :, None]
        return None
