"""IDX files, gzipped or not: wrong counts, other types, bombs, labels for others, folders of them."""

import gzip
import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import load_images

from .bounds import MEMORY, small_machine
from .harness import Kind
from .mutations import edits, mutate

SIZES = (0, 1, 2, 3, 4, 16, 1000, 4000, 2**16, 2**31, 2**32 - 1)
PAYLOADS = (0, 1, 47, 48, 49, 192, 2**20, MEMORY, MEMORY + 2**20)
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
NAMES = (TRAIN, "images.idx3-ubyte", "pictures.bin", "images-idx4-ubyte")


@dataclass(frozen=True)
class Idx:
    """Files by name, which of them (or the folder) is read, and the images if all is as it should be."""

    files: dict[str, bytes]
    path: str
    images: np.ndarray | None

    def __repr__(self) -> str:
        shown = {name: (len(data), data[:200]) for name, data in self.files.items()}
        return f"{self.path} good={self.images is not None} {shown}"


@lru_cache(maxsize=100)
def zeros(head: bytes, count: int) -> bytes:
    """A gzip of a header and so many zeros, made in pieces."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=1) as packed:
        packed.write(head)
        for start in range(0, count, 2**20):
            packed.write(bytes(min(2**20, count - start)))
    return file.getvalue()


@st.composite
def idx_bytes(draw, images: np.ndarray | None, zipped: bool) -> bytes:
    """Whole where images are given; else any header and any payload, zeros beyond its first bytes."""
    if images is not None:
        data = struct.pack(f">4B{images.ndim}I", 0, 0, 8, images.ndim, *images.shape) + images.tobytes()
        return gzip.compress(data, 1) if zipped else data
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=0, max_size=4))
    kind, count = draw(st.sampled_from([8, 8, 8, 9, 0x0D, 0])), draw(st.sampled_from([len(sizes)] * 4 + [0, 3, 255]))
    head = struct.pack(f">4B{len(sizes)}I", draw(st.sampled_from([0, 0, 0, 1])), 0, kind, count, *sizes)
    payload = draw(st.sampled_from(PAYLOADS if zipped else PAYLOADS[:7]))
    return zeros(head, payload) if zipped else head + bytes(payload)


@st.composite
def idx(draw) -> Idx:
    zipped, good = draw(st.booleans()), draw(st.booleans())
    shape = draw(st.sampled_from([(3, 4, 4), (1, 2, 2), (3, 4, 4, 3)]))
    images = np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8) if good else None
    damage = draw(edits) if draw(st.integers(0, 2)) == 0 else []
    data = mutate(draw(idx_bytes(images, zipped)), damage)
    name = draw(st.sampled_from(NAMES))
    files = {name + (".gz" if zipped and name != "pictures.bin" else ""): data}
    path = next(iter(files))
    labels_good = True
    if draw(st.booleans()):
        numbers = draw(st.sampled_from([np.arange(shape[0], dtype=np.uint8), None]))
        labels_good = numbers is not None
        labels = draw(idx_bytes(numbers, zipped))
        files[
            name.replace("image", "label").replace("idx3", "idx1").replace("idx4", "idx1") + (".gz" if zipped else "")
        ] = labels
    elif draw(st.integers(0, 4)) == 0:
        files[draw(st.sampled_from([TEST, TRAIN]))] = data
        labels_good = False
    if draw(st.integers(0, 3)) == 0:
        path, labels_good = "", False
    whole = good and labels_good and not damage and name != "pictures.bin"
    return Idx(files, path, images if whole else None)


def write(case: Idx, folder: Path) -> None:
    (folder / "set").mkdir()
    for name, data in case.files.items():
        (folder / "set" / name).write_bytes(data)


def read(case: Idx, folder: Path):
    return load_images(folder / "set" / case.path)


def verify(case: Idx, folder: Path, found) -> None:
    if case.images is not None:
        assert np.array_equal(found.images.reshape(case.images.shape), case.images)


KIND = Kind(
    "idx", idx(), write, read, verify, lambda case, folder: (str(folder / "set"),), lambda case: case.images is not None,
    memory=2 * MEMORY + 64 * 2**20, prepare=lambda folder: small_machine(),
)  # fmt: skip
