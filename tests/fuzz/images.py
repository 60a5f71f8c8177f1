"""Folders of pictures: damaged, made up, animated, of absurd dimensions, bombs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.data import load_images

from . import pictures
from .bounds import small_machine
from .harness import Kind

NAMES = ("a.png", "b.jpg", "d.gif", "e.webp", "f.tif", "g.PNG", "h.bmp", "i.jp2")


@dataclass(frozen=True)
class Folder:
    """Pictures by their names, and the options they are read with."""

    files: dict[str, tuple[str, bytes]]
    resolution: int | None
    channels: int | None
    skip_broken: bool
    mapped: bool

    def __repr__(self) -> str:
        shown = {name: (what, data.hex()[:3000]) for name, (what, data) in self.files.items()}
        return f"{shown} {self.resolution} {self.channels} {self.skip_broken} {self.mapped}"


@st.composite
def folders(draw) -> Folder:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    return Folder(
        {name: draw(pictures.picture_bytes()) for name in names},
        draw(st.sampled_from([None, None, 8, 16])),
        draw(st.sampled_from([None, None, 1, 3])),
        draw(st.booleans()),
        draw(st.integers(0, 9)) == 0,
    )


def write(case: Folder, folder: Path) -> None:
    for name, (_, data) in case.files.items():
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read(case: Folder, folder: Path):
    return load_images(
        folder / "images", resolution=case.resolution, channels=case.channels, skip_broken=case.skip_broken,
        memory_map=case.mapped,
    )  # fmt: skip


def verify(case: Folder, folder: Path, found) -> None:
    kept = [name for name in sorted(case.files) if name not in found.skipped]
    assert len(found) == len(kept) and (case.skip_broken or not found.skipped)
    assert found.images.shape[3] == (case.channels or found.images.shape[3])
    for row, name in enumerate(kept):
        if case.resolution is None and case.channels is None:
            wanted = pictures.as_pillow_says(case.files[name][1])
            if wanted is not None:
                assert np.array_equal(found.images[row], wanted), name
        elif case.resolution is not None:
            assert found.images.shape[1:3] == (case.resolution, case.resolution)


def is_valid(case: Folder) -> bool:
    """One whole picture alone; several may differ in size or channels, or lie beside a folder."""
    return len(case.files) == 1 and all(what.startswith("valid") for what, _ in case.files.values())


def prepare(folder: Path) -> None:
    small_machine()


KIND = Kind(
    "images", folders(), write, read, verify, lambda case, folder: (str(folder / "images"),), is_valid,
    prepare=prepare,
)  # fmt: skip
