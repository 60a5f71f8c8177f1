"""Arrays: `.npz`, IDX, CIFAR-10's binary version, and the built-in digits."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from ambient_ray.data import (
    BadContentsError,
    BrokenFileError,
    ChecksumError,
    NoImagesError,
    TooLargeError,
    UnknownFormatError,
    load_images,
    noise_bank,
    picture,
    split,
)
from ambient_ray.data.picture import Fit
from ambient_ray.data.readers import cifar
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


def array_file(header):
    """An `.npy` file with this header and no data."""
    packed = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(packed)) + packed


@pytest.mark.parametrize(
    "header", ["{", "(" * 90 + ")" * 90, "{'descr': [], 'fortran_order': False, 'shape': (1, 'x')}", "1 1"]
)
def test_a_header_that_numpy_cannot_parse_is_a_broken_file(tmp_path, header):
    (tmp_path / "set.npy").write_bytes(array_file(header))
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images.npy", array_file(header))
    for name in ("set.npy", "set.npz"):
        with pytest.raises(BrokenFileError, match=rf"{name} is broken \(.+\): save"):
            load_images(tmp_path / name)


def test_an_npz_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images", b"text")
    with pytest.raises(BadContentsError, match="holds images as no array"):
        load_images(tmp_path / "set.npz")


def test_archives_that_unpack_to_more_than_the_memory_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(picture.psutil, "virtual_memory", lambda: SimpleNamespace(total=10**6))
    save(tmp_path / "set.npz", images=np.zeros((2000, 32, 32), dtype=np.uint8))
    with pytest.raises(TooLargeError, match=r"images of .*set\.npz unpacks to 0\.0 GB and this machine has"):
        load_images(tmp_path / "set.npz")
    bomb = struct.pack(">4B3I", 0, 0, 8, 3, 2000, 32, 32) + bytes(2000 * 32 * 32)
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb))
    with pytest.raises(TooLargeError, match=r"by its header, .*images-idx3-ubyte\.gz holds"):
        load_images(tmp_path / "images-idx3-ubyte.gz")


def test_no_more_of_a_gzip_is_unpacked_than_its_header_says(tmp_path):
    """A gzip of gigabytes behind the header of one image is refused by its first byte too many."""
    (tmp_path / "images-idx3-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 1, 2, 2) + bytes(2**24))
    )
    tracemalloc.start()
    try:
        with pytest.raises(BrokenFileError, match="more than 20 bytes long, its header says 20"):
            load_images(tmp_path / "images-idx3-ubyte.gz")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((2**31, 2**31, 0), "so none: expected one image"), ((1, 1, 1, 1, 1), "data of 5 dimensions")],
)
def test_idx_shapes_that_no_array_has(tmp_path, sizes, message):
    header = struct.pack(f">4B{len(sizes)}I", 0, 0, 8, len(sizes), *sizes)
    (tmp_path / "images-idx3-ubyte").write_bytes(header + bytes(1))
    with pytest.raises((BadContentsError, NoImagesError), match=message):
        load_images(tmp_path / "images-idx3-ubyte")


@pytest.mark.parametrize(
    ("key", "value"), [("ids", [["0"], ["1"]]), ("ids", 3), ("class_names", 1.5), ("name", None), ("skipped", [1])]
)
def test_names_of_another_kind(tmp_path, key, value):
    np.save(tmp_path / "images.npy", GREY)
    (tmp_path / "set.json").write_text(json.dumps({key: value}))
    with pytest.raises(BrokenFileError, match=rf"set\.json is broken \(its {key} are no"):
        load_images(tmp_path)
    (tmp_path / "set.json").write_text("[" * 100_000)
    with pytest.raises(BrokenFileError, match=r"set\.json is broken"):
        load_images(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_that_unpacks_to_gigabytes_is_given_up(tmp_path, monkeypatch, kind):
    """As a batch's contents, as a name, as an extended header: what would be read at once is bounded."""
    monkeypatch.setattr(cifar, "MOST_BYTES", 2**20)
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size, member.type = 2**33, kind
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**21)))
    with pytest.raises(BadContentsError, match="is neither: the tar archives that are read are"):
        load_images(tmp_path / "set.tar.gz")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_a_tar_is_never_followed(tmp_path, kind):
    member = tarfile.TarInfo("cifar-100-binary/train.bin")
    member.type, member.linkname = kind, "../../outside"
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.addfile(member)
    with pytest.raises(BadContentsError, match="is neither: the tar archives that are read are"):
        load_images(tmp_path / "set.tar.gz")
