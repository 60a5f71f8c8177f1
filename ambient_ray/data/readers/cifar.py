"""CIFAR-10 and CIFAR-100 in their published binary versions (cs.toronto.edu/~kriz/cifar.html); pickles are refused.

A record is the label, one byte (CIFAR-10) or two (CIFAR-100: coarse, then fine; the fine one is the class), and 3,072
pixel bytes: the red, green and blue planes of 32x32. The training images are `data_batch_1.bin` to `data_batch_5.bin`,
or `train.bin`, read in this order, so that image 000123 is number 123 everywhere.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np

from ..errors import BadContentsError, BrokenFileError, UnreadableFileError
from ..fetch import check_digest
from ..image_set import ImageSet
from ..picture import Fit
from .arrays import image_set_of_arrays

PIXELS = 3 * 32 * 32
ADVICE = "fetch it again"
MOST_BYTES = 2**29  # that an archive unpacks to; the published ones have a third of it


@dataclass(frozen=True)
class Version:
    """One of the two sets: its name, archive and MD5 as published, folder, files, label bytes and class names.

    names: the file with the class names, one a line, where they are not `class_names`; pickled: files by which the
    pickled version, in the folder `pickled_folder`, is known.
    """

    name: str
    archive: str
    md5: str
    folder: str
    batches: tuple[str, ...]
    label_bytes: int
    class_names: tuple[str, ...] = ()
    names: str = ""
    pickled_folder: str = ""
    pickled: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that are read."""
        return (*self.batches, self.names) if self.names else self.batches


CIFAR10 = Version(
    "cifar10",
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-batches-bin",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    1,
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    pickled_folder="cifar-10-batches-py",
    pickled=("data_batch_1", "batches.meta"),
)
CIFAR100 = Version(
    "cifar100",
    "cifar-100-binary.tar.gz",
    "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-binary",
    ("train.bin",),
    2,
    names="fine_label_names.txt",
    pickled_folder="cifar-100-python",
    pickled=("train", "meta"),
)
VERSIONS = (CIFAR10, CIFAR100)


def cifar_folder(path: Path) -> tuple[Version, Path] | None:
    """Which set an unpacked binary version is, and its folder: `path`, or the archive's folder in it; else None."""
    return next(
        (
            (version, folder)
            for version in VERSIONS
            for folder in (path, path / version.folder)
            if (folder / version.batches[0]).is_file() and (version is CIFAR10 or (folder / version.names).is_file())
        ),
        None,
    )


def pickled_cifar(path: Path) -> str | None:
    """The binary archive to give instead of this folder of pickles; None if it is none."""
    found = (version for version in VERSIONS if all((path / name).is_file() for name in version.pickled))
    return next((version.archive for version in found), None)


def read_cifar_folder(version: Version, path: Path, fit: Fit) -> ImageSet:
    """The training images of an unpacked binary version.

    Raises BrokenFileError, BadContentsError, UnreadableFileError.
    """

    def read(name: str) -> bytes:
        try:
            return (path / name).read_bytes()
        except FileNotFoundError as error:
            raise BadContentsError(f"{path} lacks {name}: unpack the whole archive again") from error
        except OSError as error:
            raise UnreadableFileError(f"{path / name} cannot be read: {error.strerror or error}") from error

    return _read_batches(version, read, str(path), fit)


def read_cifar_archive(path: Path, fit: Fit, *, checked: bool = True) -> ImageSet:
    """The training images of a binary version's .tar.gz, read in place, its MD5 checked (`checked=False`: not).

    Raises ChecksumError, BrokenFileError, BadContentsError (another archive), UnreadableFileError.
    """
    try:
        members = _members(path)
        version = next((version for version in VERSIONS if version.batches[0] in members), CIFAR10)
        if checked:
            check_digest(path, version.md5, "md5", ADVICE)
        return _read_batches(version, lambda name: _member(members, name, path), str(path), fit)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _members(path: Path) -> dict[str, bytes]:
    """Base name -> contents of the files of either set, in one pass: each seek in a gzipped tar decompresses anew."""
    wanted = {name for version in VERSIONS for name in version.files}
    found: dict[str, bytes] = {}
    try:
        with (
            _unpacked(path) as unpacked,
            tarfile.open(fileobj=cast(IO[bytes], _Bounded(unpacked)), mode="r:") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name)
                for version in VERSIONS:
                    if name.parent.name == version.pickled_folder and name.name in version.pickled:
                        raise BadContentsError(
                            f"{path} is the pickled Python version, which is never unpickled: "
                            f"give the binary version, {version.archive}"
                        )
                file = archive.extractfile(member) if name.name in wanted and member.isreg() else None  # no link
                if file is not None:
                    found[name.name] = file.read()
    except _TooLongError:
        found.clear()  # whatever it is, it is none of the two
    except (tarfile.TarError, EOFError, zlib.error, ValueError, gzip.BadGzipFile) as error:
        raise BrokenFileError(str(path), str(error) or "truncated", ADVICE) from error
    if not any(version.batches[0] in found for version in VERSIONS):
        archives = " and ".join(version.archive for version in VERSIONS)
        raise BadContentsError(f"{path} is neither: the tar archives that are read are {archives}")
    return found


class _TooLongError(Exception):
    """An archive claims or holds more than MOST_BYTES."""


class _Bounded:
    """A file of which nothing beyond MOST_BYTES is read: archives are small that unpack to terabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self.tell() + size > MOST_BYTES:
            raise _TooLongError
        return self._file.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position > MOST_BYTES:
            raise _TooLongError
        return self._file.seek(position)


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _member(members: dict[str, bytes], name: str, path: Path) -> bytes:
    if name not in members:
        raise BadContentsError(f"{path} lacks {name}: {ADVICE}")
    return members.pop(name)


def _read_batches(version: Version, read: Callable[[str], bytes], where: str, fit: Fit) -> ImageSet:
    batches, record = [], version.label_bytes + PIXELS
    for name in version.batches:
        data = read(name)
        if not data or len(data) % record:
            raise BrokenFileError(
                f"{where}/{name}", f"{len(data):,} bytes are no whole number of {record:,}-byte records", ADVICE
            )
        batches.append(np.frombuffer(data, dtype=np.uint8).reshape(-1, record))
    names = version.class_names
    if version.names:
        names = tuple(read(version.names).decode("ascii", "replace").split())
    images = np.empty((sum(map(len, batches)), 32, 32, 3), dtype=np.uint8)
    labels = np.concatenate([batch[:, version.label_bytes - 1] for batch in batches])
    end = len(images)
    while batches:  # the last first, so that each batch is released as soon as it is copied
        batch = batches.pop()
        pixels = batch[:, version.label_bytes :].reshape(-1, 3, 32, 32)
        images[end - len(batch) : end] = pixels.transpose(0, 2, 3, 1)
        end -= len(batch)
    return image_set_of_arrays(images, labels, where=where, name=version.name, fit=fit, class_names=names)
