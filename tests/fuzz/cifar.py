"""CIFAR's binary versions as folders and tar archives: lying sizes, links, sparse members, bombs, pickles."""

import gzip
import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import load_images
from ambient_ray.data.picture import Fit
from ambient_ray.data.readers import cifar as reader

from .bounds import small_machine
from .harness import Kind
from .mutations import INTERESTING, edits, mutate

TEN = ("cifar-10-batches-bin", [f"data_batch_{number}.bin" for number in range(1, 6)], 1)
HUNDRED = ("cifar-100-binary", ["train.bin", "fine_label_names.txt"], 2)
CLASSES = 100
BOMB = 96 * 2**20  # of zeros: beyond what an archive may unpack to here


@dataclass(frozen=True)
class Cifar:
    """A folder's files, or one archive; the records if all is as it should be."""

    files: dict[str, bytes]
    checked: bool
    pixels: np.ndarray | None

    def __repr__(self) -> str:
        shown = {name: (len(data), data[:80], data[-300:]) for name, data in self.files.items()}
        return f"checked={self.checked} good={self.pixels is not None} {shown}"


def _records(count: int, label_bytes: int, seed: int, classes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    records[:, :label_bytes] = rng.integers(0, classes, (count, label_bytes))
    return records


def _header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "../../canary"
    return info.tobuf(tarfile.GNU_FORMAT)


@lru_cache(maxsize=20)
def bomb(kind: bytes, name: str) -> bytes:
    """A gzipped tar with one member of 96 MB of zeros; a kind of b"L" or b"x" claims them for a name."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0, compresslevel=1) as packed:
        packed.write(_header(name, BOMB, kind))
        for _ in range(BOMB // 2**20):
            packed.write(bytes(2**20))
    return file.getvalue()


@st.composite
def cases(draw) -> Cifar:
    folder, names, label_bytes = draw(st.sampled_from([TEN, HUNDRED]))
    batches, files = [], {}
    for number, name in enumerate(names):
        if name.endswith(".txt"):
            files[name] = "\n".join(f"class{number}" for number in range(CLASSES)).encode()
            continue
        batches.append(_records(draw(st.integers(1, 3)), label_bytes, number, 10 if label_bytes == 1 else CLASSES))
        files[name] = batches[-1].tobytes()
    damage = draw(edits) if draw(st.booleans()) else []
    good = not damage
    if draw(st.integers(0, 5)) == 0:
        del files[draw(st.sampled_from(sorted(files)))]
        good = False
    pixels = np.concatenate(batches)[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    if draw(st.booleans()):
        if damage:
            name = draw(st.sampled_from(sorted(files)))
            files[name] = mutate(files[name], damage)
        return Cifar(
            {f"set/{name}": data for name, data in files.items()} or {"set/x": b""}, True, pixels if good else None
        )
    checked = draw(st.integers(0, 3)) == 0
    if draw(st.integers(0, 9)) == 0:
        kind = draw(
            st.sampled_from([tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
        )
        return Cifar(
            {"set.tar.gz": bomb(kind, f"{folder}/{draw(st.sampled_from([names[0], 'other']))}")}, checked, None
        )
    data, odd = draw(tars(folder, files))
    zipped = draw(st.booleans())
    data = gzip.compress(mutate(data, damage), 1) if zipped else mutate(data, damage)
    if draw(st.integers(0, 4)) == 0:
        data, good = mutate(data, draw(edits)), False
    return Cifar({"set.tar.gz": data}, checked, pixels if good and not odd and not checked else None)


@st.composite
def tars(draw, folder: str, files: dict[str, bytes]) -> tuple[bytes, bool]:
    """(an archive of the files, whether something odd was added to it)."""
    out, odd = b"", False
    if draw(st.integers(0, 3)) == 0:
        kind = draw(
            st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"L", b"K", b"x", b"g", b"S", b"V", b"7", b"\0", b"D"])
        )
        name = draw(st.sampled_from(["../canary", "/etc/canary", f"{folder}/data_batch_1.bin", "cifar-10-batches-py/data_batch_1",
                                     "a" * 99, f"{folder}/train.bin"]))  # fmt: skip
        size = draw(st.sampled_from((*INTERESTING, 2**33 - 1)))
        content = draw(
            st.sampled_from(
                [b"", b"30 GNU.sparse.major=1\n" * 9, b"99 path=\xff\xfe\n", b"9999999999999999 a=b\n", bytes(512)]
            )
        )
        out, odd = _header(name, size, kind) + content.ljust(512 * bool(content), b"\0"), True
    for name, data in files.items():
        padded = data + bytes(-len(data) % 512)
        out += _header(f"{folder}/{name}", len(data), b"0") + padded
    return out + bytes(1024), odd


def write(case: Cifar, folder: Path) -> None:
    for name, data in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def read(case: Cifar, folder: Path):
    if "set.tar.gz" not in case.files:
        return load_images(folder / "set")
    if case.checked:
        return load_images(folder / "set.tar.gz")
    return reader.read_cifar_archive(folder / "set.tar.gz", Fit(), checked=False)


def verify(case: Cifar, folder: Path, found) -> None:
    assert found.images.shape[1:] == (32, 32, 3)
    if case.pixels is not None:
        assert np.array_equal(found.images, case.pixels)


def prepare(folder: Path) -> None:
    small_machine()
    reader.MOST_BYTES = 2**25


KIND = Kind(
    "cifar", cases(), write, read, verify, lambda case, folder: (str(folder / "set"),),
    lambda case: case.pixels is not None, prepare=prepare,
)  # fmt: skip
