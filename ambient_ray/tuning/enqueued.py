"""Points that a user wants tried first: a YAML, JSON or CSV file of configurations, checked against the space.

    - {sigma_tn: 0.5, noisy_ratio: 0.34}
    - {sigma_tn: 2.0}

As CSV, the first line names the parameters and an empty cell leaves one out. What a point leaves out is for the sampler
to choose.
"""

import csv
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from ambient_ray.errors import UserError

from .parameters import Choice, Parameter, Range, find_choice, is_number, meant
from .plain_yaml import cut, read_yaml, shown
from .space import Space

ENDINGS = (".yaml", ".yml", ".json", ".csv")


class EnqueuedPointsError(UserError):
    """A file of points that cannot be read, or a point that the space does not hold."""


def load_points(path: Path, space: Space, settings: Collection[str] = ()) -> list[dict[str, Any]]:
    """The points of a file, in its order, each {parameter: value} with values as the space has them.

    Args:
        path: a file that ends in .yaml, .yml, .json or .csv.
        space: what is searched; a point may name some of its parameters or all.
        settings: names of all settings of a training run, to say why one of them is refused.

    Raises:
        EnqueuedPointsError: the file cannot be read or holds no point, or a point names an unknown parameter, a value
            outside of its range, or a parameter that does not exist under the point's other values.
    """
    where = f"enqueue={path}"
    listed = _read(where, path)
    if not isinstance(listed, list):
        raise EnqueuedPointsError(f"{where}: expected a list of points, each {{parameter: value}}, got {listed!r:.60}")
    if not listed:
        raise EnqueuedPointsError(f"{where}: the file holds no point")
    return [_point(f"{where}, point {number}", item, space, settings) for number, item in enumerate(listed, start=1)]


def _read(where: str, path: Path) -> Any:
    if path.suffix.lower() not in ENDINGS:
        raise EnqueuedPointsError(f"{where}: the name must end in {', '.join(ENDINGS)}, which says how to read it")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text) if text.strip() else []
        return _rows(where, text) if path.suffix.lower() == ".csv" else read_yaml(text) or []
    except OSError as error:
        raise EnqueuedPointsError(f"{where}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, yaml.YAMLError, csv.Error) as error:
        kind = path.suffix.lower().removeprefix(".").replace("yml", "yaml").upper()
        raise EnqueuedPointsError(f"{where}: not readable as {kind}: {cut(error)}") from error


def _rows(where: str, text: str) -> list[dict[str, str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), strict=True)]
    rows = [row for row in rows if any(row)]
    if not rows:
        return []
    header = rows[0]
    if "" in header or len(set(header)) < len(header):
        raise EnqueuedPointsError(f"{where}: the first line must name each column once, got {cut(','.join(header))}")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise EnqueuedPointsError(
                f"{where}, point {number}: the line has {len(row)} cells and the header {len(header)}"
            )
    return [{name: cell for name, cell in zip(header, row, strict=True) if cell} for row in rows[1:]]


def _point(where: str, raw: object, space: Space, settings: Collection[str]) -> dict[str, Any]:
    if not isinstance(raw, Mapping) or not raw:
        raise EnqueuedPointsError(
            f"{where}: a point is {{parameter: value}} with at least one of them, got {shown(raw)}"
        )
    for name in raw:
        if name not in space.parameters:
            why = "a setting that this space does not search" if name in settings else "an unknown parameter"
            raise EnqueuedPointsError(
                f"{where}: {cut(name)} is {why};{meant(str(name), space.parameters, 'it searches')}"
            )
    values: dict[str, Any] = {}
    for name in space.order:
        if name not in raw:
            continue
        parameter = space.parameters[name]
        value = _as_stored(parameter, raw[name])
        if not parameter.contains(value):
            raise EnqueuedPointsError(f"{where}: {name} must be {_described(parameter)}, got {shown(raw[name])}")
        values[name] = value
    for name in values:
        for parent, allowed in space.conditions.get(name, {}).items():
            if parent not in values:
                raise EnqueuedPointsError(
                    f"{where}: {name} exists only under some values of {parent}, so the point must set {parent} too"
                )
            if find_choice(allowed, values[parent]) is None:
                needed = " or ".join(str(value) for value in allowed)
                raise EnqueuedPointsError(
                    f"{where}: {name} does not exist here: it needs {parent}={needed} and the point has"
                    f" {parent}={values[parent]}"
                )
    return values


def _as_stored(parameter: Parameter, value: object) -> object:
    """A file's value as the space has it: CSV holds words only, and YAML takes 1e-3 for one."""
    if isinstance(parameter, Choice):
        place = find_choice(parameter.choices, value)
        if place is None and isinstance(value, str):
            place = next((i for i, choice in enumerate(parameter.choices) if _spelt(choice, value)), None)
        return value if place is None else parameter.choices[place]
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if not is_number(value):
        return value
    return int(value) if parameter.integer and value == int(value) else float(value)


def _spelt(choice: object, text: str) -> bool:
    """Whether a word in a file means this choice: true for True, 2 for 2.0."""
    if isinstance(choice, bool | str):
        return str(choice).lower() == text.lower()
    try:
        return float(text) == choice
    except ValueError:
        return False


def _described(parameter: Parameter) -> str:
    return f"{parameter}{', whole' if isinstance(parameter, Range) and parameter.integer else ''}"
