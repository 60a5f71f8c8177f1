"""Events as JSON and back: any dataclass of this package, by its fields, with the files that it points to.

What JSON lacks is an object with one key that begins with `$`. Nothing is pickled, and only dataclasses of
`ambient_ray` are made again.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ambient_ray.errors import UserError

from .events import RungScored, TrialReplayed

# Weights are what makes a checkpoint large, and its pictures do not need them; nothing that is logged needs the
# optimiser's state.
_NOT_FOR_PICTURES = ("*.safetensors",)
_NEVER = ("train_state.*",)
_PACKAGE = "ambient_ray."


class SpooledEventError(UserError):
    """A spooled event cannot be read: damaged, or of another version of this package."""


def encode(event: Any, folder: Path) -> Any:
    """`event` as what `json.dump` takes. Arrays and files go into `folder`, which exists.

    A file is copied. A folder is linked file by file where the file system can (checkpoints do not change), else
    copied. One that is gone stays a path: what becomes of it is for the reader to tell. Raises OSError.
    """
    pictures_only = isinstance(event, RungScored | TrialReplayed)
    return _Encoder(folder, _NEVER + _NOT_FOR_PICTURES if pictures_only else _NEVER).encode(event)


def decode(stored: Any, folder: Path) -> Any:
    """The event again; its files are those in `folder`. Raises SpooledEventError."""
    try:
        return _decode(stored, folder)
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, OSError) as error:
        raise SpooledEventError(f"{folder} holds no event that can be read: {error}") from error


class _Encoder:
    def __init__(self, folder: Path, left_out: tuple[str, ...]) -> None:
        self._folder, self._left_out, self._count = folder, left_out, 0

    def encode(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"$float": repr(value)}
        if isinstance(value, list):
            return [self.encode(item) for item in value]
        if isinstance(value, tuple):
            return {"$tuple": [self.encode(item) for item in value]}
        if isinstance(value, Mapping):
            return {"$mapping": [[self.encode(key), self.encode(item)] for key, item in value.items()]}
        if isinstance(value, Path):
            return self._file(value)
        if isinstance(value, np.ndarray):
            name = f"{self._next()}.npy"
            np.save(self._folder / name, value, allow_pickle=False)
            return {"$array": name}
        if isinstance(value, Future):
            return {"$future": None}
        if is_dataclass(value) and type(value).__module__.startswith(_PACKAGE):
            own = {field.name: self.encode(getattr(value, field.name)) for field in fields(value) if field.init}
            return {"$class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": own}
        return str(value)  # as it would read in MLflow

    def _file(self, path: Path) -> Any:
        name = f"{self._next()}/{path.name}"
        target = self._folder / name
        if path.is_dir():
            ignore = shutil.ignore_patterns(*self._left_out)
            shutil.copytree(path, target, copy_function=_link, ignore=ignore)
        elif path.is_file():
            target.parent.mkdir()
            shutil.copy2(path, target)
        else:
            return {"$path": str(path)}
        return {"$file": name}

    def _next(self) -> int:
        self._count += 1
        return self._count


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _decode(stored: Any, folder: Path) -> Any:
    if isinstance(stored, list):
        return [_decode(item, folder) for item in stored]
    if not isinstance(stored, dict):
        return stored
    kind = next(iter(stored))
    return _DECODERS[kind](stored, folder)


def _decode_class(stored: Any, folder: Path) -> Any:
    module, _, name = stored["$class"].partition(":")
    if not module.startswith(_PACKAGE):
        raise ValueError(f"{module} is not of this package")
    kind = getattr(importlib.import_module(module), name)
    if not is_dataclass(kind) or not isinstance(kind, type):
        raise ValueError(f"{stored['$class']} is no event")
    own = {field.name for field in fields(kind) if field.init}
    return kind(**{key: _decode(value, folder) for key, value in stored["fields"].items() if key in own})


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside of it")
    return path


_DECODERS: dict[str, Callable[[Any, Path], Any]] = {
    "$float": lambda stored, folder: float(stored["$float"]),
    "$tuple": lambda stored, folder: tuple(_decode(item, folder) for item in stored["$tuple"]),
    "$mapping": lambda stored, folder: {
        _decode(key, folder): _decode(item, folder) for key, item in stored["$mapping"]
    },
    "$path": lambda stored, folder: Path(stored["$path"]),
    "$file": lambda stored, folder: _inside(folder, stored["$file"]),
    "$array": lambda stored, folder: np.load(_inside(folder, stored["$array"]), allow_pickle=False),
    "$future": lambda stored, folder: Future(),
    "$class": _decode_class,
}
