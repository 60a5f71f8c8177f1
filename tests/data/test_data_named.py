"""Data sets by name: small archives in the published layouts, from a server on this machine."""

import gzip
import hashlib
import io
import shutil
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from ambient_ray.data import BadContentsError, ChecksumError, FetchError, UnknownFormatError, load_images
from ambient_ray.data.picture import Fit
from ambient_ray.data.readers import named
from ambient_ray.data.readers.cifar import read_cifar_archive

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
FINE, COARSE = [7, 0, 99, 42, 7, 1], [3, 4, 5, 6, 3, 19]
WNIDS = ("n01443537", "n01629819", "n01641577")


def cifar100_files():
    labels = np.array([COARSE, FINE], dtype=np.uint8).T
    records = np.concatenate([labels, PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)], axis=1)
    return {
        "train.bin": records.tobytes(),
        "test.bin": records[:1].tobytes(),
        "fine_label_names.txt": "".join(f"fine{label}\n" for label in range(100)).encode(),
        "coarse_label_names.txt": b"coarse\n" * 20,
    }


def write_tar(path, files, folder):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_cifar10(path):
    records = np.concatenate(
        [np.arange(6, dtype=np.uint8)[:, None], PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)], axis=1
    )
    files = {f"data_batch_{number}.bin": records[number : number + 1].tobytes() for number in range(1, 6)}
    return write_tar(path, files, "cifar-10-batches-bin")


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def jpeg(number, *, grey=False):
    colour = np.full((64, 64, 3), [40 * number, 90, 255 - 20 * number], dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colour[..., 0] if grey else colour).save(file, "JPEG")
    return file.getvalue()


def tiny_imagenet_files():
    """As published: sorted training images, one of them grey; val and test beside them, unsorted."""
    files = {f"train/{wnid}/images/{wnid}_{k}.JPEG": jpeg(k, grey=k == 1) for wnid in WNIDS for k in range(3)}
    files |= {f"train/{wnid}/{wnid}_boxes.txt": b"x" for wnid in WNIDS}
    files |= {f"{part}/images/{part}_{k}.JPEG": jpeg(k) for part in ("val", "test") for k in range(4)}
    return files | {"wnids.txt": b"x", "val/val_annotations.txt": b"x"}


def write_tiny_imagenet(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in tiny_imagenet_files().items():
            archive.writestr(f"tiny-imagenet-200/{name}", data)
    return path


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The four sets, small, served under their names with their own hashes; gives the folder that is served."""
    served = tmp_path / "served"
    served.mkdir()
    write_cifar10(served / "cifar-10-binary.tar.gz")
    write_tar(served / "cifar-100-binary.tar.gz", cifar100_files(), "cifar-100-binary")
    write_idx(served / "train-images-idx3-ubyte.gz", PIXELS[..., 0][:, :28, :28])
    write_idx(served / "train-labels-idx1-ubyte.gz", np.array([9, 0, 1, 2, 3, 9], dtype=np.uint8))
    write_tiny_imagenet(served / "tiny-imagenet-200.zip")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for name, one in list(named.NAMED.items()):
            files = []
            for url, _ in one.files:
                file = url.rsplit("/", 1)[1]
                md5 = hashlib.md5((served / file).read_bytes()).hexdigest()
                files.append((f"http://127.0.0.1:{running.server_port}/{file}", md5))
            monkeypatch.setitem(named.NAMED, name, replace(one, files=tuple(files)))
        monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
        yield served
        running.shutdown()


@pytest.mark.parametrize(
    ("name", "count", "shape", "classes", "first"),
    [
        ("cifar10", 5, (3, 32, 32), 10, "automobile"),
        ("cifar100", 6, (3, 32, 32), 100, "fine7"),
        ("fashion_mnist", 6, (1, 28, 28), 10, "Ankle boot"),
        ("tiny_imagenet", 9, (3, 64, 64), 3, WNIDS[0]),
    ],
)
def test_a_named_set_is_fetched_once_and_read(published, tmp_path, name, count, shape, classes, first):
    found = load_images(name, channels=shape[0])
    assert (len(found), found.shape, found.num_classes, found.name) == (count, shape, classes, name)
    assert found.class_names[found.labels[0]] == first
    assert all(file.is_file() for file in (tmp_path / "cache" / "data" / name).iterdir())
    shutil.rmtree(published)
    assert load_images(name, channels=shape[0]).content_hash == found.content_hash


def test_a_fetched_file_that_was_changed_is_refused(published, tmp_path):
    load_images("cifar10")
    (kept,) = (tmp_path / "cache" / "data" / "cifar10").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(ChecksumError, match=r"cifar-10-binary\.tar\.gz is not the published .*remove it"):
        load_images("cifar10")


def test_another_file_than_the_published_one_is_refused(published):
    write_cifar10(published / "cifar-10-binary.tar.gz").write_bytes(b"a page that says: log in first")
    with pytest.raises(
        ChecksumError, match=r"gave another file .* fetch it by other means and give it as dataset\.path="
    ):
        load_images("cifar10")


def test_no_connection_names_the_way_out(published):
    (published / "tiny-imagenet-200.zip").unlink()
    with pytest.raises(FetchError, match=r"tiny-imagenet-200\.zip cannot be fetched .*404.*give it as dataset\.path=$"):
        load_images("tiny_imagenet")


def test_the_published_hashes_are_those_of_the_publishers_pages():
    assert {name: [md5 for _, md5 in one.files] for name, one in named.NAMED.items()} == {
        "cifar10": ["c32a1d4ab5d03f1284b67883e8d87530"],
        "cifar100": ["03b5dce01913d631647c71ecec9e9cb8"],
        "fashion_mnist": ["8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"],
        "tiny_imagenet": ["90528d7ca1a48142e341f4ef8d21d0de"],
    }


def check_cifar100(found):
    np.testing.assert_array_equal(found.images, PIXELS)
    assert found.labels.tolist() == FINE
    assert found.class_names == tuple(f"fine{label}" for label in range(100))
    assert found.ids == [f"{index:06d}" for index in range(6)]
    assert found.name == "cifar100"


def test_cifar100_has_the_fine_labels(tmp_path):
    files = cifar100_files()
    path = write_tar(tmp_path / "cifar-100-binary.tar.gz", files, "cifar-100-binary")
    check_cifar100(read_cifar_archive(path, Fit(), checked=False))
    with pytest.raises(ChecksumError, match="not 03b5dce01913d631647c71ecec9e9cb8"):
        load_images(path)
    folder = tmp_path / "x" / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    check_cifar100(load_images(folder))
    check_cifar100(load_images(folder.parent))


def test_cifar100_that_is_incomplete_or_pickled_is_one_sentence(tmp_path):
    files = cifar100_files()
    del files["fine_label_names.txt"]
    path = write_tar(tmp_path / "a.tar.gz", files, "cifar-100-binary")
    with pytest.raises(BadContentsError, match=r"lacks fine_label_names\.txt: fetch it again"):
        read_cifar_archive(path, Fit(), checked=False)
    pickled = write_tar(tmp_path / "b.tar.gz", {"train": b"\x80\x04.", "meta": b"\x80\x04."}, "cifar-100-python")
    with pytest.raises(BadContentsError, match=r"never unpickled: give the binary version, cifar-100-binary\.tar\.gz"):
        load_images(pickled)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "meta"):
        (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UnknownFormatError, match=r"never unpickled: .*, cifar-100-binary\.tar\.gz"):
        load_images(folder)


def test_tiny_imagenet_gives_its_training_images_however_it_is_given(tmp_path):
    path = write_tiny_imagenet(tmp_path / "tiny-imagenet-200.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    sources = (path, path / "tiny-imagenet-200" / "train", tmp_path / "unpacked")
    sets = [load_images(source, channels=3) for source in (*sources, tmp_path / "unpacked" / "tiny-imagenet-200")]
    for found in sets:
        assert found.class_names == WNIDS
        assert found.ids[:3] == [f"{WNIDS[0]}/images/{WNIDS[0]}_{k}.JPEG" for k in range(3)]
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert (found.ids, found.content_hash) == (sets[0].ids, sets[0].content_hash)


@pytest.mark.parametrize("names", ["{0:05d}/{1:05d}.png", "{2:05d}/img{1:08d}.png"])
def test_folders_that_number_images_in_portions_are_no_classes(tmp_path, names):
    """FFHQ's own layout (folders by thousands) and the one that EDM's converter makes."""
    for number in (0, 1, 999, 1000, 1001, 69_999):
        path = tmp_path / names.format(number // 1000 * 1000, number, number // 1000)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), number % 251, dtype=np.uint8)).save(path)
    found = load_images(tmp_path)
    assert (len(found), found.labels) == (6, None)
    assert load_images(tmp_path, labels="folders").num_classes == 3
    assert load_images(tmp_path, labels="folders").ids == found.ids


def test_numbered_classes_stay_classes(tmp_path):
    for name in ("00000/cat1.png", "00001/dog2.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    assert load_images(tmp_path).class_names == ("00000", "00001")


def test_labels_none_takes_any_layout_without_labels(tmp_path):
    for name in ("a.png", "cats/b.png", "dogs/more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    found = load_images(tmp_path, labels="none")
    assert (found.ids, found.labels) == (["a.png", "cats/b.png", "dogs/more/c.png"], None)
    bare = load_images("digits", labels="none")
    assert (bare.labels, bare.class_names) == (None, ())
    assert bare.content_hash != load_images("digits").content_hash
