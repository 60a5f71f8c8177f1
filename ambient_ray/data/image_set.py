"""ImageSet: images, their labels and their names, with a hash that says which images these are."""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


BLOCK_BYTES = 2**24  # of images read at a time, where all of them are
READ_AROUND = 2**21  # what a system may load with a single image of a mapped file: its largest page


def blocks(images: Images) -> Iterator[tuple[int, Images]]:
    """(position of the first, consecutive images), about 16 MB at a time; a mapped file needs no more memory."""
    rows = rows_a_block(images)
    for start in range(0, len(images), rows):
        yield start, images[start : start + rows]
        let_go(images)


def rows_a_block(images: Images) -> int:
    """How many images are about 16 MB, at least one."""
    return max(1, BLOCK_BYTES // max(1, images[:1].nbytes))


def let_go(images: Images) -> None:
    """Unload what was read of a mapped file; it is read again when it is asked for. Nothing to do for other arrays.

    Else the pages that were read count as this process's memory until the system is short of it.
    """
    mapped = _mapping(images)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _mapping(images: Images) -> mmap.mmap | None:
    """The mapping of a file that an array is a view of; None for other arrays and for private (copy-on-write) ones."""
    shared, base = False, images
    while isinstance(base, np.ndarray):
        shared = shared or (isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+"))
        base = base.base  # type: ignore[assignment]
    return base if shared and isinstance(base, mmap.mmap) else None


def take(images: Images, where: NDArray[np.int64]) -> Images:
    """Copies of the images at these positions, in memory."""
    if _mapping(images) is None:
        return np.asarray(images)[where]
    taken = np.empty((len(where), *images.shape[1:]), dtype=np.uint8)
    rows = max(1, BLOCK_BYTES // (images[:1].nbytes + READ_AROUND))
    for start in range(0, len(where), rows):
        taken[start : start + rows] = images[where[start : start + rows]]
        let_go(images)
    return taken


def content_hash(images: Images, labels: Labels | None) -> str:
    """Sha256 (hex) of shape, dtype, pixels and labels; names and ids do not count, the order does. Read in blocks."""
    digest = hashlib.sha256(f"{images.shape}{images.dtype.str}".encode())
    for _, block in blocks(images):
        digest.update(np.ascontiguousarray(block).data)
    if labels is not None:
        digest.update(b"labels")
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, in a fixed order, read-only.

    images: uint8 [N,H,W,C], C = 1 (grey) or 3 (RGB), values 0..255; may be a file mapped into memory (np.memmap)
    labels: int64 [N], class numbers from 0, or None
    ids: N different names; noise and split are keyed by them, so an image keeps both whatever set it is in
    content_hash: sha256 hex of shape, dtype, pixels and labels, computed where it is not given
    name: for logs; class_names: one a class number ("0", "1", ... where the source names none)
    skipped: the broken files that were left out, as named in the source
    Raises ValueError when these do not fit together.
    """

    images: Images
    labels: Labels | None
    ids: list[str]
    content_hash: str = ""
    name: str = ""
    class_names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the parts against each other, freeze the arrays, and fill in what follows from them."""
        images, ids = self.images, list(self.ids)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(f"images must be uint8 [N,H,W,1 or 3], not {images.dtype} {list(images.shape)}")
        if len(ids) != len(images) or len(set(ids)) != len(ids):
            raise ValueError(f"{len(images)} images need as many different ids, not {len(set(ids))} of {len(ids)}")
        set_field = object.__setattr__  # the dataclass is frozen for everyone else
        set_field(self, "ids", ids)
        set_field(self, "images", _frozen(images))
        if self.labels is None:
            set_field(self, "class_names", ())
        else:
            labels = np.asarray(self.labels, dtype=np.int64)
            highest = int(labels.max(initial=-1))
            names = tuple(self.class_names) or tuple(str(label) for label in range(highest + 1))
            if labels.shape != (len(images),) or labels.min(initial=0) < 0 or highest >= len(names):
                raise ValueError(f"labels must be [{len(images)}] numbers from 0 to {len(names) - 1}")
            set_field(self, "labels", _frozen(labels))
            set_field(self, "class_names", names)
        if not self.content_hash:
            set_field(self, "content_hash", content_hash(self.images, self.labels))

    def __len__(self) -> int:
        """Count of images."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W): one image's shape as the network sees it."""
        _, height, width, channels = self.images.shape
        return channels, height, width

    @property
    def memory_mapped(self) -> bool:
        """Whether the images lie in a file that is mapped into memory."""
        return _mapping(self.images) is not None

    @property
    def num_classes(self) -> int | None:
        """Count of classes, also of those that a subset has lost; None without labels."""
        return None if self.labels is None else len(self.class_names)

    def subset(self, indices: Sequence[int] | ArrayLike) -> "ImageSet":
        """The images at these positions (integers or a mask), in the order given; their pixels are copied."""
        where = np.asarray(indices)
        where = np.flatnonzero(where) if where.dtype == np.bool_ else where.astype(np.int64)
        return ImageSet(
            images=take(self.images, where),
            labels=None if self.labels is None else self.labels[where],
            ids=[self.ids[index] for index in where],
            name=self.name,
            class_names=self.class_names,
        )

    def describe(self) -> str:
        """One line for logs: name, count, size, channels, classes, files skipped."""
        channels, height, width = self.shape
        classes = "no labels" if self.num_classes is None else _count(self.num_classes, "class", "classes")
        return (
            f"{self.name or 'images'}: {_count(len(self), 'image')} of {width}x{height}, "
            f"{_count(channels, 'channel')}, {classes}, {_count(len(self.skipped), 'broken file')} skipped, "
            "duplicates not looked for"
        )


def _frozen(array: NDArray[Scalar]) -> NDArray[Scalar]:
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
