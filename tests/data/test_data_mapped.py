"""Sets larger than memory: the same set, split and subset as in memory, in memory that does not grow with the set."""

import json
import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image

from ambient_ray.data import (
    BadContentsError,
    BrokenFileError,
    ImageSet,
    TooFewImagesError,
    TooLargeError,
    load_images,
    split,
)
from ambient_ray.data.image_set import content_hash

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
IMAGES[41] = IMAGES[7]
LABELS = RNG.integers(0, 4, 60)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mapped"


def same(one, two):
    assert (one.ids, one.content_hash, one.class_names, one.skipped) == (
        two.ids, two.content_hash, two.class_names, two.skipped
    )  # fmt: skip
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels, two.labels)


def same_split(one, two):
    for side in ("train", "heldout"):
        same(getattr(one, side), getattr(two, side))
    np.testing.assert_array_equal(one.nested, two.nested)
    assert (one.duplicates, one.unused) == (two.duplicates, two.unused)


@pytest.fixture
def folder(tmp_path):
    """Pictures in four classes, and where the broken one is to be."""
    for index, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = tmp_path / "pictures" / "abcd"[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "pictures"


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_mapped_array_is_the_same_set_as_in_memory(tmp_path, form, labelled):
    plain = tmp_path / "set.npz"
    np.savez(plain, images=IMAGES, **({"labels": LABELS} if labelled else {}))
    path, labels = (
        (tmp_path / "set.npy", tmp_path / "set.labels.npy")
        if form == "file"
        else (tmp_path / "x" / "images.npy", tmp_path / "x" / "labels.npy")
    )
    path.parent.mkdir(exist_ok=True)
    np.save(path, IMAGES)
    if labelled:
        np.save(labels, LABELS)
    mapped, held = load_images(path if form == "file" else path.parent), load_images(plain)
    assert mapped.memory_mapped
    assert not held.memory_mapped
    assert not mapped.images.flags.writeable
    same(mapped, held)
    for heldout in (None, 20):
        parts = split(mapped, 10, seed=3, heldout=heldout)
        same_split(parts, split(held, 10, seed=3, heldout=heldout))
        assert not parts.heldout.memory_mapped
    same(mapped.subset([5, 2, 41]), held.subset([5, 2, 41]))


@pytest.mark.parametrize("resolution", [None, 6])
def test_pictures_are_decoded_once_into_a_mapped_file(folder, cache, monkeypatch, resolution):
    held = load_images(folder, resolution=resolution)
    mapped = load_images(folder, resolution=resolution, memory_map=True)
    assert mapped.memory_mapped
    same(mapped, held)
    assert mapped.name == held.name
    same_split(split(mapped, 12, seed=0), split(held, 12, seed=0))
    monkeypatch.setattr("ambient_ray.data.readers.pictures.decode", lambda *args: pytest.fail("decoded again"))
    same(load_images(folder, resolution=resolution, memory_map=True), held)
    assert len(list(cache.iterdir())) == 1


def test_a_changed_source_is_converted_again(folder, cache):
    before = load_images(folder, memory_map=True)
    Image.fromarray(255 - IMAGES[0]).save(folder / "a" / "new.png")
    after = load_images(folder, memory_map=True)
    assert len(after) == len(before) + 1
    assert len(list(cache.iterdir())) == 2
    same(after, load_images(folder))


def test_broken_pictures_leave_no_gap_in_the_file(folder, cache):
    for index, name in enumerate(("a/000x.png", "c/zzz.png")):
        (folder / name).write_bytes(b"\x89PNG" * index)
    held = load_images(folder, skip_broken=True)
    same(load_images(folder, skip_broken=True, memory_map=True), held)
    same(load_images(folder, skip_broken=True, memory_map=True), held)
    assert held.skipped == ("a/000x.png", "c/zzz.png")
    (kept,) = cache.iterdir()
    assert len(np.load(kept / "images.npy")) == 60


def test_a_broken_picture_leaves_nothing_in_the_cache(folder, cache):
    (folder / "a" / "bad.png").write_bytes(b"x")
    with pytest.raises(BrokenFileError, match=r"a/bad\.png is broken"):
        load_images(folder, memory_map=True)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("resolution", [None, 5])
def test_arrays_and_mapped_arrays_can_be_converted_too(tmp_path, resolution):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS)
    np.save(tmp_path / "bare.npy", IMAGES)
    np.save(tmp_path / "bare.labels.npy", LABELS)
    held = load_images(tmp_path / "set.npz", resolution=resolution)
    for name in ("set.npz", "bare.npy"):
        mapped = load_images(tmp_path / name, resolution=resolution, memory_map=True)
        assert mapped.memory_mapped
        same(mapped, held)


def test_a_damaged_copy_is_refused(folder, cache):
    load_images(folder, memory_map=True)
    (kept,) = cache.iterdir()
    images = np.load(kept / "images.npy")
    images[3, 0, 0, 0] ^= 1
    np.save(kept / "images.npy", images)
    with pytest.raises(BrokenFileError, match=r"its content is not that of set\.json.*remove it"):
        load_images(folder, memory_map=True)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), BadContentsError, "images as float32: expected uint8"),
        (np.zeros((4, 8), np.uint8), BadContentsError, r"shape \[4, 8\]: expected \[N,H,W\]"),
        (np.array([{}, 1], dtype=object), BadContentsError, "Python objects, which are never unpickled"),
        (b"", BrokenFileError, "is broken"),
        (b"\x93NUMPY\x01\x00", BrokenFileError, "is broken"),
    ],
)
def test_bad_array_files_are_one_sentence(tmp_path, content, error, message):
    path = tmp_path / "set.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(error, match=rf"set\.npy .*{message}"):
        load_images(path)


def test_a_cut_array_and_wrong_names_are_one_sentence(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    (tmp_path / "set.json").write_text(json.dumps({"ids": ["a", "a"]}))
    with pytest.raises(BadContentsError, match="holds 60 images and 1 different ids"):
        load_images(tmp_path)
    (tmp_path / "set.json").write_text("{")
    with pytest.raises(BrokenFileError, match=r"set\.json is broken"):
        load_images(tmp_path)
    (tmp_path / "set.json").unlink()
    np.save(tmp_path / "labels.npy", LABELS[:5])
    with pytest.raises(BadContentsError, match=r"labels of shape \[5\] for 60 images"):
        load_images(tmp_path)
    data = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(data[:-100])
    with pytest.raises(BrokenFileError, match=r"images\.npy is broken"):
        load_images(tmp_path)


def test_what_memory_cannot_hold_is_refused_with_the_way_out(folder, monkeypatch):
    memory = type("Memory", (), {"total": 10_000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(TooLargeError, match=r"60 images of 12x12 take .* GB .*: set dataset\.memory_map=true and"):
        load_images(folder)
    assert load_images(folder, memory_map=True).memory_mapped


def test_a_private_mapping_keeps_its_changes(tmp_path):
    """Unloading what was read would throw away changes that are in no file."""
    np.save(tmp_path / "set.npy", IMAGES)
    changed = np.load(tmp_path / "set.npy", mmap_mode="c")
    changed[:] = 255 - IMAGES
    assert content_hash(changed, None) == content_hash(255 - IMAGES, None)
    found = ImageSet(changed, None, [str(index) for index in range(60)])
    split(found, 4, seed=0)
    np.testing.assert_array_equal(found.images, 255 - IMAGES)


def test_heldout_images_are_drawn_by_seed_in_the_classes_shares():
    held = ImageSet(IMAGES, LABELS, [f"{index:02d}" for index in range(60)])
    everything = split(held, 12, seed=0)
    drawn = split(held, 12, seed=0, heldout=20)
    assert drawn.train.ids == everything.train.ids
    assert set(drawn.heldout.ids) < set(everything.heldout.ids)
    assert (len(drawn.heldout), drawn.unused) == (20, len(everything.heldout) - 20)
    share = np.bincount(everything.heldout.labels, minlength=4) * 20 / len(everything.heldout)
    assert np.all(np.abs(np.bincount(drawn.heldout.labels, minlength=4) - share) < 1)
    assert drawn.heldout.ids == split(held, 12, seed=0, heldout=20).heldout.ids
    assert drawn.heldout.ids != split(held, 12, seed=1, heldout=20).heldout.ids
    assert set(drawn.heldout.ids) < set(split(held, 12, seed=0, heldout=30).heldout.ids)
    assert len(set(drawn.heldout.ids) & set(split(held, 16, seed=0, heldout=20).heldout.ids)) >= 15
    assert "27 not used (evaluation.heldout)" in drawn.describe()
    assert split(held, 12, seed=0, heldout=10_000).heldout.ids == everything.heldout.ids
    with pytest.raises(TooFewImagesError, match=r"evaluation\.heldout=1: at least 2"):
        split(held, 12, seed=0, heldout=1)


# The kernel's own high-water mark of this program: getrusage would start from that of the process before exec.
PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
"""
GROWTH = """
import sys
from ambient_ray.data import load_images, split
from ambient_ray.data.subsets import published_lists

load_images(sys.argv[1])  # a small set first: what is imported late counts as the program's
before = peak()
found = load_images(sys.argv[2])
parts = split(found, 300, seed=0, heldout=500)
published_lists(found, [300, 1000], seed=0)
print(len(found), len(parts.train), len(parts.heldout), peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts resident memory as Linux does")
def test_memory_does_not_grow_with_the_set(tmp_path):
    """200 MB of images: hash, duplicates, split, held-out images and lists, in a process that grows by less than 60."""
    large = np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=(17_000, 64, 64, 3))
    for start in range(0, len(large), 1000):
        large[start : start + 1000] = RNG.integers(0, 256, (1000, 64, 64, 3), dtype=np.uint8)
    large.flush()
    assert large.nbytes > 200e6
    np.save(tmp_path / "large.labels.npy", np.arange(17_000) % 10)
    np.save(tmp_path / "small.npy", IMAGES)
    script = [sys.executable, "-c", PEAK + GROWTH, str(tmp_path / "small.npy"), str(tmp_path / "large.npy")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    count, train, heldout, growth = done.stdout.split()
    assert (count, train, heldout) == ("17000", "300", "500")
    assert float(growth) < 60


CONVERT = """
import sys
from ambient_ray.data import load_images
load_images(sys.argv[1], memory_map=True)
before = peak()
assert len(load_images(sys.argv[2], resolution=256, memory_map=True)) == 400
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts resident memory as Linux does")
def test_memory_does_not_grow_while_pictures_are_converted(tmp_path):
    """400 pictures that become 79 MB: less than 40 MB at a time."""
    for folder, count in (("small", 4), ("large", 400)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            Image.fromarray(IMAGES[index % 60] ^ (index // 60)).save(tmp_path / folder / f"{index:05d}.png")
    script = [sys.executable, "-c", PEAK + CONVERT, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40
