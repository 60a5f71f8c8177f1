"""Arrays: `.npz`, IDX, CIFAR-10's binary version, and the built-in digits."""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

from ambient_ray.data import (
    BadContentsError,
    BrokenFileError,
    ChecksumError,
    NoImagesError,
    UnknownFormatError,
    load_images,
    noise_bank,
    split,
)
from ambient_ray.data.picture import Fit
from ambient_ray.data.readers.cifar import read_cifar_archive

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 1, 0, 2, 2])
IDS = [f"{index:06d}" for index in range(7)]


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("x_train", "y_train"), ("arr_0", "arr_1")])
@pytest.mark.parametrize("images", [GREY, COLOUR, GREY[..., None]])
def test_npz(tmp_path, names, images):
    found = load_images(save(tmp_path / "set.npz", **dict(zip(names, (images, LABELS.astype(np.uint8)), strict=True))))
    np.testing.assert_array_equal(found.images, images.reshape(7, 6, 5, -1))
    assert found.labels.tolist() == LABELS.tolist()
    assert found.labels.dtype == np.int64
    assert found.ids == IDS
    assert (found.name, found.num_classes) == ("set", 3)


def test_npz_without_labels_and_fitted(tmp_path):
    found = load_images(save(tmp_path / "set.npz", arr_0=COLOUR), resolution=4, channels=1)
    assert found.labels is None
    assert found.shape == (1, 4, 4)
    assert load_images(save(tmp_path / "column.npz", x=GREY, y=LABELS[:, None])).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": GREY}, "holds pictures: expected the names images and labels"),
        ({"images": GREY / 255}, "holds images as float64: expected uint8"),
        (
            {"images": GREY.transpose(0, 2, 1)[:, None]},
            r"shape \[7, 1, 5, 6\]: expected \[N,H,W\], or \[N,H,W,C\]",
        ),
        ({"images": GREY[0]}, r"shape \[6, 5\]"),
        ({"images": GREY, "labels": LABELS[:3]}, r"labels of shape \[3\] for 7 images: expected \[7\]"),
        ({"images": GREY, "labels": LABELS / 2}, "labels as float64: expected whole numbers"),
        ({"images": GREY, "labels": LABELS - 1}, "labels from -1 to 1"),
        ({"images": GREY, "labels": LABELS + 10**9}, "expected classes numbered from 0"),
        ({"images": np.array([1, "a", None], dtype=object)}, "Python objects, which are never unpickled"),
    ],
)
def test_npz_with_other_contents_is_one_sentence(tmp_path, arrays, message):
    with pytest.raises(BadContentsError, match=message) as caught:
        load_images(save(tmp_path / "set.npz", **arrays))
    assert "set.npz" in str(caught.value)


def test_npz_broken_or_empty(tmp_path):
    data = save(tmp_path / "set.npz", images=COLOUR).read_bytes()
    for cut in (data[: len(data) // 2], b"", b"not a zip at all", data[:-30]):
        (tmp_path / "cut.npz").write_bytes(cut)
        with pytest.raises(BrokenFileError, match=r"cut\.npz is broken"):
            load_images(tmp_path / "cut.npz")
    with pytest.raises(NoImagesError, match="holds no images"):
        load_images(save(tmp_path / "none.npz", images=GREY[:0]))
    with (tmp_path / "bare.npz").open("wb") as file:
        np.save(file, GREY)
    with pytest.raises(BadContentsError, match="one bare array"):
        load_images(tmp_path / "bare.npz")


def idx(array, kind=8):
    return struct.pack(">BBBB", 0, 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, *, zipped, prefix="train", images=GREY, labels=LABELS, separator="-"):
    folder.mkdir(exist_ok=True)
    end = ".gz" if zipped else ""
    pack = gzip.compress if zipped else bytes
    path = folder / f"{prefix}-images{separator}idx{images.ndim}-ubyte{end}"
    path.write_bytes(pack(idx(images)))
    if labels is not None:
        name = f"{prefix}-labels{separator}idx1-ubyte{end}"
        (folder / name).write_bytes(pack(idx(labels.astype(np.uint8))))
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx(tmp_path, zipped, separator):
    path = write_idx(tmp_path / "mnist", zipped=zipped, separator=separator)
    write_idx(
        tmp_path / "mnist",
        zipped=zipped,
        prefix="t10k",
        images=GREY[:2],
        labels=LABELS[:2],
        separator=separator,
    )
    for found in (load_images(path), load_images(path.parent)):
        np.testing.assert_array_equal(found.images[..., 0], GREY)
        assert found.labels.tolist() == LABELS.tolist()
        assert found.ids == IDS
    assert load_images(path.parent).name == "mnist"
    assert len(load_images(path.with_name(path.name.replace("train", "t10k")))) == 2
    assert load_images(path, resolution=3, channels=3).shape == (3, 3, 3)


def test_idx_colour_without_labels_and_one_form_beside_the_other(tmp_path):
    path = write_idx(tmp_path / "a", zipped=False, images=COLOUR, labels=None)
    found = load_images(path)
    assert found.labels is None
    np.testing.assert_array_equal(found.images, COLOUR)
    path = write_idx(tmp_path / "b", zipped=True)
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))  # both forms of the same images
    assert load_images(path.parent).labels.tolist() == LABELS.tolist()


def test_idx_by_its_first_bytes(tmp_path):
    (tmp_path / "pictures.dat").write_bytes(idx(GREY))
    found = load_images(tmp_path / "pictures.dat")
    assert len(found) == 7
    assert found.labels is None


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("cut", [0, 3, 9, 100, -1])
def test_idx_truncated_is_named(tmp_path, zipped, cut):
    path = write_idx(tmp_path / "mnist", zipped=zipped)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BrokenFileError, match=r"train-images-idx3-ubyte(\.gz)? is broken"):
        load_images(path.parent)


def test_idx_with_other_contents_is_one_sentence(tmp_path):
    path = write_idx(tmp_path / "a", zipped=False, labels=LABELS[:3])
    with pytest.raises(BadContentsError, match=r"labels of shape \[3\] for 7 images"):
        load_images(path)
    with pytest.raises(BadContentsError, match="give the file of the images"):
        load_images(path.with_name("train-labels-idx1-ubyte"))
    path.write_bytes(idx(GREY.astype(">i4"), kind=0x0C))
    with pytest.raises(BadContentsError, match="type 0x0c: expected 0x08"):
        load_images(path)
    write_idx(tmp_path / "two", zipped=True, prefix="letters-train")
    write_idx(tmp_path / "two", zipped=True, prefix="digits-train")
    with pytest.raises(UnknownFormatError, match=r"several sets of images \(digits-train.*, letters-train"):
        load_images(tmp_path / "two")


CIFAR = RNG.integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
CIFAR_LABELS = RNG.integers(0, 10, 15)


def cifar_files():
    """Five batches of three records: a label byte, then the three colour planes."""
    records = np.concatenate(
        [CIFAR_LABELS[:, None].astype(np.uint8), CIFAR.transpose(0, 3, 1, 2).reshape(15, -1)], axis=1
    )
    files = {f"data_batch_{number + 1}.bin": records[3 * number : 3 * number + 3].tobytes() for number in range(5)}
    return files | {"test_batch.bin": records[:1].tobytes(), "batches.meta.txt": b"airplane\n"}


def write_archive(path, files, folder="cifar-10-batches-bin"):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def check_cifar(found):
    np.testing.assert_array_equal(found.images, CIFAR)
    assert found.labels.tolist() == CIFAR_LABELS.tolist()
    assert found.class_names[3] == "cat"
    assert found.num_classes == 10
    assert found.ids == [f"{index:06d}" for index in range(15)]
    assert found.name == "cifar10"


def test_cifar10_folder(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, data in cifar_files().items():
        (folder / name).write_bytes(data)
    check_cifar(load_images(folder))
    check_cifar(load_images(tmp_path))
    assert load_images(tmp_path, resolution=16).shape == (3, 16, 16)
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(BadContentsError, match=r"lacks data_batch_4\.bin"):
        load_images(folder)


def test_cifar10_archive_is_checked_against_the_published_hash(tmp_path):
    path = write_archive(tmp_path / "cifar-10-binary.tar.gz", cifar_files())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    check_cifar(read_cifar_archive(path, Fit(), checked=False))
    with pytest.raises(ChecksumError, match=f"its MD5 is {md5}, not c32a1d4ab5d03f1284b67883e8d87530"):
        load_images(path)


def test_cifar10_damaged_or_another_archive(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", cifar_files())
    (tmp_path / "cut.tar.gz").write_bytes(path.read_bytes()[:20_000])
    for name in ("cut.tar.gz", "empty.tar.gz", "text.tar.gz"):
        if not (tmp_path / name).exists():
            (tmp_path / name).write_bytes(b"text" if "text" in name else b"")
        with pytest.raises(BrokenFileError, match=f"{name} is broken"):
            load_images(tmp_path / name)
    short = cifar_files() | {"data_batch_2.bin": b"\0" * 3000}
    with pytest.raises(BrokenFileError, match=r"data_batch_2\.bin is broken \(3,000 bytes are no whole number"):
        read_cifar_archive(write_archive(tmp_path / "short.tar.gz", short), Fit(), checked=False)
    wrong = cifar_files() | {"data_batch_5.bin": b"\x0a" + b"\0" * 3072}
    with pytest.raises(BadContentsError, match=r"labels from \d to 10"):
        read_cifar_archive(write_archive(tmp_path / "wrong.tar.gz", wrong), Fit(), checked=False)
    other = write_archive(tmp_path / "other.tar.gz", {"photo.jpg": b"x"}, "photos")
    with pytest.raises(BadContentsError, match=r"read are cifar-10-binary\.tar\.gz and cifar-100-binary\.tar\.gz"):
        read_cifar_archive(other, Fit(), checked=False)


def test_cifar10_pickles_are_never_opened(tmp_path):
    pickled = {"data_batch_1": b"\x80\x04.", "batches.meta": b"\x80\x04."}
    path = write_archive(tmp_path / "cifar-10-python.tar.gz", pickled, "cifar-10-batches-py")
    with pytest.raises(BadContentsError, match="never unpickled: give the binary version"):
        load_images(path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, data in pickled.items():
        (folder / name).write_bytes(data)
    with pytest.raises(UnknownFormatError, match="never unpickled: give the binary version"):
        load_images(folder)


def test_digits():
    found = load_images("digits")
    assert len(found) == 1797
    assert found.shape == (1, 8, 8)
    assert found.num_classes == 10
    assert np.unique(found.images).tolist() == sorted({round(level * 255 / 16) for level in range(17)})
    assert found.content_hash == load_images("digits").content_hash
    assert found.content_hash == "58656f28ca0519d7904fd80ce3f66f1dbdd327ea41e046abcd453e003f5508e3"
    assert load_images("digits", resolution=16, channels=3).shape == (3, 16, 16)


def test_digits_become_a_subset_with_noise():
    parts = split(load_images("digits"), 300, seed=0)
    assert (len(parts.train), len(parts.heldout), parts.duplicates) == (300, 1497, ())
    assert set(np.bincount(parts.train.labels).tolist()) <= {29, 30, 31}
    assert noise_bank(parts.train.ids, parts.train.shape, seed=0).shape == (300, 1, 1, 8, 8)


def test_a_folder_called_digits_is_reached_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    save(tmp_path / "digits.npz", images=GREY)
    assert len(load_images("digits")) == 1797
    with pytest.raises(NoImagesError):
        load_images("./digits")
