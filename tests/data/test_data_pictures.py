"""One picture: every mode, depth, transparency, orientation, crop and size means what picture.py says."""

import io

import numpy as np
import pytest
from PIL import Image

from ambient_ray.data import BadOptionError
from ambient_ray.data.picture import Fit, decode, fit_array, picture_formats, picture_suffixes, to_grey_or_rgb

FORMATS = picture_formats()
RAMP = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


def encode(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(picture, fit=Fit(), kind="PNG", **options):  # noqa: B008 - frozen
    return decode(encode(picture, kind, **options), fit, FORMATS)


def ramp(mode):
    return Image.fromarray(RAMP).convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("L", "PNG", 1),
        ("LA", "PNG", 1),
        ("RGB", "PNG", 3),
        ("RGBA", "PNG", 3),
        ("RGB", "BMP", 3),
        ("RGB", "TIFF", 3),
        ("CMYK", "TIFF", 3),
        ("RGBA", "TIFF", 3),
        ("RGB", "PPM", 3),
        ("L", "PPM", 1),
        ("RGBA", "TGA", 3),
    ],
)
def test_lossless_modes_keep_a_grey_ramp(mode, kind, channels):
    pixels = read(ramp(mode), kind=kind)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (8, 8, channels)
    np.testing.assert_array_equal(pixels, np.repeat(RAMP[..., None], channels, axis=2))


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_rare_modes_keep_a_grey_ramp(mode):
    source = ramp("RGB")
    if mode == "LAB":
        lightness = Image.fromarray(RAMP)
        middle = Image.new("L", (8, 8), 128)
        picture = Image.merge("LAB", (lightness, middle, middle))
    elif mode == "PA":
        picture = Image.fromarray(RAMP).convert("P").convert("PA")
    elif mode in ("RGBa", "La"):
        picture = source.convert({"RGBa": "RGBA", "La": "LA"}[mode]).convert(mode)
    else:
        picture = source.convert(mode)
    assert picture.mode == mode
    found = to_grey_or_rgb(picture)
    assert found.mode == ("L" if mode in ("La", "PA") else "RGB")
    pixels = np.asarray(found).astype(int)
    if mode == "LAB":  # lightness is not linear in grey, but black, white and order stay
        assert pixels.min() < 3
        assert np.all(np.diff(pixels.reshape(64, -1), axis=0) >= 0)
    else:
        assert np.abs(pixels.reshape(8, 8, -1) - RAMP[..., None]).max() <= 2


def test_jpeg_in_grey_colour_and_cmyk():
    flat = Image.new("RGB", (16, 16), (200, 100, 50))
    for picture, channels in ((flat, 3), (flat.convert("L"), 1), (flat.convert("CMYK"), 3)):
        pixels = read(picture, kind="JPEG", quality=95).astype(int)
        assert pixels.shape == (16, 16, channels)
        expected = np.asarray(flat if channels == 3 else picture).reshape(16, 16, channels)
        assert np.abs(pixels - expected).max() <= 6


def test_bilevel_is_black_and_white():
    bits = RAMP > 100
    np.testing.assert_array_equal(read(Image.fromarray(bits))[..., 0], np.where(bits, 255, 0))


def test_16_bits_use_the_whole_range():
    deep = np.array([[0, 128, 257, 32768, 65279, 65535]], dtype=np.uint16)
    expected = [[0, 0, 1, 128, 254, 255]]
    for kind in ("PNG", "TIFF"):
        pixels = read(Image.fromarray(deep), kind=kind)
        assert pixels.shape == (1, 6, 1)
        assert pixels[..., 0].tolist() == expected
    big_endian = to_grey_or_rgb(Image.frombytes("I;16B", (6, 1), deep.astype(">u2").tobytes()))
    assert np.asarray(big_endian).tolist() == expected
    assert np.asarray(to_grey_or_rgb(Image.fromarray(deep.astype(np.int32)))).tolist() == expected


def test_16_bit_pgm():
    data = b"P5 2 1 65535\n" + np.array([257, 65535], dtype=">u2").tobytes()
    assert decode(data, Fit(), FORMATS)[..., 0].tolist() == [[1, 255]]


def test_floating_point_is_0_to_1_or_0_to_255():
    unit = np.array([[0, 0.5, 1]], dtype=np.float32)
    assert read(Image.fromarray(unit), kind="TIFF")[..., 0].tolist() == [[0, 128, 255]]
    assert read(Image.fromarray(unit * 255), kind="TIFF")[..., 0].tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    "values",
    [np.float32([[-1, 1]]), np.float32([[0, 300]]), np.float32([[0, np.nan]]), np.int32([[0, 70000]])],
)
def test_values_without_meaning_are_refused(values):
    with pytest.raises(ValueError, match="pixels"):
        read(Image.fromarray(values), kind="TIFF")


def test_palettes_are_grey_or_colour_by_their_palette():
    grey = Image.fromarray(RAMP).convert("P")
    np.testing.assert_array_equal(read(grey)[..., 0], RAMP)
    colour = Image.new("P", (2, 1))
    colour.putpalette([255, 0, 0, 0, 0, 255])
    colour.putdata([0, 1])
    assert read(colour).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_transparency_is_laid_on_white():
    rgba = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128]]], dtype=np.uint8)
    assert read(Image.fromarray(rgba)).tolist() == [[[255, 255, 255], [10, 20, 30], [127, 127, 127]]]
    la = np.array([[[0, 0], [0, 255], [0, 128]]], dtype=np.uint8)
    assert read(Image.fromarray(la))[..., 0].tolist() == [[255, 0, 127]]
    indexed = Image.new("P", (2, 1))
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    indexed.putdata([0, 1])
    assert read(indexed, transparency=1).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    keyed = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    assert read(keyed, transparency=(4, 5, 6)).tolist() == [[[1, 2, 3], [255, 255, 255]]]
    grey_keyed = Image.fromarray(np.array([[7, 9]], dtype=np.uint8))
    assert read(grey_keyed, transparency=9)[..., 0].tolist() == [[7, 255]]


def test_hidden_colours_do_not_bleed_into_a_smaller_picture():
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)  # invisible black
    assert (read(Image.fromarray(rgba), Fit(resolution=8)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_exif_orientation_is_applied(orientation, kind):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # light at the top left
    # what a camera held this way stores: the inverse of the correction that the EXIF standard names
    turns = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # orientation -> the PIL transpose that undoes the correction
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(stored, kind=kind, exif=exif)
    assert pixels.shape == (16, 32, 3)
    assert np.abs(pixels.astype(int) - upright).max() <= 4


def test_animation_gives_the_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        pixels = read(frames[0], kind=kind, save_all=True, append_images=frames[1:], **options)
        assert pixels[0, 0].tolist() == [255, 0, 0], kind


def test_crop_is_the_centre():
    wide = np.zeros((8, 20, 3), dtype=np.uint8)
    wide[:, 6:14] = 255
    for picture in (wide, wide.transpose(1, 0, 2)):
        assert (read(Image.fromarray(picture), Fit(resolution=8)) == 255).all()


def test_downsizing_is_antialiased_and_keeps_brightness():
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = read(Image.fromarray(board.astype(np.uint8)), Fit(resolution=8))
    assert pixels.shape == (8, 8, 1)
    assert np.abs(pixels.astype(int) - 127).max() <= 8


def test_upsizing_works():
    pixels = read(Image.fromarray(RAMP), Fit(resolution=20))[..., 0].astype(int)
    assert pixels.shape == (20, 20)
    assert abs(pixels.mean() - RAMP.mean()) < 2


def test_large_jpegs_come_out_as_if_decoded_whole():
    yy, xx = np.mgrid[:512, :640]
    waves = np.stack([127 + 100 * np.sin(xx / 40), 127 + 100 * np.cos(yy / 30), (xx + yy) / 5], axis=2)
    data = encode(Image.fromarray(waves.astype(np.uint8)), "JPEG", quality=95)
    whole = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.LANCZOS, box=(64, 0, 576, 512))
    difference = decode(data, Fit(resolution=32), FORMATS).astype(int) - np.asarray(whole).astype(int)
    assert np.abs(difference).max() <= 4


def test_channels_convert():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert (read(red, Fit(channels=1)) == 76).all()  # ITU-R 601-2: .299 * 255
    grey = read(Image.new("L", (2, 2), 7), Fit(channels=3))
    assert grey.shape == (2, 2, 3)
    assert (grey == 7).all()


def test_arrays_are_fitted_like_pictures():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    assert fit_array(images, Fit()) is images
    assert fit_array(images, Fit(channels=3)) is images
    for fit in (Fit(resolution=5), Fit(channels=1), Fit(resolution=12), Fit(resolution=24, channels=1)):
        expected = np.stack([read(Image.fromarray(image), fit) for image in images])
        np.testing.assert_array_equal(fit_array(images, fit), expected)
    assert fit_array(images[..., :1], Fit(resolution=4, channels=3)).shape == (3, 4, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "dataset.resolution=0: expected a whole number"),
        ({"resolution": -8}, "dataset.resolution=-8"),
        ({"resolution": 8.5}, r"dataset.resolution=8\.5"),
        ({"resolution": True}, "dataset.resolution=True"),
        ({"channels": 2}, r"dataset.channels=2: expected 1 \(greyscale\) or 3"),
        ({"channels": 4}, "dataset.channels=4"),
    ],
)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(BadOptionError, match=message):
        Fit(**options)


def test_formats_are_those_that_decode():
    assert {
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
    } <= picture_suffixes()
    assert "EPS" not in FORMATS  # would run Ghostscript on the user's files
    assert not {".eps", ".ps", ".pdf", ".h5", ".npz", ".txt", ".gz"} & picture_suffixes()
