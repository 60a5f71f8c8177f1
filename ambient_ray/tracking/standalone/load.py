"""Loads the generator in the folder that this file lies in: `load(folder).sample(64, seed=0)`.

Needs torch, diffusers, safetensors and numpy; neither ambient_ray nor MLflow.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any


def load(folder: str | Path, device: str | None = None) -> Any:
    """The Generator in `folder` (model.safetensors, config.json, code/), on `device` (default: a GPU if any).

    Its code runs as a package named by its own hash, so two versions of a model live in one process side by
    side.
    """
    root = Path(folder).resolve()
    code = root / "code"
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(code.glob("*.py")))).hexdigest()
    package = f"ambient_model_{digest[:16]}"
    written, sys.dont_write_bytecode = (
        sys.dont_write_bytecode,
        True,
    )  # leave the artifacts as they were stored
    try:
        if package not in sys.modules:
            _import_package(package, code)
        generator = importlib.import_module(f"{package}.generator")
        return generator.Generator.from_folder(root, package=package, device=device)
    finally:
        sys.dont_write_bytecode = written


def _import_package(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no Python package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
