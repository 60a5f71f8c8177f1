"""`.npz`, `.npy` and mapped folders: lying headers, object arrays, wrong types, damaged archives and names."""

import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import load_images

from .archives import METHODS, archive, lied, lies
from .bounds import small_machine
from .harness import Kind
from .mutations import as_json, document_edits, edited, edits, mutate

SHAPES: tuple[tuple[Any, ...], ...] = (
    (3, 4, 4), (3, 4, 4, 1), (3, 4, 4, 3), (3,), (), (0, 4, 4), (3, 0, 4), (3, 4, 4, 2), (48,), (10**6, 10**6, 10**6),
    (2**40,), (2**63, 2, 2), (-1, 4, 4), (-3, -4, 4), (3, 4, 4, 1, 1), (4000, 4000, 3), (1,) * 65, (10**400, 1, 1),
    (3.0, 4, 4), (True, 4, 12), ("3", 4, 4), (3, 4, None),
)  # fmt: skip
DESCRIPTIONS: tuple[Any, ...] = (
    "|u1", "|u1", "|u1", "|i1", "<i8", ">i8", "<f4", "<f8", "|b1", "|O", "<U9", "|S1", "<M8[s]", "<c16", "V4", "nonsense",
    [("a", "|u1")], [("a", "|O")], [], {}, None, 3, "|u1,|u1", ("|u1", (4,)), "<f2", "|V0", "|u" + "1" * 400,
)  # fmt: skip
PAYLOADS = (48, 144, 24, 3, 0, 1, 2**20)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return (Path.write_text, (Path("trapped"), "ran"))


PICKLE = pickle.dumps(np.array([Trap()], dtype=object), protocol=2)


def npy(
    description: Any, fortran: Any, shape: Any, payload: bytes, *, version: int = 1, header: str | None = None
) -> bytes:
    """An array file whose header says what it likes."""
    text = header if header is not None else repr({"descr": description, "fortran_order": fortran, "shape": shape})
    packed = text.encode("latin1", "replace").ljust(117) + b"\n"
    length = struct.pack("<H", len(packed) % 2**16) if version == 1 else struct.pack("<I", len(packed))
    return b"\x93NUMPY" + bytes([version % 256, 0]) + length + packed + payload


HEADERS = (
    None, None, None, None, None, None, "", "{", "{'descr': ", "[" * 3000, "(" * 90 + ")" * 90, "1L", "{'shape': (3L, 4, 4)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (3L, 4L, 4L), }", "__import__('os').system('true')", "\0", "x" * 60000,
    " \n  a\n b", "{'descr': '|u1', 'fortran_order': False}", "'''", "-" * 2000 + "1", "{1: 2, None: 3, 'a': 4}", "0" * 9000,
)  # fmt: skip


@st.composite
def array_files(draw) -> tuple[bool, bytes]:
    """(whether they are images or labels as expected, the bytes)."""
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(3, 4, 4), (3, 4, 4, 1), (3, 4, 4, 3)]))
        file = io.BytesIO()
        images = np.random.default_rng(len(shape) + shape[-1]).integers(0, 256, shape, dtype=np.uint8)
        np.save(file, np.asfortranarray(images) if draw(st.booleans()) else images)
        return True, file.getvalue()
    payload = PICKLE if draw(st.integers(0, 5)) == 0 else bytes(draw(st.sampled_from(PAYLOADS)))
    return False, npy(
        draw(st.sampled_from(DESCRIPTIONS)), draw(st.sampled_from([False, False, True, None, "x"])),
        draw(st.sampled_from(SHAPES)), payload, version=draw(st.sampled_from([1, 1, 1, 2, 3, 4, 0])),
        header=draw(st.sampled_from(HEADERS)),
    )  # fmt: skip


@st.composite
def label_files(draw) -> tuple[bool, bytes]:
    good, data = True, b""
    if draw(st.booleans()):
        file = io.BytesIO()
        np.save(file, np.array([0, 1, 2], dtype=draw(st.sampled_from([np.int64, np.uint8, np.int16]))))
        data = file.getvalue()
    else:
        values = draw(st.lists(st.sampled_from([0, 1, 2, -1, 65535, 65536, 2**62]), max_size=4))
        shape = draw(st.sampled_from([(3,), (3, 1), (len(values),), (1, 3)]))
        good, data = (
            False,
            npy(draw(st.sampled_from(["<i8", "|u1", "<u8", "<f8", "|O"])), False, shape, np.array(values).tobytes()),
        )
    return good, data


NAMES = (
    ("images", "labels"),
    ("x", "y"),
    ("arr_0", "arr_1"),
    ("x_train", "y_train"),
    ("nothing", "known"),
    ("images", "y"),
)
SET = {"name": "set", "class_names": ["a", "b", "c"], "skipped": ["x.png"], "ids": ["0", "1", "2"]}


@dataclass(frozen=True)
class Arrays:
    """Files by name, what is read of them, and whether all is as it should be."""

    files: dict[str, bytes]
    path: str
    good: bool
    mapped: bool
    resolution: int | None
    images: bytes

    def __repr__(self) -> str:
        shown = {name: data[:700] for name, data in self.files.items()}
        return f"{self.path} good={self.good} mapped={self.mapped} {self.resolution} {shown}"


@st.composite
def arrays(draw) -> Arrays:
    good, images = draw(array_files())
    labels_good, labels = draw(label_files()) if draw(st.booleans()) else (True, None)
    damage = draw(edits) if draw(st.integers(0, 2)) == 0 else []
    form = draw(st.sampled_from(["npz", "npz", "npy", "folder"]))
    mapped, resolution = draw(st.integers(0, 9)) == 0, draw(st.sampled_from([None, None, None, 8]))
    files: dict[str, bytes]
    if form == "npz":
        pair = draw(st.sampled_from(NAMES))
        ending = draw(st.sampled_from([".npy", ".npy", ".npy", ""]))
        entries = [(pair[0] + ending, images)] + ([(pair[1] + ending, labels)] if labels is not None else [])
        if draw(st.integers(0, 9)) == 0:
            entries += entries
        held = archive(
            [(name, data, draw(st.sampled_from(METHODS)), draw(st.sampled_from([0o644, 0]))) for name, data in entries]
        )
        wrong = draw(lies)
        files = {"set.npz": mutate(lied(held, wrong), damage)}
        whole = good and labels_good and not damage and not wrong and pair[0] != "nothing" and ending == ".npy"
        return Arrays(files, "set.npz", whole, mapped, resolution, images)
    whole = good and labels_good and not damage
    if form == "npy":
        files = {"set.npy": mutate(images, damage)} | ({"set.labels.npy": labels} if labels is not None else {})
        return Arrays(files, "set.npy", whole, mapped, resolution, images)
    changes = draw(document_edits)
    files = {"set/images.npy": mutate(images, damage), "set/set.json": as_json(edited(SET, changes))}
    if labels is not None:
        files["set/labels.npy"] = labels
    return Arrays(files, "set", whole and not changes, mapped, resolution, images)


def write(case: Arrays, folder: Path) -> None:
    for name, data in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def read(case: Arrays, folder: Path):
    return load_images(folder / case.path, memory_map=case.mapped, resolution=case.resolution)


def verify(case: Arrays, folder: Path, found) -> None:
    assert found.images.dtype == np.uint8 and found.images.ndim == 4 and len(set(found.ids)) == len(found)
    if case.good and case.resolution is None:
        assert np.array_equal(found.images, np.load(io.BytesIO(case.images)).reshape(found.images.shape))
    if case.path == "set.npy":
        held = np.load(folder / "set.npy", allow_pickle=False)
        assert case.resolution or np.array_equal(found.images.reshape(held.shape), held)
    assert not Path("trapped").exists()


KIND = Kind(
    "arrays", arrays(), write, read, verify, lambda case, folder: (str(folder / "set"),), lambda case: case.good,
    prepare=lambda folder: small_machine(),
)  # fmt: skip
