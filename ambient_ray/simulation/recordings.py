"""Recorded learning curves as they lie in their Parquet file: a row a (configuration, seed, rung)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.errors import UserError
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.space import Space

from .coordinates import described_space, unit_coordinates

Array = NDArray[np.float64]

#: A run this many times worse in fidelity than the best seed of its configuration has met with an accident.
ACCIDENT = 3.0


class RecordingError(UserError):
    """A file of recorded curves that cannot be replayed."""


@dataclass(frozen=True)
class Recordings:
    """Recorded configurations with several training seeds each.

    Attributes:
        space: what was searched, read from the file's metadata.
        objectives: the two scores of the search.
        rungs: images seen at each rung [R].
        seconds: mean seconds of each rung, training and scoring [R].
        scores: names of the scores [K].
        settings: the configurations' settings [C].
        values: of each configuration [S, R, K], its seeds; NaN where a run had ended.
        unit: the configurations' coordinates [C, D].
        baseline: plain DDPM's values [S', R, K].
        made_with: how they were made.
    """

    space: Space
    objectives: Objectives
    rungs: tuple[int, ...]
    seconds: tuple[float, ...]
    scores: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]
    values: tuple[Array, ...]
    unit: Array
    baseline: Array
    made_with: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, scores: Sequence[str] = ("gap",)) -> "Recordings":
        """Read a file that benchmarks/record.py wrote.

        Args:
            path: the Parquet file.
            scores: what else is replayed beside the two objectives.

        Raises:
            RecordingError: no such file, not such a file, a score that was not recorded, or no baseline.
        """
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise RecordingError(f"recorded curves {path}: not readable ({str(error).splitlines()[0]})") from error
        made = json.loads((table.schema.metadata or {}).get(b"made_with", b"{}"))
        if not {"space", "objectives"} <= made.keys():
            raise RecordingError(f"recorded curves {path}: its metadata lack made_with; see benchmarks/record.py")
        space, objectives = described_space(made["space"]), Objectives(*made["objectives"])
        names = tuple(dict.fromkeys([objectives.fidelity, objectives.memorization, *scores]))
        missing = [name for name in names if f"score:{name}" not in table.column_names]
        if missing:
            raise RecordingError(f"recorded curves {path}: the score {missing[0]!r} was not recorded")
        rows = table.to_pylist()
        rungs = sorted({row["images_seen"] for row in rows if row["rung"] >= 0})
        baseline = _values([row for row in rows if row["configuration"] < 0], len(rungs), names)
        numbers = sorted({row["configuration"] for row in rows if row["configuration"] >= 0})
        if not len(baseline) or len(numbers) < 3:
            raise RecordingError(f"recorded curves {path}: needs plain DDPM (-1) and three or more configurations")
        each = [[row for row in rows if row["configuration"] == number] for number in numbers]
        values = tuple(_values(own, len(rungs), names) for own in each)
        settings = tuple(json.loads(own[0]["settings"]) for own in each)
        seconds = tuple(float(np.mean([r["seconds"] for r in rows if r["rung"] == i])) for i in range(len(rungs)))
        unit = np.stack([unit_coordinates(space, s) for s in settings])
        return cls(space, objectives, tuple(rungs), seconds, names, settings, values, unit, baseline, made)


def accidents(fidelity: Array) -> NDArray[np.int64]:
    """At which rung each seed's run went astray while another seed of its configuration did not.

    A run that ended, or whose fidelity is `ACCIDENT` times the best seed's, is luck and not its configuration's: a
    configuration that diverges under every seed diverges.

    Args:
        fidelity: [S, R], NaN where a run had ended.

    Returns:
        int64 [S]; R for a run without accident.
    """
    seeds, rungs = fidelity.shape
    best = np.array([np.nanmin(column) if np.isfinite(column).any() else np.nan for column in fidelity.T])
    with np.errstate(invalid="ignore"):
        bad = ~(fidelity <= ACCIDENT * best) & np.isfinite(best)
    return np.array([int(np.argmax(bad[s])) if bad[s].any() else rungs for s in range(seeds)], dtype=np.int64)


def _values(rows: Sequence[Mapping[str, Any]], rungs: int, names: Sequence[str]) -> Array:
    """[S, R, K] of one configuration's rows."""
    seeds = sorted({row["seed"] for row in rows})
    values = np.full((len(seeds), rungs, len(names)), np.nan)
    for row in rows:
        if row["rung"] >= 0:
            values[seeds.index(row["seed"]), row["rung"]] = [_number(row[f"score:{name}"]) for name in names]
    return values


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
