"""Folders and zips of pictures: the same rules for both, classes, junk, broken and mixed files."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from ambient_ray.data import (
    BadContentsError,
    BrokenFileError,
    MixedChannelsError,
    MixedLayoutError,
    MixedSizesError,
    NoImagesError,
    UnknownFormatError,
    UnknownSourceError,
    UnreadableFileError,
    load_images,
)
from ambient_ray.data.readers import pictures
from ambient_ray.errors import UserError

COLOURS = np.random.default_rng(0).integers(0, 256, (100, 3))


def png(number=0, size=(4, 4), mode="RGB"):
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(int(value) for value in COLOURS[number])).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=["folder", "zip", "deflated"])
def make(request, tmp_path):
    """Writes {name: bytes} as a folder or a zip and returns its path."""

    def write(files, name="set"):
        if request.param == "folder":
            for inner, data in files.items():
                path = tmp_path / name / inner
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return tmp_path / name
        path = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if request.param == "deflated" else 0) as archive:
            for inner, data in reversed(files.items()):
                archive.writestr(inner, data)
        return path

    return write


def test_images_alone_have_no_labels(make):
    found = load_images(make({"b.png": png(1), "a.png": png(0), "c.PNG": png(2)}))
    assert found.ids == ["a.png", "b.png", "c.PNG"]
    assert found.labels is None
    assert found.shape == (3, 4, 4)
    assert found.name == "set"
    np.testing.assert_array_equal(found.images[:, 0, 0], COLOURS[:3])


def test_sub_folders_are_classes(make):
    files = {"dogs/1.png": png(2), "cats/b/2.png": png(1), "cats/a.png": png(0)}
    found = load_images(str(make(files)))
    assert found.ids == ["cats/a.png", "cats/b/2.png", "dogs/1.png"]
    assert found.labels.tolist() == [0, 0, 1]
    assert found.class_names == ("cats", "dogs")
    np.testing.assert_array_equal(found.images[:, 0, 0], COLOURS[:3])


def test_wrapping_is_looked_through(make):
    files = {f"my data/v1/{name}": png(index) for index, name in enumerate(("cats/1.png", "dogs/2.png"))}
    plain = load_images(make({"cats/1.png": png(0), "dogs/2.png": png(1)}, "plain"))
    wrapped = load_images(make(files))
    assert wrapped.ids == plain.ids == ["cats/1.png", "dogs/2.png"]
    assert wrapped.content_hash == plain.content_hash
    alone = load_images(make({"faces/1.png": png(0), "faces/2.png": png(1)}, "alone"))
    assert alone.ids == ["1.png", "2.png"]
    assert alone.labels is None


def test_train_and_test_are_splits_not_classes(make):
    names = ["train/cats/1.png", "train/dogs/1.png", "test/cats/1.png", "test/dogs/1.png"]
    path = make({name: png(index) for index, name in enumerate(names)})
    both = load_images(path)
    assert both.ids == sorted(names)
    assert both.labels.tolist() == [0, 1, 0, 1]
    assert both.class_names == ("cats", "dogs")
    train = load_images(path / "train")
    assert train.ids == ["cats/1.png", "dogs/1.png"]
    assert train.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(train.images[:, 0, 0], COLOURS[:2])


def test_splits_without_classes_have_no_labels(make):
    found = load_images(make({"train/1.png": png(0), "val/1.png": png(1)}))
    assert found.ids == ["train/1.png", "val/1.png"]
    assert found.labels is None


def test_an_unsorted_test_split_is_refused(make):
    path = make(
        {
            "x/train/cats/1.png": png(),
            "x/train/dogs/1.png": png(),
            "x/test/images/1.png": png(),
            "x/test/images/2.png": png(),
        }
    )
    with pytest.raises(MixedLayoutError, match=r"split into test, train.*name the one to read, e\.g\. .*x/train$"):
        load_images(path)
    assert load_images(path / "x" / "train").class_names == ("cats", "dogs")


def test_a_folder_of_each_and_images_beside_is_refused(make):
    with pytest.raises(MixedLayoutError, match=r"beside folders \(a\.png\) and inside them \(cats/b\.png\)"):
        load_images(make({"a.png": png(), "cats/b.png": png()}))


def test_junk_is_no_image(make):
    files = {
        "cats/1.png": png(0),
        "dogs/1.png": png(1),
        "__MACOSX/cats/._1.png": b"\0\5\x16\7",
        "cats/._1.png": b"\0\5\x16\7",
        ".hidden/2.png": png(2),
        "cats/Thumbs.db": b"x",
        "cats/.DS_Store": b"x",
        "labels.csv": b"a,b",
        "README": b"x",
    }
    found = load_images(make(files))
    assert found.ids == ["cats/1.png", "dogs/1.png"]
    assert found.skipped == ()


TRUNCATED = {
    "empty": (b"", "0 bytes long"),
    "text": (b"hello world", "not an image"),
    "cut": (png(0, (64, 64))[:80], "."),
    "a header only": (png()[:20], "."),
}


@pytest.mark.parametrize("kind", TRUNCATED)
@pytest.mark.parametrize("position", ["0.png", "5.png", "9.png"])
def test_a_broken_file_is_named_or_skipped(make, kind, position, caplog):
    data, reason = TRUNCATED[kind]
    path = make({f"{index}.png": png(index) for index in range(1, 9)} | {position: data})
    with pytest.raises(
        BrokenFileError, match=rf"{position} is broken \(.*{reason}.*dataset\.skip_broken=true"
    ) as caught:
        load_images(path)
    assert caught.value.path == f"{path}/{position}"
    found = load_images(path, skip_broken=True)
    assert found.skipped == (position,)
    assert position not in found.ids
    kept = [int(image_id[0]) for image_id in found.ids]
    np.testing.assert_array_equal(found.images[:, 0, 0], COLOURS[kept])
    assert len(found) == (7 if position == "5.png" else 8)
    assert f"{position} (" in caplog.text
    assert "1 broken file skipped" in found.describe()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000"])
def test_half_a_file_of_any_format_is_broken(make, kind):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    suffix = {"JPEG": "jpg", "JPEG2000": "jp2"}.get(kind, kind.lower())
    data = buffer.getvalue()
    files = {f"1.{suffix}": data, f"2.{suffix}": data[: len(data) // 2]}
    with pytest.raises(BrokenFileError, match=rf"2\.{suffix} is broken"):
        load_images(make(files))
    assert load_images(make(files), skip_broken=True).ids == [f"1.{suffix}"]


def test_skipping_keeps_labels_in_step(make):
    files = {
        "a/1.png": b"",
        "a/2.png": png(1),
        "b/1.png": png(2),
        "b/2.png": b"x",
        "c/1.png": b"",
        "d/1.png": png(3),
    }
    found = load_images(make(files), skip_broken=True)
    assert found.ids == ["a/2.png", "b/1.png", "d/1.png"]
    assert found.labels.tolist() == [0, 1, 3]
    assert found.skipped == ("a/1.png", "b/2.png", "c/1.png")
    np.testing.assert_array_equal(found.images[:, 0, 0], COLOURS[1:4])


def test_only_broken_files_are_no_images(make):
    with pytest.raises(NoImagesError, match=r"all 2 images of .* are broken; the first: .*1\.png is broken"):
        load_images(make({"1.png": b"", "2.png": b"x"}), skip_broken=True)


def test_grey_and_colour_are_not_mixed_silently(make):
    path = make({"1.png": png(0, mode="L"), "2.png": png(1), "3.png": png(2, mode="L")})
    with pytest.raises(
        MixedChannelsError, match=r"greyscale images \(.*1\.png\).*colour images \(.*2\.png\)"
    ) as caught:
        load_images(path)
    assert "dataset.channels=3" in str(caught.value)
    assert "dataset.channels=1" in str(caught.value)
    assert load_images(path, channels=3).shape == (3, 4, 4)
    assert load_images(path, channels=1).shape == (1, 4, 4)
    assert load_images(make({"1.png": png(0, mode="L"), "2.png": png(1, mode="LA")}, "grey")).shape == (
        1,
        4,
        4,
    )


def test_colour_first_names_both_the_right_way_round(make):
    with pytest.raises(MixedChannelsError, match=r"greyscale images \(.*2\.png\).*colour images \(.*1\.png\)"):
        load_images(make({"1.png": png(0), "2.png": png(1, mode="L")}))


def test_sizes_are_not_mixed_without_a_resolution(make):
    path = make({"1.png": png(0, (40, 20)), "2.png": png(1, (50, 36))})
    with pytest.raises(MixedSizesError, match=r"1\.png is 40x20, .*2\.png is 50x36\).*dataset\.resolution=16$"):
        load_images(path)
    found = load_images(path, resolution=6)
    assert found.shape == (3, 6, 6)
    np.testing.assert_array_equal(found.images[:, 3, 3], COLOURS[:2])
    assert load_images(make({"1.png": png(0, (6, 3)), "2.png": png(1, (6, 3))}, "equal")).shape == (3, 3, 6)


def test_many_pictures_in_threads_come_in_order(make, monkeypatch):
    monkeypatch.setattr(pictures, "CHUNK", 3)
    monkeypatch.setattr(pictures, "THREADS_FROM_BYTES", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    files = {f"{index:02d}.png": png(index) for index in range(40)}
    path = make(files | {"07.png": b"", "33.png": b"x"})
    found = load_images(path, skip_broken=True)
    kept = [index for index in range(40) if index not in (7, 33)]
    assert found.ids == [f"{index:02d}.png" for index in kept]
    np.testing.assert_array_equal(found.images[:, 0, 0], COLOURS[kept])
    with pytest.raises(BrokenFileError, match=r"07\.png"):
        load_images(path)


def test_nothing_to_read_says_what_was_found(make):
    with pytest.raises(
        NoImagesError,
        match=r"holds no images, but other files \(1, e\.g\. notes\.txt\): expected files such as",
    ):
        load_images(make({"notes.txt": b"x"}))
    with pytest.raises(UnknownSourceError, match="neither a built-in data set") as caught:
        load_images(make({"cats/1.png": png()}, "other").parent / "missing")
    assert "(cifar10, cifar100, digits, fashion_mnist, tiny_imagenet)" in str(caught.value)
    assert "nor a path that exists" in str(caught.value)


def test_the_order_on_disk_does_not_matter(make):
    names = [f"{index}.png" for index in range(12)]
    one = load_images(make({name: png(int(name[:-4])) for name in names}, "one"))
    two = load_images(make({name: png(int(name[:-4])) for name in reversed(names)}, "two"))
    assert one.ids == two.ids
    assert one.content_hash == two.content_hash


def test_unknown_names_and_empty_folders(tmp_path):
    with pytest.raises(UnknownSourceError, match=r"'digitz' is neither a built-in data set \(cifar10, .*digits"):
        load_images("digitz")
    with pytest.raises(NoImagesError, match="holds no images, but nothing"):
        load_images(tmp_path)
    (tmp_path / "one.png").write_bytes(png())
    with pytest.raises(UnknownFormatError, match="for a single image, give the folder it is in"):
        load_images(tmp_path / "one.png")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UnknownFormatError, match=r"notes\.txt is of no known format: expected a folder or zip"):
        load_images(tmp_path / "notes.txt")


def test_links_are_followed_and_loops_end(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(png(0))
    (tmp_path / "set" / "dogs").mkdir(parents=True)
    (tmp_path / "set" / "dogs" / "1.png").write_bytes(png(1))
    (tmp_path / "set" / "cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "dogs" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "dogs" / "dangling.png").symlink_to(tmp_path / "nowhere")
    found = load_images(tmp_path / "set")
    assert found.ids[0] == "cats/1.png"
    assert found.class_names == ("cats", "dogs")


def test_an_unreadable_file_is_no_broken_file(tmp_path, monkeypatch):
    (tmp_path / "1.png").write_bytes(png())

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(UnreadableFileError, match=r"1\.png cannot be read: Permission denied"):
        load_images(tmp_path, skip_broken=True)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.png").write_bytes(png())
    assert len(load_images("~/set")) == 1


def write_zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def test_path_traversal_is_harmless(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["../../evil.png", "/etc/evil.png", "a\\..\\evil.png", "C:/x/./evil.png"]
    path = write_zip(inside / "set.zip", [(name, png(index)) for index, name in enumerate(names)] + [("z.png", png())])
    with pytest.raises(MixedLayoutError):  # the names are only names: beside folders and inside them
        load_images(path)
    path = write_zip(inside / "flat.zip", [("../../evil.png", png(0)), ("/good.png", png(1))])
    assert load_images(path).ids == ["evil.png", "good.png"]
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["flat.zip", "inside", "set.zip"]


def test_damaged_zips_are_named(tmp_path):
    whole = write_zip(tmp_path / "set.zip", [(f"{index}.png", png(index, (64, 64))) for index in range(4)]).read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"PK\3\4 nonsense"):
        (tmp_path / "cut.zip").write_bytes(data)
        with pytest.raises(BrokenFileError, match=r"cut\.zip is broken \(.*make or fetch the zip again"):
            load_images(tmp_path / "cut.zip")


def test_a_damaged_entry_is_a_broken_file(tmp_path):
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = write_zip(tmp_path / "set.zip", [("1.png", png(1)), ("2.png", png(2))], compression)
        data = bytearray(path.read_bytes())
        where = data.index(b"2.png") + 5 + 20
        data[where : where + 8] = b"\xff" * 8
        path.write_bytes(data)
        with pytest.raises(BrokenFileError, match=r"set\.zip/2\.png is broken"):
            load_images(path)
        assert load_images(path, skip_broken=True).skipped == ("2.png",)


def test_an_entry_too_large_for_a_picture_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr("ambient_ray.data.readers.zipped.MAX_BYTES", 1000)
    path = write_zip(tmp_path / "bomb.zip", [("1.png", png()), ("2.png", b"\0" * 2000)], zipfile.ZIP_DEFLATED)
    with pytest.raises(BrokenFileError, match=r"2\.png is broken \(2,000 bytes are no picture\)"):
        load_images(path)


def test_random_damage_is_always_a_clear_error(tmp_path):
    """Bit flips and cuts anywhere in a zip lead to images or to a UserError, never to another exception."""
    whole = write_zip(tmp_path / "set.zip", [(f"{i}.png", png(i)) for i in range(3)], zipfile.ZIP_DEFLATED).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole[: int(rng.integers(1, len(whole) + 1)) if rng.random() < 0.2 else len(whole)])
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        (tmp_path / "hurt.zip").write_bytes(data)
        try:
            survivors = load_images(tmp_path / "hurt.zip", skip_broken=bool(rng.integers(2)))
        except UserError:
            refused += 1
        else:
            assert 1 <= len(survivors) <= 3 and survivors.images.dtype == np.uint8
    assert 0 < refused < 300  # both ways were taken


def test_encrypted_and_ambiguous_zips_are_refused(tmp_path):
    path = write_zip(tmp_path / "set.zip", [("1.png", png())])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(BadContentsError, match=r"is encrypted \(1\.png\)"):
        load_images(tmp_path / "locked.zip")
    twice = write_zip(tmp_path / "twice.zip", [("a/1.png", png()), ("a//1.png", png(1))])
    with pytest.raises(BadContentsError, match=r"names a/1\.png twice"):
        load_images(twice)


def test_a_part_of_a_zip_that_is_not_there_lists_what_is(tmp_path):
    path = write_zip(tmp_path / "set.zip", [("train/a/1.png", png()), ("test/a/1.png", png(1))])
    with pytest.raises(NoImagesError, match=r"set\.zip/trian does not exist: the zip holds test, train"):
        load_images(path / "trian")
    with pytest.raises(NoImagesError, match="holds no images, but nothing"):
        load_images(write_zip(tmp_path / "empty.zip", []))


def test_a_zip_needs_no_suffix(tmp_path):
    path = write_zip(tmp_path / "download", [("1.png", png())])
    assert load_images(path).ids == ["1.png"]


def test_a_zip_entry_without_a_name_does_not_count(tmp_path):
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(nameless, png())
    with pytest.raises(NoImagesError, match="holds no images"):
        load_images(tmp_path / "set.zip")
    with zipfile.ZipFile(tmp_path / "set.zip", "a") as archive:
        archive.writestr("a.png", png())
    assert load_images(tmp_path / "set.zip").ids == ["a.png"]
