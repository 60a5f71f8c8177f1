"""The model that downstream code loads: `load_model("models:/faces@champion").sample(64, seed=0)`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ambient_ray.errors import UserError

from ..checkpoint import CheckpointUnreadableError
from ..location import existing_store
from ..store import open_client
from .bundle import write_generator
from .integrity import FILES_TAG, model_root, verify_model
from .standalone.load import load

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from .standalone.generator import Generator


class ModelNotFoundError(UserError):
    """No model, version, alias, run or folder of this name."""


class ModelUnloadableError(UserError):
    """The model was found, but this process cannot load it."""


def load_model(uri: str | Path, *, tracking_uri: str | None = None, device: str | None = None) -> Generator:
    """The generator that `uri` names, ready to `.sample(n, seed=0, labels=None) -> uint8 [n,H,W,C]`.

    uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/<model id>`, `runs:/RUN_ID/NAME`, or a local
    folder (a downloaded model, or a checkpoint of the training). A model runs with the code that it was registered
    with, not with this installation's, and not at all when its files were changed since. tracking_uri: where the
    registry is; by default what mlflow.set_tracking_uri or MLFLOW_TRACKING_URI says, else `./outputs/mlflow.db` if
    it exists.
    device: by default a GPU if there is one. Raises ModelNotFoundError, ModelChangedError, ModelUnloadableError,
    StoreNotFoundError, TrackingUnreachableError.
    """
    name = str(uri)
    recorded = None
    if urlsplit(name).scheme not in ("models", "runs"):
        folder = _local_folder(name)
    else:
        folder, recorded = _download(name, existing_store(tracking_uri))
    verify_model(folder, name=name, recorded=recorded)
    try:
        return _load_folder(folder, device)
    except UserError:
        raise
    except Exception as error:
        # Of a model whose files are garbled, or are another network's, torch, safetensors and diffusers tell by nearly
        # any exception; each means the same here.
        told = " ".join(str(error).split()) or type(error).__name__
        raise ModelUnloadableError(f"{name} cannot be loaded: {told:.400}") from error


def _local_folder(name: str) -> Path:
    parts = urlsplit(name)
    folder = Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(name).expanduser()
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"{name} is neither a folder nor a models:/NAME@ALIAS, models:/NAME/VERSION or runs:/ URI"
        )
    return folder


def _download(uri: str, tracking_uri: str) -> tuple[Path, str | None]:
    """The local folder of a registered or logged model, in place where it is local, else a copy; its files' hash."""
    client = open_client(tracking_uri)
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        location, recorded = _artifact_location(client, uri)
    except MlflowException as error:
        raise ModelNotFoundError(_what_exists(client, uri, error)) from error
    try:
        folder = download_artifacts(artifact_uri=location, tracking_uri=tracking_uri, registry_uri=tracking_uri)
    except (MlflowException, OSError) as error:
        raise ModelUnloadableError(f"the files of {uri} cannot be read from {location}: {error}") from error
    return Path(folder), recorded


def _artifact_location(client: MlflowClient, uri: str) -> tuple[str, str | None]:
    """Where the model's files are, and what the registry has recorded of them, where it has."""
    scheme, _, rest = uri.partition(":/")
    rest = rest.strip("/")
    if scheme == "runs":
        return _runs_model(client, uri, *rest.partition("/")[::2]), None
    name, at, alias = rest.rpartition("@")
    if at:
        version = client.get_model_version_by_alias(name, alias)
    else:
        name, slash, number = rest.rpartition("/")
        if not slash:
            if not rest.startswith("m-"):
                raise ModelNotFoundError(f"{uri} names no version: write models:/{rest}@champion or models:/{rest}/1")
            return str(client.get_logged_model(rest).artifact_location), None
        if not number.isdigit():
            raise ModelNotFoundError(
                f"{uri}: '{number}' is no version number; an alias is written models:/{name}@{number}"
            )
        version = client.get_model_version(name, number)
    return str(client.get_model_version_download_uri(name, version.version)), version.tags.get(FILES_TAG)


def _runs_model(client: MlflowClient, uri: str, run_id: str, name: str) -> str:
    run = client.get_run(run_id)
    outputs = [] if run.outputs is None else run.outputs.model_outputs
    logged = [client.get_logged_model(output.model_id) for output in outputs]
    named = [model for model in logged if model.name == name]
    if not named:
        known = ", ".join(sorted({model.name for model in logged})) or "none"
        raise ModelNotFoundError(f"{uri}: this run has no model '{name}' (its models: {known})")
    newest = max(named, key=lambda model: model.creation_timestamp)
    return str(newest.artifact_location)


def _what_exists(client: MlflowClient, uri: str, error: MlflowException) -> str:
    """One sentence: what is missing, and what there is instead."""
    from mlflow.exceptions import MlflowException

    if not uri.startswith("models:/"):
        return f"{uri} cannot be found: {error.message}"
    name = uri.removeprefix("models:/").strip("/").rpartition("@" if "@" in uri else "/")[0]
    try:
        model = client.get_registered_model(name)
    except MlflowException:
        known = ", ".join(model.name for model in client.search_registered_models(max_results=20)) or "none"
        return f"there is no registered model '{name}' (registered models: {known})"
    aliases = ", ".join(f"@{alias}" for alias in sorted(model.aliases)) or "none"
    versions = client.search_model_versions(f"name='{name}'", max_results=100)
    numbers = ", ".join(sorted((str(version.version) for version in versions), key=int)) or "none"
    return f"{uri} does not exist: model '{name}' has versions {numbers} and aliases {aliases}"


def _load_folder(folder: Path, device: str | None) -> Generator:
    """The generator in a folder whose files are verified."""
    if root := model_root(folder):
        generator: Generator = load(root, device, verified=True)
        return generator
    if not (folder / "checkpoint.json").is_file():
        raise ModelNotFoundError(f"{folder} holds neither a registered model nor a checkpoint")
    with tempfile.TemporaryDirectory(prefix="ambient-load-") as scratch:
        try:
            fresh: Generator = load(write_generator(folder, Path(scratch) / "generator"), device, verified=True)
        except CheckpointUnreadableError as error:
            raise ModelUnloadableError(str(error)) from error
    return fresh
