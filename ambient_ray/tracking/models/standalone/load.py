"""Loads the generator in a model's folder, once its files are what was written: `load(folder).sample(64, seed=0)`.

Needs torch, diffusers, safetensors and numpy; neither ambient_ray nor MLflow. The folder's layout is told here alone:

    model_index.json     diffusers' index, and under `ambient` how the model was trained and is sampled
    network/             config.json and the weights, as diffusers' models are stored
    code_<hash>/         the code, in a folder that other versions of the code do not share
    pipeline_<hash>.py   where diffusers begins
    hashes.json          SHA-256 of all files
    MLmodel, ...         in a registered version: MLflow's files
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
WEIGHTS = "network/diffusion_pytorch_model.safetensors"
OWN_PREFIX = "net."  # what diffusers' component around a user's own network puts before the names of its weights
HASHES = "hashes.json"
# Not part of what the model computes, and written again later: by whoever keeps the model's card, and by MLflow.
UNRECORDED = (HASHES, "README.md", "registered_model_meta")


def load(folder: str | Path, device: str | None = None, *, verified: bool = False) -> Any:
    """The Generator in `folder` (model_index.json, network/, code_<hash>/), on `device` (default: a GPU if any).

    Its code runs as a package named by its own hash, so two versions of a model live in one process side by
    side. verified: the caller has checked the files' hashes. ValueError, naming the file, when one was changed.
    """
    root = Path(folder).resolve()
    if not verified and (fault := changed(root)):
        raise ValueError(fault)
    code = code_folder(root)
    package = f"ambient_model_{code_digest(code.glob('*.py'))}"
    # Leaves the artifacts as they were stored: no caches among them.
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [str(code)]
            sys.modules[package] = module
        generator = importlib.import_module(f"{package}.generator")
        return generator.Generator.from_folder(root, package=package, device=device)
    finally:
        sys.dont_write_bytecode = written


def code_folder(root: Path) -> Path:
    """The folder of the model's code; `code` in models that were registered before this was a pipeline."""
    found = [folder for folder in (root / "code", *root.glob("code_*")) if folder.is_dir()]
    if len(found) != 1:
        raise ImportError(f"{root} holds {len(found)} folders of code where a model has one")
    return found[0]


def code_digest(files: Iterable[Path]) -> str:
    """What tells one version of the code from another: the first 16 digits of a SHA-256 over the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files, key=lambda f: f.name))).hexdigest()[:16]


def entry_name(code: Path) -> str:
    """The file that diffusers runs first."""
    return f"pipeline_{code.name.removeprefix('code_')}.py"


def entry(code: Path) -> str:
    """That file's text. It names all files of the code, as diffusers copies only what its first file imports."""
    imports = [f"from .{code.name}.{file.stem} import __name__ as _" for file in sorted(code.glob("*.py"))]
    lines = [
        '"""Where diffusers begins: the files that it needs, and the pipeline\'s class."""',
        "",
        "import importlib",
        "",
        "importlib.invalidate_caches()  # diffusers has copied these files a moment ago",
        "",
        *imports,
        f"from .{code.name}.pipeline import AmbientPipeline",
    ]
    return "\n".join(lines) + "\n"


def own_network_name(code: Path) -> str:
    """The file in network/ that builds a user's own network."""
    return f"network_{code.name.removeprefix('code_')}.py"


def is_shipped(target: str) -> bool:
    """Whether a backbone's `_target_` is one whose code every model carries: diffusers' network in a thin shell."""
    return target.rpartition(".")[0] == "ambient_ray.diffusion.backbones"


def record(root: Path) -> None:
    """Write hashes.json: the SHA-256 of every file in `root` that the model consists of, by its relative path."""
    hashes = {name: _sha256(root / name) for name in _files(root)}
    (root / HASHES).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")


def changed(root: Path) -> str | None:
    """One sentence that names the file which is not what `record` saw, or None.

    A file that came later is a change where the model would run it or read it: in code_<hash>/ and network/.
    Elsewhere people and MLflow may add files.
    """
    if not (root / INDEX).is_file() and (root / "config.json").is_file():
        return _changed_weights(root)
    try:
        recorded: dict[str, str] = json.loads((root / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return f"{HASHES} cannot be read ({error})"
    if not isinstance(recorded, dict):
        return f"{HASHES} cannot be read (no names with their hashes)"
    present = set(_files(root))  # no path of theirs is followed: it might lead out of the folder
    for name, digest in recorded.items():
        if name not in present:
            return f"{name[:200]} is missing"
        if _sha256(root / name) != digest:
            return f"{name} was changed after the model was registered: its SHA-256 is not the recorded one"
    added = [name for name in _files(root) if name.startswith(("code_", "network/")) and name not in recorded]
    return f"{added[0]} was added after the model was registered" if added else None


def _changed_weights(root: Path) -> str | None:
    """The same for models that were registered before hashes.json was: of these, the weights' hash is known."""
    try:
        recorded = json.loads((root / "config.json").read_text(encoding="utf-8")).get("weights_sha256")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        return f"config.json cannot be read ({error})"
    if recorded is None or _sha256(root / "model.safetensors") == recorded:
        return None
    return "model.safetensors was changed after the model was registered: its SHA-256 is not the recorded one"


def _files(root: Path) -> list[str]:
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in UNRECORDED and not name.startswith("__pycache__/"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
