"""Search spaces: wrong types, huge and infinite numbers, alias bombs, tags, repeated and circular keys, odd changes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st

from ambient_ray.tuning.points import distribution, grid_points, uniform, values_in
from ambient_ray.tuning.space import load_space, shipped_spaces

from .harness import Kind
from .mutations import HOSTILE
from .texts import yaml_texts

SHIPPED = tuple(yaml.safe_load(path.read_text()) for path in sorted(shipped_spaces().glob("*.yaml")))
CONDITIONAL = {
    "parameters": {
        "mixing": {"choices": ["set_split", "sigma_split"], "prior": "set_split"},
        "noisy_ratio": {"low": 0.1, "high": 0.9, "when": {"mixing": ["set_split"]}, "prior": "configured", "spread": 0.1},
        "noise_draws": {"choices": [1, 2, 4]},
        "n_train": {"low": 10, "high": 1000, "log": True, "integer": True, "when": {"noise_draws": [1, 2]}},
    },
    "fixed": {"sigma_tn": 0.5},
    "baselines": [{"sigma_tn": 0.0}],
}  # fmt: skip
DOCUMENTS = (*SHIPPED, CONDITIONAL)
SETTINGS = frozenset(
    name for space in DOCUMENTS for part in (space["parameters"], space.get("fixed", {})) for name in part
) | {name for space in DOCUMENTS for baseline in space.get("baselines", ()) for name in baseline}
PARTS = ("low", "high", "prior", "spread", "log", "integer", "when", "choices", "x")


@dataclass(frozen=True)
class SpaceFile:
    """A file's bytes, and the changes and configured values that it is read with."""

    whole: bool
    data: bytes
    overrides: dict[str, Any]
    configured: dict[str, Any]

    def __repr__(self) -> str:
        return f"whole={self.whole} {self.data[:1500]!r} {self.overrides!r:.600} {self.configured!r:.300}"


hostile = st.sampled_from(HOSTILE)


@st.composite
def spaces(draw) -> SpaceFile:
    whole, data = draw(yaml_texts(DOCUMENTS))
    overrides = configured = {}
    if draw(st.integers(0, 3)) == 0:
        part = st.dictionaries(st.sampled_from(PARTS), hostile, max_size=2)
        overrides = draw(st.dictionaries(st.sampled_from(sorted(SETTINGS)), st.one_of(part, hostile), max_size=1))
        configured = draw(st.dictionaries(st.sampled_from(["lr", "noisy_ratio", "dropout"]), hostile, max_size=2))
    return SpaceFile(whole and not overrides and not configured, data, overrides, configured)


def write(case: SpaceFile, folder: Path) -> None:
    (folder / "mine.yaml").write_bytes(case.data)


def read(case: SpaceFile, folder: Path):
    space = load_space(
        str(folder / "mine.yaml"), settings=SETTINGS, overrides=case.overrides, configured=case.configured
    )
    for parameter in space.parameters.values():
        distribution(parameter)
    drawn = [uniform(np.random.default_rng(seed), space) for seed in range(3)]
    return space, [*drawn, *(grid_points(space, 2)[:5] if len(space.parameters) < 6 else ())]


def verify(case: SpaceFile, folder: Path, found) -> None:
    """What is accepted can be stored, and every point that is drawn from it lies within it."""
    space, points = found
    json.dumps(space.describe())
    for point in points:
        assert values_in(space, point) == point, point
    if case.whole:
        assert set(space.parameters) == set(yaml.safe_load(case.data)["parameters"])


KIND = Kind(
    "spaces", spaces(), write, read, verify, lambda case, folder: ("mine", "space."), lambda case: case.whole,
)  # fmt: skip
