"""Zips of pictures: traversing, absolute and repeated names, links, bombs, nested archives, lying headers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import load_images
from ambient_ray.data.readers.zipped import safe_name

from . import pictures
from .archives import METHODS, archive, lied, lies
from .bounds import small_machine
from .harness import Kind
from .mutations import edits, mutate

NAMES = (
    "a.png", "b.png", "a/1.png", "b/2.png", "train/a/1.png", "test/a/1.png", "../canary.png", "../../around/canary.png",
    "/etc/canary.png", "C:\\canary.png", "..\\canary.png", "a/../../b.png", ".", "..", "", "/", ".png", "..png",
    "__MACOSX/a.png", "a\0b.png", "\x1b[31mred.png", "x" * 300 + ".png", "ünï.png", "a.png/", "inner.zip", "a.txt",
    "a//b.png", "./a.png", "con.png", "a\n.png",
)  # fmt: skip
PLAIN = pictures.encoded(pictures.pixels("RGB"), "PNG")
SMALL_BOMB = pictures.png(1000, 1000, 8, 0, pictures.zeros(1001 * 1000))
CONTENTS = (
    PLAIN, PLAIN, PLAIN, pictures.encoded(pictures.pixels("L"), "PNG"), b"", b"../../around/canary", b"\0" * 2**20,
    b"\0" * (2**24 + 1), SMALL_BOMB, archive([("a.png", PLAIN, 8, 0o644)]),
)  # fmt: skip


@dataclass(frozen=True)
class Zip:
    """A zip file, what it was made of, the folder in it that is read, and options."""

    entries: tuple[tuple[str, int, int, int], ...]
    data: bytes
    whole: bool
    name: str
    inside: str
    skip_broken: bool
    labels: str
    mapped: bool

    def __repr__(self) -> str:
        return f"{self.name}/{self.inside} {self.entries} whole={self.whole} {self.skip_broken} {self.labels} {self.data.hex()[:2500]}"


entry = st.tuples(
    st.integers(0, len(NAMES) - 1), st.integers(0, len(CONTENTS) - 1), st.integers(0, 3),
    st.sampled_from([0o644, 0o644, 0, 0o120777, 0o40755]),
)  # fmt: skip
good_entry = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3), st.just(0o644))


@st.composite
def zips(draw) -> Zip:
    chosen = draw(st.lists(st.one_of(good_entry, entry), max_size=5))
    if draw(st.integers(0, 200)) == 0:
        chosen = [(n, c if c < 6 else 0, 0, mode) for n, c, _, mode in chosen] * 100
    chosen = [(n, c, m if c not in (6, 7) else m % 2, mode) for n, c, m, mode in chosen]  # others take seconds to make
    data = archive([(NAMES[n], CONTENTS[c], METHODS[m], mode) for n, c, m, mode in chosen])
    changes, damage = draw(lies), draw(edits) if draw(st.booleans()) else []
    return Zip(
        tuple(chosen), mutate(lied(data, changes), damage), not changes and not damage,
        draw(st.sampled_from(["images.zip", "images.zip", "images.ZIP", "images.bin"])),
        draw(st.sampled_from(["", "", "", "a", "train", "..", "../around"])),
        draw(st.booleans()), draw(st.sampled_from(["auto", "folders", "none"])), draw(st.integers(0, 9)) == 0,
    )  # fmt: skip


def write(case: Zip, folder: Path) -> None:
    (folder / case.name).write_bytes(case.data)


def inner(case: Zip) -> str:
    """The folder in it that is read: only what is called .zip has any."""
    return case.inside if case.name.lower().endswith(".zip") else ""


def read(case: Zip, folder: Path):
    inside = inner(case)
    return load_images(
        folder / case.name / inside, skip_broken=case.skip_broken, labels=case.labels, memory_map=case.mapped
    )


def verify(case: Zip, folder: Path, found) -> None:
    for image_id in found.ids:
        assert not image_id.startswith("/") and ".." not in image_id.split("/") and "\\" not in image_id, image_id
    if case.whole and all(c <= 2 and n <= 3 for n, c, _, _ in case.entries):
        wanted = pictures.as_pillow_says(PLAIN)
        inside = safe_name(inner(case))
        assert len(found) == sum(NAMES[n].startswith(f"{inside}/" if inside else "") for n, _, _, _ in case.entries)
        assert all(np.array_equal(image, wanted) for image in found.images)


def is_valid(case: Zip) -> bool:
    names = {NAMES[n] for n, _, _, _ in case.entries}
    flat = names in ({"a.png"}, {"b.png"}, {"a.png", "b.png"}, {"a/1.png", "b/2.png"}, {"a/1.png"}, {"b/2.png"})
    good = all(n <= 3 and c <= 2 and mode == 0o644 for n, c, _, mode in case.entries)
    return case.whole and good and flat and len(names) == len(case.entries) and not case.inside


KIND = Kind(
    "zips", zips(), write, read, verify, lambda case, folder: (str(folder / case.name),), is_valid,
    prepare=lambda folder: small_machine(),
)  # fmt: skip
