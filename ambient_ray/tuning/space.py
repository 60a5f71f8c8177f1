"""What a search varies: one YAML file a space, validated against the settings of a training run.

    parameters:
      mixing: {choices: [set_split, sigma_split]}
      noisy_ratio: {low: 0.1, high: 0.9, when: {mixing: set_split}, prior: 0.5, spread: 0.1}

`when` makes a parameter exist under some choices of others only; `prior` and `spread` say where the user believes the
best value to be. A belief only moves where the search begins, so it is no part of what identifies a study.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .parameters import (
    PARTS,
    Choice,
    Parameter,
    Range,
    SearchSpaceError,
    find_choice,
    is_number,
    meant,
    read_condition,
    read_parameter,
)
from .plain_yaml import cut, read_yaml, shown

__all__ = ["Choice", "Parameter", "Range", "SearchSpaceError", "Space", "load_space", "shipped_spaces"]


#: As a parameter's prior: the value that the training settings have.
CONFIGURED = "configured"


@dataclass(frozen=True)
class Space:
    """What varies, what is fixed, and which configurations are run first as baselines.

    Attributes:
        name: the file's name without its ending.
        parameters: name -> what may be chosen; names are those of the training settings.
        fixed: settings that this space needs and that do not vary.
        baselines: configurations that are run first and never stopped. They may lie outside of the ranges.
        conditions: name -> {parent: values under which the parameter exists}; a name that is missing always exists.
            Parents are parameters with choices, and no parameter depends on itself.
    """

    name: str
    parameters: Mapping[str, Parameter]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    baselines: tuple[Mapping[str, Any], ...] = ()
    conditions: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)

    @property
    def order(self) -> tuple[str, ...]:
        """The parameters' names, parents before children, else as the file has them."""
        placed: list[str] = []
        waiting = list(self.parameters)
        while waiting:
            ready = next((name for name in waiting if set(self.conditions.get(name, {})) <= set(placed)), None)
            if ready is None:
                raise SearchSpaceError(
                    f"search space {self.name!r}: {', '.join(waiting)} exist only under each other (`when`), so none"
                    " ever does"
                )
            placed.append(ready)
            waiting.remove(ready)
        return tuple(placed)

    def active(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a parameter exists under these values.

        Args:
            name: the parameter.
            values: fixed settings and parameters chosen so far; a parent that is not among them is not active, and then
                neither is its child.
        """
        return all(
            parent in values and find_choice(allowed, values[parent]) is not None and self.active(parent, values)
            for parent, allowed in self.conditions.get(name, {}).items()
        )

    def describe(self) -> dict[str, Any]:
        """Plain values: what the study stores to tell whether a later run searches the same space.

        Beliefs are not part of it: they say where to begin, not what is searched.
        """
        described: dict[str, Any] = {
            "parameters": {name: parameter.describe() for name, parameter in self.parameters.items()},
            "fixed": dict(self.fixed),
            "baselines": [dict(baseline) for baseline in self.baselines],
        }
        if self.conditions:
            described["conditions"] = {
                name: {parent: list(values) for parent, values in parents.items()}
                for name, parents in self.conditions.items()
            }
        return described


def load_space(
    name: str,
    *,
    settings: frozenset[str],
    folder: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    configured: Mapping[str, Any] | None = None,
) -> Space:
    """Read a search space by name or by path.

    Args:
        name: the name of a space that ships with the package or lies in `folder` (which is looked at first), or
            the path of a YAML file.
        settings: the names that a space may set.
        folder: a folder with spaces of one's own.
        overrides: {parameter: {key: value}} merged over the file, e.g. {"sigma_tn": {"high": 2}}.
        configured: the settings of a training run as they stand, for beliefs that say `prior: configured`: moved into
            the range where they lie outside; without a value there is no belief.

    Raises:
        SearchSpaceError: no such space (the message lists those there are), or one that cannot be searched.
    """
    path = _find(name, folder)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SearchSpaceError(f"search space {path}: not readable as YAML ({cut(error)})") from error
    if not isinstance(content, dict):
        raise SearchSpaceError(f"search space {path}: expected a mapping with the key 'parameters'")
    unknown = next((key for key in content if key not in ("parameters", "fixed", "baselines")), None)
    if len({"parameters", "fixed", "baselines"} | set(content)) > 3:
        raise SearchSpaceError(
            f"search space {path}: unknown key {shown(unknown)}; known are parameters, fixed, baselines"
        )
    where = f"search space {path.stem!r}"
    raw = _mapping(where, "parameters", content.get("parameters"))
    for key, change in (overrides or {}).items():
        raw[key] = _changed(path.stem, raw, key, change)
    fixed = _mapping(where, "fixed", content.get("fixed"))
    listed = content.get("baselines") or ()
    if not isinstance(listed, list | tuple):
        raise SearchSpaceError(f"{where}: baselines must be a list of configurations, got {shown(listed)}")
    baselines = tuple(_mapping(where, "a baseline", item) for item in listed)
    for key in [*raw, *fixed, *(k for baseline in baselines for k in baseline)]:
        if key not in settings:
            raise SearchSpaceError(f"{where}: unknown parameter {shown(key)};{meant(key, settings, 'a space may set')}")
    for key in raw:
        if key in fixed:
            raise SearchSpaceError(f"{where}: {key} is searched and fixed at once; take it out of one of the two")
    raw = {key: _with_configured(value, (configured or {}).get(key)) for key, value in raw.items()}
    parameters = {str(key): read_parameter(where, str(key), value) for key, value in raw.items()}
    conditions = {
        key: read_condition(where, key, value["when"], parameters) for key, value in raw.items() if value.get("when")
    }
    space = Space(path.stem, parameters, fixed, baselines, conditions)
    _ = space.order  # refuses conditions that go round in a circle
    return space


def _with_configured(raw: Any, value: Any) -> Any:
    """A parameter whose belief is the configured value, with that value; without the belief where it has no place."""
    if not isinstance(raw, Mapping) or raw.get("prior") != CONFIGURED:
        return raw
    if "choices" in raw:
        known = value if isinstance(raw["choices"], list) and value in raw["choices"] else None
    else:
        low, high = raw.get("low", value), raw.get("high", value)
        numbers = is_number(value) and is_number(low) and is_number(high)  # else `read_parameter` refuses the ends
        known = min(max(value, low), high) if numbers else None
    rest = {key: part for key, part in raw.items() if key not in {"prior", "spread"}}
    return rest if known is None else {**raw, "prior": known}


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


def _mapping(where: str, what: str, content: object) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SearchSpaceError(f"{where}: {what} must be {{name: value, ...}}, got {shown(content)}")
    return {str(key): value for key, value in content.items()}


def _changed(space: str, raw: Mapping[str, Any], key: str, change: object) -> Any:
    """A parameter as the file has it, with the changes of the command line; a belief that they leave behind is gone."""
    if key not in raw:
        raise SearchSpaceError(
            f"space.{key}: the search space {space!r} has no parameter {shown(key)};{meant(key, raw, 'it has')}"
        )
    if not isinstance(change, Mapping) or not set(change) <= set(PARTS):
        raise SearchSpaceError(
            f"space.{key}={shown(change)}: say which part changes, e.g. +space.{key}.high=2; "
            f"parts are {', '.join(PARTS)}"
        )
    if not isinstance(raw[key], Mapping):
        return raw[key]
    changed = {**raw[key], **change}
    numbers = [v for v in (changed.get(part) for part in ("low", "prior", "high")) if isinstance(v, int | float)]
    if "prior" not in change and len(numbers) == 3 and numbers != sorted(numbers):
        return {part: value for part, value in changed.items() if part not in {"prior", "spread"}}
    return changed
