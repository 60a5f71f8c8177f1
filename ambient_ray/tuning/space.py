"""What a search varies: one YAML file a space, validated against the settings of a training run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ambient_ray.errors import UserError

#: Settings with a range outside of which training makes no sense: name -> (lowest, highest, what it is).
LIMITS: dict[str, tuple[float, float, str]] = {
    "sigma_tn": (0.0, math.inf, "a noise level, 0 or above"),
    "noisy_ratio": (0.0, 1.0, "a share, from 0 to 1"),
    "dropout": (0.0, 1.0, "a probability, from 0 to 1"),
    "lr": (0.0, math.inf, "above 0"),
    "weight_decay": (0.0, math.inf, "0 or above"),
}


class SearchSpaceError(UserError):
    """A search space that cannot be searched: unknown name, unknown parameter, impossible range."""


@dataclass(frozen=True)
class Range:
    """A number to search: low <= value <= high, evenly on a linear or logarithmic scale."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def contains(self, value: object) -> bool:
        """Whether a value lies within the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    choices: tuple[str | int | float | bool, ...]

    def contains(self, value: object) -> bool:
        """Whether a value is one of the choices."""
        return value in self.choices


Parameter = Range | Choice


@dataclass(frozen=True)
class Space:
    """What varies, what is fixed, and which configurations are run first as baselines.

    Attributes:
        name: the file's name without its ending.
        parameters: name -> what may be chosen; names are those of the training settings.
        fixed: settings that this space needs and that do not vary.
        baselines: configurations that are run first and never stopped. They may lie outside of the ranges.
    """

    name: str
    parameters: Mapping[str, Parameter]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    baselines: tuple[Mapping[str, Any], ...] = ()

    def describe(self) -> dict[str, Any]:
        """Plain values: what the study stores to tell whether a later run searches the same space."""
        return {
            "parameters": {name: vars(parameter).copy() for name, parameter in self.parameters.items()},
            "fixed": dict(self.fixed),
            "baselines": [dict(baseline) for baseline in self.baselines],
        }


def load_space(
    name: str,
    *,
    settings: frozenset[str],
    folder: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Space:
    """Read a search space by name or by path.

    Args:
        name: the name of a space that ships with the package or lies in `folder` (which is looked at first), or
            the path of a YAML file.
        settings: the names that a space may set.
        folder: a folder with spaces of one's own.
        overrides: {parameter: {key: value}} merged over the file, e.g. {"sigma_tn": {"high": 2}}.

    Raises:
        SearchSpaceError: no such space (the message lists those there are), or one that cannot be searched.
    """
    path = _find(name, folder)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SearchSpaceError(f"search space {path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise SearchSpaceError(f"search space {path}: expected a mapping with the key 'parameters'")
    unknown = sorted(set(content) - {"parameters", "fixed", "baselines"})
    if unknown:
        raise SearchSpaceError(
            f"search space {path}: unknown key {unknown[0]!r}; known are parameters, fixed, baselines"
        )
    raw = dict(content.get("parameters") or {})
    for key, change in (overrides or {}).items():
        if key not in raw:
            raise SearchSpaceError(
                f"space.{key}: the search space {path.stem!r} has no parameter {key!r}; it has {sorted(raw)}"
            )
        raw[key] = {**raw[key], **dict(change)}
    where = f"search space {path.stem!r}"
    parameters = {str(key): _parameter(where, str(key), value) for key, value in raw.items()}
    fixed = dict(content.get("fixed") or {})
    baselines = tuple(dict(item) for item in content.get("baselines") or ())
    for key in [*parameters, *fixed, *(k for baseline in baselines for k in baseline)]:
        if key not in settings:
            raise SearchSpaceError(f"{where}: unknown parameter {key!r}; a space may set {', '.join(sorted(settings))}")
    return Space(path.stem, parameters, fixed, baselines)


def shipped_spaces() -> Path:
    """The folder of the spaces that come with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def _find(name: str, folder: Path | None) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise SearchSpaceError(f"search_space={name}: there is no such file")
        return path
    folders = [*([folder.expanduser()] if folder else []), shipped_spaces()]
    if folder and not folders[0].is_dir():
        raise SearchSpaceError(f"search_spaces={folder}: there is no such folder")
    for place in folders:
        for ending in (".yaml", ".yml"):
            if (place / f"{name}{ending}").is_file():
                return place / f"{name}{ending}"
    known = sorted({path.stem for place in folders for path in place.glob("*.y*ml")})
    raise SearchSpaceError(
        f"search_space={name}: there is no such search space; there are {', '.join(known)}"
        " (or give the path of a YAML file, or your own folder as search_spaces=FOLDER)"
    )


def _parameter(where: str, name: str, raw: object) -> Parameter:
    if isinstance(raw, Mapping) and set(raw) == {"choices"}:
        choices = raw["choices"]
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(c, str | int | float | bool) for c in choices)
        ):
            raise SearchSpaceError(f"{where}: {name}.choices must be a list of numbers or words, got {choices!r}")
        for choice in choices:
            _check_limits(where, name, choice)
        return Choice(tuple(choices))
    if not isinstance(raw, Mapping) or not {"low", "high"} <= set(raw) <= {"low", "high", "log", "integer"}:
        raise SearchSpaceError(
            f"{where}: {name} must be {{low, high}} with log and integer if wanted, or {{choices: [...]}}; got {raw!r}"
        )
    low, high = raw["low"], raw["high"]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in (low, high)):
        raise SearchSpaceError(f"{where}: the range of {name} must be two numbers, got low={low!r}, high={high!r}")
    for end in (low, high):
        _check_limits(where, name, end)
    if low >= high:
        raise SearchSpaceError(
            f"{where}: the range of {name} is reversed or empty: low={low}, high={high}; low must be below high"
        )
    log, integer = bool(raw.get("log", False)), bool(raw.get("integer", False))
    if log and low <= 0:
        raise SearchSpaceError(f"{where}: {name} is searched on a logarithmic scale, so low must be above 0, got {low}")
    return Range(float(low), float(high), log, integer)


def _check_limits(where: str, name: str, value: object) -> None:
    if name not in LIMITS or not isinstance(value, int | float):
        return
    lowest, highest, meaning = LIMITS[name]
    if not lowest <= value <= highest or (name == "lr" and value == 0):
        raise SearchSpaceError(f"{where}: {name}={value} is out of range; {name} is {meaning}")
