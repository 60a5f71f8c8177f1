"""Data sets by name: those that are published as one archive are fetched once, and read like a user's own file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..fetch import cache_folder, fetch
from ..image_set import ImageSet
from ..picture import Fit
from .cifar import CIFAR10, CIFAR100, read_cifar_archive
from .idx import read_idx
from .zipped import read_zip

TORONTO = "https://www.cs.toronto.edu/~kriz/"
ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
STANFORD = "http://cs231n.stanford.edu/"
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip


@dataclass(frozen=True)
class NamedSet:
    """A published set: (address, MD5) of its files, all of which are fetched, and how the first of them is read."""

    files: tuple[tuple[str, str], ...]
    read: Callable[[Path, Fit], ImageSet]
    class_names: tuple[str, ...] = ()


def _read_checked_cifar(path: Path, fit: Fit) -> ImageSet:
    return read_cifar_archive(path, fit, checked=False)  # it was, when it was fetched or found


# The publishers' pages give MD5s: they say which file is meant, and are no proof against a forger.
NAMED: dict[str, NamedSet] = {
    "cifar10": NamedSet(((TORONTO + CIFAR10.archive, CIFAR10.md5),), _read_checked_cifar),
    "cifar100": NamedSet(((TORONTO + CIFAR100.archive, CIFAR100.md5),), _read_checked_cifar),
    "fashion_mnist": NamedSet(
        (
            (ZALANDO + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            (ZALANDO + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ),
        read_idx,
        CLOTHES,
    ),
    "tiny_imagenet": NamedSet(((STANFORD + "tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),), read_zip),
}


def named_file(name: str) -> Path:
    """The file of a named set, in a folder of its own below the cache folder's `data`, fetched if need be.

    Raises FetchError, ChecksumError.
    """
    folder = cache_folder() / "data" / name
    advice = "fetch it by other means and give it as dataset.path="
    paths = [fetch(url, folder, digest=md5, algorithm="md5", advice=advice) for url, md5 in NAMED[name].files]
    return paths[0]


def read_named(name: str, fit: Fit) -> ImageSet:
    """The training images of a set in `NAMED`. Raises FetchError, ChecksumError, and what its reader raises."""
    published = NAMED[name]
    found = published.read(named_file(name), fit)
    return replace(found, name=name, class_names=published.class_names or found.class_names)
