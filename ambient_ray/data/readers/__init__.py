"""Readers, one module a format, and `load_images`, which finds the one for a path or name.

A new format is a new module with a function (path, fit) -> ImageSet and one line in `_reader_of_file`.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import UnknownFormatError, UnknownSourceError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit, picture_suffixes
from .cifar10 import cifar10_folder, read_cifar10_archive, read_cifar10_folder
from .digits import read_digits
from .folder import read_folder
from .idx import idx_files, is_idx, read_idx, read_idx_folder
from .npz import read_npz
from .zipped import read_zip, safe_name

Reader = Callable[[Path, Fit], ImageSet]
BUILT_IN: dict[str, Callable[[Fit], ImageSet]] = {"digits": read_digits}
EXPECTED = "a folder or zip of images, .npz, IDX, or CIFAR-10's binary version"


def load_images(
    path_or_name: str | Path,
    *,
    resolution: int | None = None,
    skip_broken: bool = False,
    channels: int | None = None,
) -> ImageSet:
    """Images from a path, or a built-in data set by its name ("digits"; a folder of that name is "./digits").

    path: a folder or zip of images (sub-folders are classes: readers/layout.py; `some.zip/train` reads one
        folder of a zip), `.npz`, an IDX file or a folder of them, CIFAR-10's binary version as folder or
        .tar.gz
    resolution: centre crop to a square and scale to this side; None keeps the images, which must then be of
        one size
    skip_broken: leave out broken picture files and name them in `ImageSet.skipped`, instead of an error that
        names the first
    channels: 1 or 3 converts every image; None keeps what they have, which must then be the same for all
    Returns an ImageSet in a fixed order (by id). What pictures become, mode by mode: picture.py.
    Raises one of the errors of errors.py, all of them `UserError`, in one sentence that says what to do.
    """
    fit = Fit(resolution, channels)
    if isinstance(path_or_name, str) and path_or_name in BUILT_IN:
        return BUILT_IN[path_or_name](fit)
    path = Path(path_or_name).expanduser()
    archive, inside = _inside_zip(path)
    try:
        if archive is not None:
            return read_zip(archive, fit, inside=inside, skip_broken=skip_broken)
        if path.is_dir():
            return _read_directory(path, fit, skip_broken)
        if not path.exists():
            raise UnknownSourceError(_unknown(path_or_name, path))
    except PermissionError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error
    reader = _reader_of_file(path)
    if reader is None:
        advice = " (for a single image, give the folder it is in)" if path.suffix.lower() in picture_suffixes() else ""
        raise UnknownFormatError(f"{path} is of no known format{advice}: expected {EXPECTED}")
    return reader(path, fit)


def _inside_zip(path: Path) -> tuple[Path | None, str]:
    """`a/b.zip/train` -> (a/b.zip, "train"); (None, "") for what is not in a zip."""
    for whole in (path, *path.parents):
        if whole.suffix.lower() == ".zip" and whole.is_file():
            return whole, safe_name(path.relative_to(whole).as_posix())
    return None, ""


def _read_directory(path: Path, fit: Fit, skip_broken: bool) -> ImageSet:
    if idx_files(path):
        return read_idx_folder(path, fit)
    batches = cifar10_folder(path)
    if batches is not None:
        return read_cifar10_folder(batches, fit)
    if (path / "data_batch_1").is_file() and (path / "batches.meta").is_file():
        raise UnknownFormatError(
            f"{path} is CIFAR-10's pickled Python version, which is never unpickled: give the binary version"
        )
    return read_folder(path, fit, skip_broken=skip_broken)


def _reader_of_file(path: Path) -> Reader | None:
    name = path.name.lower()
    if name.endswith(".npz"):
        return read_npz
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        return read_cifar10_archive
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
