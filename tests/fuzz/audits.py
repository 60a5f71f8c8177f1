"""What an audit compares: images of any form as generated, as trained on and as held out, and a list of a subset."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ambient_ray.console.auditing.generated import check_exists, read_generated
from ambient_ray.console.auditing.real_images import Reading, read_real

from . import arrays, subset_lists, zips
from .bounds import small_machine
from .harness import Kind


@dataclass(frozen=True)
class Audit:
    """Two sources, which of them is damaged, and how they are read."""

    source: object
    place: str
    subset: object | None
    resolution: int | None

    def __repr__(self) -> str:
        return f"{self.place} {self.resolution} {self.subset!r:.500} {self.source!r:.2000}"


def good_images(folder: Path) -> None:
    np.save(folder / "good.npy", subset_lists.IMAGES.images)


@st.composite
def audits(draw) -> Audit:
    source = draw(st.one_of(zips.zips(), arrays.arrays(), st.none()))
    place = "heldout" if source is None else draw(st.sampled_from(["generated", "train", "heldout"]))
    subset = draw(subset_lists.files()) if draw(st.integers(0, 4)) == 0 else None
    return Audit(source, place, subset, draw(st.sampled_from([None, None, 8])))


def write(case: Audit, folder: Path) -> None:
    good_images(folder)
    if case.source is not None:
        (zips if isinstance(case.source, zips.Zip) else arrays).write(case.source, folder)
    if case.subset is not None:
        subset_lists.write(case.subset, folder)


def read(case: Audit, folder: Path):
    good = str(folder / "good.npy")
    name = case.source.name if isinstance(case.source, zips.Zip) else getattr(case.source, "path", "good.npy")
    bad = str(folder / name)
    sources = {"generated": good, "train": good, "heldout": None} | {case.place: bad}
    reading = Reading(resolution=case.resolution)
    subset = folder / "list.json" if case.subset is not None else None
    check_exists(sources["generated"])
    real = read_real(sources["train"], reading, subset=subset, heldout=sources["heldout"])
    return real, read_generated(sources["generated"], reading, real)


def verify(case: Audit, folder: Path, found) -> None:
    real, generated = found
    assert generated.images.shape[1:] == real.train.images.shape[1:]
    assert len(generated.images) >= 3 and len(real.train) >= 3


KIND = Kind(
    "audits", audits(), write, read, verify, lambda case, folder: (str(folder), "dataset.subset"),
    lambda case: False, prepare=lambda folder: small_machine(),
)  # fmt: skip
