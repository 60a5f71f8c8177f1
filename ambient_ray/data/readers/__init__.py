"""Readers, one module a format, and `load_images`, which finds the one for a path or name.

A new format is a new module with a function (path, fit) -> ImageSet and one line in `_reader_of_file`.
"""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import BadOptionError, UnknownFormatError, UnknownSourceError, UnreadableFileError
from ..fetch import cache_folder
from ..image_set import ImageSet
from ..picture import Allocate, Fit, picture_suffixes
from .cifar import cifar_folder, pickled_cifar, read_cifar_archive, read_cifar_folder
from .digits import read_digits
from .folder import read_folder, walk
from .idx import idx_files, is_idx, labels_beside, read_idx, read_idx_folder
from .layout import LabelSource
from .mapped import is_mapped_folder, map_images, read_mapped_folder, read_npy, source_key
from .named import NAMED, named_file, read_named
from .npz import read_npz
from .zipped import read_zip, safe_name

Reader = Callable[[Path, Fit], ImageSet]
BUILT_IN = ("digits", *NAMED)
EXPECTED = "a folder or zip of images, .npy, .npz, IDX, or the binary version of CIFAR-10 or CIFAR-100"
LABEL_SOURCES: tuple[LabelSource, ...] = ("auto", "folders", "none")


def load_images(
    path_or_name: str | Path,
    *,
    resolution: int | None = None,
    skip_broken: bool = False,
    channels: int | None = None,
    labels: LabelSource = "auto",
    memory_map: bool = False,
) -> ImageSet:
    """Images from a path, or a data set by its name in `BUILT_IN` (a folder of that name is "./digits").

    path: a folder or zip of images (sub-folders are classes: readers/layout.py; `some.zip/train` reads one
        folder of a zip), `.npy` or a folder of `images.npy` (mapped into memory: readers/mapped.py), `.npz`, an IDX
        file or a folder of them, the binary version of CIFAR-10 or CIFAR-100 as folder or .tar.gz
    name: "digits" is part of the installation; the others are fetched once into `cache_folder()`, by their
        published hash (readers/named.py)
    resolution: centre crop to a square and scale to this side; None keeps the images, which must then be of
        one size
    skip_broken: leave out broken picture files and name them in `ImageSet.skipped`, instead of an error that
        names the first
    channels: 1 or 3 converts every image; None keeps what they have, which must then be the same for all
    labels: "auto" (the layout's rules), "folders" (folders are classes even where they only number the images),
        "none"
    memory_map: the images in a file mapped into memory, for sets larger than it: made of the source once, in
        `cache_folder()`, and again when the source's size or time of change is another
    Returns an ImageSet in a fixed order (by id). What pictures become, mode by mode: picture.py.
    Raises one of the errors of errors.py, all of them `UserError`, in one sentence that says what to do.
    """
    if labels not in LABEL_SOURCES:
        raise BadOptionError(f"dataset.labels={labels}: expected one of {', '.join(LABEL_SOURCES)}")

    def read(allocate: Allocate | None = None) -> ImageSet:
        fit = Fit(resolution, channels) if allocate is None else Fit(resolution, channels, allocate)
        found = _read(path_or_name, fit, skip_broken, labels)
        if labels == "none" and found.labels is not None:
            found = replace(found, labels=None, class_names=(), content_hash="")
        return found

    if not memory_map or path_or_name == "digits":
        return read()
    options = (path_or_name, resolution, channels, skip_broken, labels)
    files = _files(path_or_name)
    if files is None:
        return read()  # which says what is wrong with the path
    return map_images(read, source_key(files, options), cache_folder() / "mapped")


def _read(path_or_name: str | Path, fit: Fit, skip_broken: bool, labels: LabelSource) -> ImageSet:
    if path_or_name == "digits":
        return read_digits(fit)
    if isinstance(path_or_name, str) and path_or_name in NAMED:
        return read_named(path_or_name, fit)
    path = Path(path_or_name).expanduser()
    archive, inside = _inside_zip(path)
    try:
        if archive is not None:
            return read_zip(archive, fit, inside=inside, skip_broken=skip_broken, labels=labels)
        if path.is_dir():
            return _read_directory(path, fit, skip_broken, labels)
        if not path.exists():
            raise UnknownSourceError(_unknown(path_or_name, path))
    except PermissionError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error
    reader = _reader_of_file(path)
    if reader is None:
        advice = " (for a single image, give the folder it is in)" if path.suffix.lower() in picture_suffixes() else ""
        raise UnknownFormatError(f"{path} is of no known format{advice}: expected {EXPECTED}")
    return reader(path, fit)


def _files(path_or_name: str | Path) -> list[Path] | None:
    """All files that a source consists of; None if there is no such source."""
    if isinstance(path_or_name, str) and path_or_name in NAMED:
        return [named_file(path_or_name)]
    path = Path(path_or_name).expanduser()
    archive, _ = _inside_zip(path)
    if archive is not None:
        return [archive]
    if path.is_dir():
        return [path / name for name in walk(path)]
    beside = (labels_beside(path), path.with_name(f"{path.stem}.labels.npy"))
    return [path, *(file for file in beside if file is not None and file.is_file())] if path.is_file() else None


def _inside_zip(path: Path) -> tuple[Path | None, str]:
    """`a/b.zip/train` -> (a/b.zip, "train"); (None, "") for what is not in a zip."""
    for whole in (path, *path.parents):
        if whole.suffix.lower() == ".zip" and whole.is_file():
            return whole, safe_name(path.relative_to(whole).as_posix())
    return None, ""


def _read_directory(path: Path, fit: Fit, skip_broken: bool, labels: LabelSource) -> ImageSet:
    if is_mapped_folder(path):
        return read_mapped_folder(path, fit)
    if idx_files(path):
        return read_idx_folder(path, fit)
    if (found := cifar_folder(path)) is not None:
        return read_cifar_folder(*found, fit)
    if (binary := pickled_cifar(path)) is not None:
        raise UnknownFormatError(
            f"{path} is the pickled Python version, which is never unpickled: give the binary version, {binary}"
        )
    return read_folder(path, fit, skip_broken=skip_broken, labels=labels)


def _reader_of_file(path: Path) -> Reader | None:
    name = path.name.lower()
    if name.endswith(".npz"):
        return read_npz
    if name.endswith(".npy"):
        return read_npy
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return read_cifar_archive
    if is_idx(path):
        return read_idx
    if zipfile.is_zipfile(path):  # a zip by another name
        return read_zip
    return None


def _unknown(given: str | Path, path: Path) -> str:
    return (
        f"{str(given)!r} is neither a built-in data set ({', '.join(sorted(BUILT_IN))}) "
        f"nor a path that exists ({path.absolute()}): check the spelling, or give {EXPECTED}"
    )
