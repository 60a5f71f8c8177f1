"""ImageSet and the pixel conversions."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ambient_ray import data
from ambient_ray.data import ImageSet, to_float, to_uint8
from ambient_ray.errors import UserError


def example(count=5, channels=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 6, 4, channels), dtype=np.uint8)
    return ImageSet(images, np.arange(count) % 3, [f"{index}.png" for index in range(count)], name="some")


def test_shape_length_classes_and_description():
    some = example()
    assert (len(some), some.shape, some.num_classes) == (5, (3, 6, 4), 3)
    assert some.class_names == ("0", "1", "2")
    assert some.describe() == (
        "some: 5 images of 4x6, 3 channels, 3 classes, 0 broken files skipped, duplicates not looked for"
    )
    unlabelled = ImageSet(some.images[:1, ..., :1], None, ["x"], skipped=("bad.png",))
    assert unlabelled.num_classes is None
    assert unlabelled.describe() == (
        "images: 1 image of 4x6, 1 channel, no labels, 1 broken file skipped, duplicates not looked for"
    )


def test_subset_keeps_everything_in_step():
    some = example()
    part = some.subset([4, 0])
    assert part.ids == ["4.png", "0.png"]
    np.testing.assert_array_equal(part.images, some.images[[4, 0]])
    assert part.labels.tolist() == [1, 0]
    assert part.num_classes == 3
    assert some.subset(np.array([True, False, False, False, True])).ids == ["0.png", "4.png"]
    assert len(some.subset([])) == 0


def test_content_hash_is_of_the_content_alone():
    some = example()
    renamed = ImageSet(some.images.copy(), some.labels, list("abcde"), name="other", class_names=("x", "y", "z"))
    assert some.content_hash == renamed.content_hash
    assert len(some.content_hash) == 64
    changed = some.images.copy()
    changed[2, 3, 1, 0] ^= 1
    others = [
        ImageSet(changed, some.labels, some.ids),
        ImageSet(some.images, None, some.ids),
        ImageSet(some.images, np.roll(some.labels, 1), some.ids),
        ImageSet(some.images.reshape(5, 4, 6, 3), some.labels, some.ids),
        some.subset([1, 0, 2, 3, 4]),
        some.subset([0, 1, 2, 3]),
    ]
    assert len({some.content_hash, *(other.content_hash for other in others)}) == 7
    assert some.subset(range(5)).content_hash == some.content_hash


def test_is_read_only_and_survives_pickle():
    some = example()
    with pytest.raises(ValueError, match="read-only"):
        some.images[0] = 0
    with pytest.raises(AttributeError):
        some.ids = []
    again = pickle.loads(pickle.dumps(some))
    assert again.content_hash == some.content_hash
    assert again.ids == some.ids


def test_does_not_copy_nor_lock_the_given_array():
    images = np.zeros((2, 2, 2, 1), dtype=np.uint8)
    made = ImageSet(images, None, ["a", "b"])
    assert np.shares_memory(made.images, images)
    images[0] = 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3))}, "uint8"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8)}, "uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "uint8"),
        ({"ids": ["a"]}, "different ids"),
        ({"ids": ["a", "a"]}, "different ids"),
        ({"labels": np.array([0])}, "labels"),
        ({"labels": np.array([0, -1])}, "labels"),
        ({"labels": np.array([0, 2]), "class_names": ("x", "y")}, "labels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed, message):
    parts = {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": None, "ids": ["a", "b"]}
    with pytest.raises(ValueError, match=message):
        ImageSet(**(parts | changed))


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(*(st.integers(1, 5),) * 3, st.sampled_from([1, 3]))))
def test_pixels_there_and_back(images):
    x = to_float(images)
    count, height, width, channels = images.shape
    assert x.shape == (count, channels, height, width)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert np.abs(x).max() <= 1
    np.testing.assert_array_equal(to_uint8(x), images)


def test_every_grey_level_is_x_over_127_5_minus_1():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(to_float(levels).ravel(), np.arange(256) / 127.5 - 1, atol=1e-7)
    for dtype in (np.float16, np.float64):
        np.testing.assert_array_equal(to_uint8(to_float(levels).astype(dtype)), levels)


def test_back_to_pixels_rounds_clips_and_refuses_nan():
    x = np.array([-np.inf, -1.5, -1, -0.9999, 0.0001, 0.999, 1, 7, np.inf], dtype=np.float32).reshape(1, 1, 3, 3)
    before = x.copy()
    assert to_uint8(x).ravel().tolist() == [0, 0, 0, 0, 128, 255, 255, 255, 255]
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(np.full((1, 1, 1, 1), np.nan, np.float32))
    with pytest.raises(ValueError, match="floating"):
        to_uint8(np.zeros((1, 1, 1, 1), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        to_float(np.zeros((1, 1, 1), np.uint8))


def test_the_room_is_light_and_documented():
    heavy = ("torch", "sklearn", "scipy", "ray", "mlflow", "hydra")
    code = f"import sys, ambient_ray.data; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    for name in data.__all__:
        thing = getattr(data, name)
        if name.endswith("Error"):
            assert issubclass(thing, UserError)
        assert name == "BUILT_IN" or thing.__doc__
