"""CIFAR-10 in its published binary version (cs.toronto.edu/~kriz/cifar.html); the pickled one is refused.

A record is one label byte and 3,072 pixel bytes: the red, green and blue planes of 32x32. The training images
are `data_batch_1.bin` to `data_batch_5.bin`, read in this order, so that image 000123 is number 123
everywhere.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import BadContentsError, BrokenFileError, ChecksumError, UnreadableFileError
from ..image_set import ImageSet
from ..picture import Fit
from .arrays import image_set_of_arrays

MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of cifar-10-binary.tar.gz, as published on the page named above
FOLDER = "cifar-10-batches-bin"
BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
RECORD = 1 + 3 * 32 * 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10_folder(path: Path) -> Path | None:
    """The folder of the binary batches: `path` or `path/cifar-10-batches-bin`; None if it is neither."""
    return next((folder for folder in (path, path / FOLDER) if (folder / BATCHES[0]).is_file()), None)


def read_cifar10_folder(path: Path, fit: Fit) -> ImageSet:
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

    return _read_batches(read, str(path), fit)


def read_cifar10_archive(path: Path, fit: Fit, *, md5: str | None = MD5) -> ImageSet:
    """The training images of `cifar-10-binary.tar.gz`, read in place, its MD5 checked (`md5=None`: not).

    Raises ChecksumError, BrokenFileError, BadContentsError (another archive), UnreadableFileError.
    """
    try:
        members = _members(path)
        if md5 is not None:
            _check_md5(path, md5)
        return _read_batches(lambda name: _member(members, name, path), str(path), fit)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _members(path: Path) -> dict[str, bytes]:
    """Base name -> contents of the batches, in one pass: each seek in a gzipped tar decompresses it again."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in ("data_batch_1", "batches.meta"):
                    raise BadContentsError(
                        f"{path} is the pickled Python version, which is never unpickled: "
                        "give the binary version, cifar-10-binary.tar.gz"
                    )
                file = archive.extractfile(member) if name in BATCHES else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BrokenFileError(str(path), str(error) or "truncated", "fetch it again") from error
    return found


def _member(members: dict[str, bytes], name: str, path: Path) -> bytes:
    if name not in members:
        raise BadContentsError(f"{path} lacks {name}: the one tar archive that is read is cifar-10-binary.tar.gz")
    return members.pop(name)


def _check_md5(path: Path, md5: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise ChecksumError(
            f"{path} is not the published cifar-10-binary.tar.gz: its MD5 is {found}, not {md5}; fetch it again"
        )


def _read_batches(read: Callable[[str], bytes], where: str, fit: Fit) -> ImageSet:
    batches = []
    for name in BATCHES:
        data = read(name)
        if not data or len(data) % RECORD:
            raise BrokenFileError(
                f"{where}/{name}",
                f"{len(data):,} bytes are no whole number of {RECORD:,}-byte records",
                "fetch it again",
            )
        batches.append(np.frombuffer(data, dtype=np.uint8).reshape(-1, RECORD))
    images = np.empty((sum(map(len, batches)), 32, 32, 3), dtype=np.uint8)
    labels = np.concatenate([batch[:, 0] for batch in batches])
    end = len(images)
    while batches:  # the last first, so that each batch is released as soon as it is copied
        batch = batches.pop()
        images[end - len(batch) : end] = batch[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        end -= len(batch)
    return image_set_of_arrays(images, labels, where=where, name="cifar10", fit=fit, class_names=CLASSES)
