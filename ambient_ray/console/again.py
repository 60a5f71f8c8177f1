"""The command that would begin a recorded search again: only what differs from this installation's defaults."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ambient_ray.tracking.labels import flat_params

from .command import CONF, ConfigurationError, load
from .configuration import validate

_MACHINE = ("output_dir", "storage", "address", "dry_run", "tracking.")
_GROUPS = ("backbone", "sampler")  # resolved from files whose names are what a user writes
_PLAIN = re.compile(r"[A-Za-z0-9_./@-]+")


def search_command(params: Mapping[str, Any]) -> str:
    """`python -m ambient_ray.search study=faces dataset.n_train=1000 ...`, which resolves to these settings.

    params: flat and typed, as a study's run has them. Where and with which store it ran is left to who runs it.
    Composed and compared before it is given: empty where this installation cannot say the same, as another version's
    settings may not be known to it.
    """
    wanted = {key: value for key, value in params.items() if not key.startswith(_MACHINE)}
    for module in ("search", "train") if wanted.get("confirm.top") else ("train", "search"):
        try:
            if {key for key in wanted if key.startswith("training.")} - _resolved(module, ()).keys():
                return ""
            overrides = _overrides(module, wanted)
            if _resolved(module, tuple(overrides)) == wanted:
                named = [f"study={wanted['study']}", *(o for o in overrides if not o.startswith("study="))]
                return " \\\n  ".join([f"python -m ambient_ray.{module}", *map(shlex.quote, named)])
        except ConfigurationError:
            continue
    return ""


def _overrides(module: str, wanted: Mapping[str, Any]) -> list[str]:
    """Groups by the name of their file, then each key that still differs."""
    chosen = [f"{group}={name}" for group in _GROUPS if (name := _named(module, group, wanted)) is not None]
    had = _resolved(module, tuple(chosen))
    changed: dict[str, Any] = {}
    for key, value in wanted.items():
        parents = [key[:i] for i, letter in enumerate(key) if letter == "."]
        whole = next((parent for parent in parents if parent in had), None)  # a mapping where there was one value
        if whole is not None:
            changed.setdefault(whole, {})[key.removeprefix(f"{whole}.")] = value
        elif key not in had or had[key] != value:
            changed[key] = value
    gone = [f"~{key}" for key in had if key not in wanted and key not in changed]
    return [*(f"{'' if k in had else '++'}{k}={_hydra(v)}" for k, v in changed.items()), *chosen, *gone]


def _named(module: str, group: str, wanted: Mapping[str, Any]) -> str | None:
    """The file of a group that has these settings' `_target_` and most of their values; None: the default has all."""
    own = {key: value for key, value in wanted.items() if key.startswith(f"{group}.")}
    best: tuple[int, str | None] = (_differing(own, _resolved(module, ()), group), None)
    for path in sorted(files(CONF).joinpath(group).iterdir(), key=lambda p: p.name):
        name = path.name.removesuffix(".yaml")
        if name != "auto" and name != path.name:
            found = (_differing(own, _resolved(module, (f"{group}={name}",)), group), name)
            best = min(best, found, key=lambda item: item[0])
    return best[1]


def _differing(own: Mapping[str, Any], had: Mapping[str, Any], group: str) -> int:
    theirs = {key: value for key, value in had.items() if key.startswith(f"{group}.")}
    return sum(own.get(key) != theirs.get(key) for key in own.keys() | theirs.keys())


@cache
def _resolved(module: str, overrides: tuple[str, ...]) -> Mapping[str, Any]:
    """What a command would record of these overrides: flat, typed, without the machine."""
    content = load(module, overrides)
    flat = flat_params(validate(content).model_dump(mode="json"))
    return {key: _typed(text) for key, text in flat.items() if not key.startswith(_MACHINE)}


def _typed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _hydra(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else "'" + value.replace("'", "\\'") + "'"
    if isinstance(value, list):
        return "[" + ",".join(_hydra(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_hydra(v)}" for key, v in value.items()) + "}"
    return json.dumps(value)
