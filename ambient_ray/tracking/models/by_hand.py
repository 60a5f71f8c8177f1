"""Promotion by people: which version is meant, are its files unchanged, does its evidence carry it, who and why."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ambient_ray.errors import UserError

from .aliases import CHAMPION, PREVIOUS, Note, aliases, now, point, promote, settle, user
from .integrity import FILES_TAG, model_root, verify_model
from .model import ModelNotFoundError, ModelUnloadableError
from .promotion import Evidence, promotion
from .versions import WEIGHTS_HASH, renew_card, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_ALIAS = re.compile(r"(?!v\d+$|latest$)[\w-]{1,255}", re.IGNORECASE)  # what MLflow takes and does not keep for itself


class PromotionRefusedError(UserError):
    """The version may not take the alias; nothing was changed."""


@dataclass(frozen=True)
class Promoted:
    """What was done, or would be. before: the version that held the alias; why: what carries it."""

    model: str
    alias: str
    version: int
    before: int | None
    why: str


def promote_by_hand(
    client: MlflowClient,
    tracking_uri: str,
    reference: str,
    alias: str,
    reason: str,
    *,
    number: int | None = None,
    without_evidence: bool = False,
    dry_run: bool = False,
) -> Promoted:
    """Point `alias` of a model to a version for a reason, which is kept with the user's name and the time.

    Args:
        client: of the registry at `tracking_uri`.
        tracking_uri: absolute.
        reference: NAME, NAME@ALIAS, models:/NAME@ALIAS or models:/NAME/VERSION.
        alias: the new one. `champion` asks for confirmed evidence that shows a gain over what holds it.
        reason: one sentence.
        number: the version, where `reference` is a name alone.
        without_evidence: take `champion` all the same; the version's tags and card say so.
        dry_run: check everything, write nothing.

    Raises ModelNotFoundError, ModelChangedError, PromotionRefusedError, AliasMovedError, RegistryWriteError.
    """
    if not reason.strip():
        raise PromotionRefusedError("--reason is empty: say in a sentence why this version is promoted")
    if alias == PREVIOUS:
        raise PromotionRefusedError(f"{PREVIOUS} is where the champion before is kept: it moves with {CHAMPION} alone")
    if not _ALIAS.fullmatch(alias):
        raise PromotionRefusedError(f"'{alias}' is no alias: letters, digits, _ and - only, and neither latest nor v1")
    chosen = find(client, reference, number)
    model, version = chosen.name, int(chosen.version)
    check_files(chosen, tracking_uri)
    before = aliases(client, model).get(alias)
    if alias != CHAMPION:
        if not dry_run:
            why = f"{_one_line(reason)} ({user()})"
            point(client, client.get_registered_model(model), alias, version, why)
        return Promoted(model, alias, version, before, "")
    if before == version:
        if settle(client, model) is not None:
            renew_card(client, model, version)
        return Promoted(model, alias, version, before, "")
    evidence = "none" if without_evidence else _carried(client, chosen, before)
    if not dry_run:
        promote(client, model, version, before, Note(user(), _one_line(reason), evidence, now()))
        renew_card(client, model, version)
    return Promoted(model, alias, version, before, evidence)


def name_of(reference: str) -> str:
    """The model's name in NAME, NAME@ALIAS, models:/NAME@ALIAS or models:/NAME/VERSION."""
    return reference.removeprefix("models:/").strip("/").partition("@")[0].partition("/")[0]


def find(client: MlflowClient, reference: str, number: int | None = None) -> ModelVersion:
    """The version that NAME (with `number`), NAME@ALIAS, models:/NAME@ALIAS or models:/NAME/VERSION names.

    Raises ModelNotFoundError, saying which models, versions or aliases there are.
    """
    rest = reference.removeprefix("models:/").strip("/")
    name, at, alias = rest.partition("@")
    if not at:
        name, _, given = rest.partition("/")
        if given and not given.isdigit():
            raise ModelNotFoundError(f"{reference}: '{given}' is no version number; an alias is written {name}@{given}")
        if given and number is not None and int(given) != number:
            raise ModelNotFoundError(
                f"{reference} names version {given}, and --version says {number}: give one of them"
            )
        number = int(given) if given else number
    elif number is not None:
        raise ModelNotFoundError(f"{reference} names a version by its alias: leave --version out")
    found = versions(client, name)
    if not found:
        known = ", ".join(sorted(model.name for model in client.search_registered_models(max_results=20))) or "none"
        raise ModelNotFoundError(f"there is no registered model '{name}' with a version (registered models: {known})")
    held = aliases(client, name)
    wanted = held.get(alias) if at else number
    for version in found:
        if int(version.version) == wanted:
            return version
    numbers = ", ".join(map(str, sorted(int(version.version) for version in found)))
    there = f"model '{name}' has versions {numbers} and aliases {', '.join(f'@{a}' for a in sorted(held)) or 'none'}"
    if wanted is None and not at:
        raise ModelNotFoundError(f"{reference} names no version: give --version N, or {name}@ALIAS ({there})")
    raise ModelNotFoundError(f"{name}{f'@{alias}' if at else f' version {number}'} does not exist: {there}")


def check_files(version: ModelVersion, tracking_uri: str) -> None:
    """Raise ModelChangedError unless the version's files are those that were registered.

    Also ModelUnloadableError where they cannot be read, PromotionRefusedError where nothing was recorded of them.
    """
    name = f"models:/{version.name}/{version.version}"
    if WEIGHTS_HASH not in version.tags:
        raise PromotionRefusedError(f"{name} was not registered by ambient-ray: no hash says what its files were")
    with _folder(version, tracking_uri) as folder:
        if model_root(folder) is None:
            raise ModelUnloadableError(f"{name} has no files any more at {version.source}")
        verify_model(folder, name=name, recorded=version.tags.get(FILES_TAG))


@contextmanager
def _folder(version: ModelVersion, tracking_uri: str) -> Iterator[Path]:
    """The version's files: where they are if that is on this machine, else a copy for as long as the block lasts."""
    parts = urlsplit(version.source)
    if parts.scheme in ("", "file"):
        yield Path(url2pathname(parts.path))
        return
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="ambient-promote-") as scratch:
        try:
            copied = download_artifacts(artifact_uri=version.source, dst_path=scratch, tracking_uri=tracking_uri)
        except (MlflowException, OSError) as error:
            name = f"models:/{version.name}/{version.version}"
            raise ModelUnloadableError(f"the files of {name} cannot be read from {version.source}: {error}") from error
        yield Path(copied)


def _carried(client: MlflowClient, chosen: ModelVersion, holder: int | None) -> str:
    """The sentence by which the evidence carries the promotion. PromotionRefusedError where it does not."""
    name = f"version {chosen.version} of {chosen.name}"
    otherwise = "or give --without-evidence, which is recorded"
    evidence = Evidence.read(chosen.tags)
    if evidence is None:
        raise PromotionRefusedError(f"{name} carries no evidence: register it by a search, {otherwise}")
    if not evidence.confirmed:
        raise PromotionRefusedError(
            f"{name} is one training run, the best of many, and not confirmed on fresh seeds: search with confirm.top"
            f" above 0, {otherwise}"
        )
    if holder is None:
        return "the model had no champion"
    decision = promotion(evidence, Evidence.read(client.get_model_version(chosen.name, str(holder)).tags))
    if not decision.moves:
        raise PromotionRefusedError(
            f"{name} is not shown to be better than the champion, version {holder} ({decision.why}): leave the"
            f" champion, {otherwise}"
        )
    return decision.why


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
