"""Files of points to run first, as YAML, JSON and CSV."""

from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from ambient_ray.tuning.enqueued import load_points
from ambient_ray.tuning.space import Choice, Range, Space

from .harness import Kind
from .mutations import as_json, document_edits, edited, edits, mutate
from .texts import ODD, yaml_texts

SPACE = Space(
    "mine",
    {
        "mixing": Choice(("set_split", "sigma_split")), "sigma_tn": Range(0.1, 4.0, log=True),
        "noisy_ratio": Range(0.1, 0.9), "noise_draws": Choice((1, 2, 4)), "flip": Choice((True, False)),
        "n_train": Range(10, 1000, integer=True),
    },
    conditions={"noisy_ratio": {"mixing": ("set_split",)}},
)  # fmt: skip
POINTS = [
    {"sigma_tn": 0.5, "mixing": "set_split", "noisy_ratio": 0.5},
    {"sigma_tn": 2, "noise_draws": 2, "flip": True},
    {"n_train": 20.0},
]
CSV = b"sigma_tn,mixing,noisy_ratio,n_train\n0.5,set_split,0.4,20\n1e0,sigma_split,,\n"
CELLS = (
    "",
    '"',
    "nan",
    "inf",
    "1e999",
    "9" * 5000,
    "\0",
    "sigma_tn",
    "true",
    "1_0",
    "-0",
    "x" * 200000,
    ",",
    "\r",
    "set_split",
    "\u0661",
)


@dataclass(frozen=True)
class Points:
    """A file's name and bytes."""

    name: str
    whole: bool
    data: bytes

    def __repr__(self) -> str:
        return f"{self.name} whole={self.whole} {self.data[:1500]!r}"


@st.composite
def files(draw) -> Points:
    form = draw(st.sampled_from(["points.yaml", "points.json", "points.csv", "points.YML"]))
    if form == "points.json":
        changes, damage = draw(document_edits), draw(edits) if draw(st.integers(0, 3)) == 0 else []
        data = draw(st.sampled_from(ODD)).encode("utf-8", "surrogatepass") if draw(st.integers(0, 15)) == 0 else None
        whole = not changes and not damage and data is None
        return Points(form, whole, mutate(as_json(edited(POINTS, changes)), damage) if data is None else data)
    if form == "points.csv":
        changes = draw(st.lists(st.tuples(st.integers(0, 11), st.sampled_from(CELLS)), max_size=3))
        rows = [line.split(",") for line in CSV.decode().splitlines()]
        for place, cell in changes:
            rows[place // 4][place % 4] = cell
        damage = draw(edits) if draw(st.integers(0, 3)) == 0 else []
        return Points(form, not changes and not damage, mutate("\n".join(map(",".join, rows)).encode(), damage))
    whole, data = draw(yaml_texts((POINTS, POINTS[:1])))
    return Points(form, whole, data)


def write(case: Points, folder: Path) -> None:
    (folder / case.name).write_bytes(case.data)


def read(case: Points, folder: Path):
    return load_points(folder / case.name, SPACE, {"lr"})


def verify(case: Points, folder: Path, found) -> None:
    for point in found:
        assert point and all(SPACE.parameters[name].contains(value) for name, value in point.items()), point
    if case.whole and not case.name.endswith("csv"):
        assert found == POINTS[: len(found)]


KIND = Kind(
    "points", files(), write, read, verify, lambda case, folder: (str(folder / case.name),), lambda case: case.whole,
)  # fmt: skip
