"""The registry: checkpoints become versions of the study's model, and aliases say which of them are what.

Everything is found before it is made, so that a call that was interrupted or refused is completed by the same call
again: the same weights are one version, whose evidence and card are renewed.

- `champion` goes to a model's first version that wants it, then only where `promotion` says so from the evidence of
  both; the one that steps down is `previous-champion`. `aliases` says in which order that is written.
- `lowest-memorization`, `best-fidelity` and `ddpm-baseline` describe the front of the newest study. Where a version of
  the same study holds one, it follows. Where another study's does, it moves only if the scores compare and the 95 %
  intervals show the newcomer to be better (`follows`), else it stays. Either is told, in the model's tag `alias.NAME`
  and in what `register_models` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ambient_ray.errors import UserError

from ..labels import STUDY
from .aliases import CHAMPION, AliasMovedError, Note, aliases, now, point, promote, sentence, settle, user
from .card import about
from .promotion import BASELINE, BEST, LOWEST, Evidence, Promotion, follows, promotion
from .versions import Entry, register_version, renew, renew_card, versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

DESCRIPTIVE = (LOWEST, BEST, BASELINE)
_TRIES = 3  # to promote, where other writers move the alias meanwhile


class NotRegisteredError(UserError):
    """The registry refused models; the search and its runs are not touched by it."""


@dataclass(frozen=True)
class Registration:
    """What became of a study's models in the registry.

    Attributes:
        version: of the study's own choice of champion; None where it has none.
        champion: the version that holds the alias `champion` now: this one, or one that it did not beat.
        promoted: whether the alias moved to it (it may have held it already).
        why: the reason, without a full stop.
        versions: all versions of this study's models, its own choice of champion first.
        aliases: alias -> what became of it, for the descriptive ones.
    """

    version: int | None
    champion: int | None
    promoted: bool
    why: str
    versions: tuple[int, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def register_models(client: MlflowClient, model: str, entries: Sequence[Entry]) -> Registration:
    """Register checkpoints as versions of the model `model` and move the aliases that they want and may have.

    The champion's is first: its version and alias stand before any other model is uploaded. A version appears with its
    tags and its card at once. Raises NotRegisteredError, whose sentence says which models are not registered, and
    whose cause is what the registry said.
    """
    ordered = sorted(entries, key=lambda entry: CHAMPION not in entry.aliases)
    found: list[int] = []
    try:
        if not ordered:
            return Registration(None, None, False, "nothing was to be registered")
        _ensure_model(client, model)
        _complete(client, model)
        known = versions(client, model)
        outcome = Registration(None, aliases(client, model).get(CHAMPION), False, "the study chose no champion")
        for entry in ordered:
            found.append(register_version(client, model, entry, known))
            if CHAMPION in entry.aliases:
                outcome = _crown(client, model, found[-1], entry)
        held = client.get_registered_model(model)
        told = {
            alias: _describe(client, held, alias, version, entry)
            for entry, version in zip(ordered, found, strict=True)
            for alias in DESCRIPTIVE
            if alias in entry.aliases
        }
        return replace(outcome, versions=tuple(dict.fromkeys(found)), aliases=told)
    except Exception as error:
        what = f"{len(ordered) - len(found)} of {len(ordered)} models of {model} are not registered"
        if len(found) == len(ordered):
            what = f"the models of {model} are registered, but not all of their aliases are where they belong"
        raise NotRegisteredError(f"{what} ({sentence(error)})") from error


# -- aliases


def _crown(client: MlflowClient, model: str, version: int, entry: Entry) -> Registration:
    """Move `champion` if the evidence says so; where another writer moves it meanwhile, decide again."""
    for _ in range(_TRIES - 1):
        try:
            return _crown_once(client, model, version, entry)
        except AliasMovedError:
            continue
    return _crown_once(client, model, version, entry)


def _crown_once(client: MlflowClient, model: str, version: int, entry: Entry) -> Registration:
    holder = aliases(client, model).get(CHAMPION)
    decision = _decide(client, model, version, holder, entry.evidence)
    if holder != version:
        renew(client, model, version, {"evidence.promotion": decision.why})
    if not decision.moves:
        return Registration(version, holder, False, decision.why)
    promote(
        client, model, version, holder, Note(user(), f"chosen by the study {entry.origin.study}", decision.why, now())
    )
    renew_card(client, model, version)
    return Registration(version, version, True, decision.why)


def _decide(client: MlflowClient, model: str, version: int, holder: int | None, evidence: Evidence) -> Promotion:
    if holder is None:
        return Promotion(True, "the model had no champion")
    if holder == version:
        return Promotion(False, "it is the champion already; its evidence is renewed")
    return promotion(evidence, Evidence.read(client.get_model_version(model, str(holder)).tags))


def _describe(client: MlflowClient, model: RegisteredModel, alias: str, version: int, entry: Entry) -> str:
    """Let a descriptive alias name this version if it may; one sentence of what became of it."""
    holder = int(model.aliases[alias]) if alias in model.aliases else None
    if holder is None or holder == version:
        why = f"of the front of the study {entry.origin.study}"
        point(client, model, alias, version, why)
        return f"version {version}"
    tags = client.get_model_version(model.name, str(holder)).tags
    theirs = tags.get(STUDY, "")
    if theirs == entry.origin.study:
        why = f"of the front of the study {theirs}, which has moved on from version {holder}"
    else:
        decision = follows(alias, entry.evidence, Evidence.read(tags))
        if not decision.moves:
            return (
                f"stays at version {holder} of the study {theirs or 'unknown'}, not version {version}: {decision.why}"
            )
        why = f"better than version {holder} of the study {theirs}: {decision.why}"
    point(client, model, alias, version, why)
    return f"version {version}, before: version {holder}" + ("" if theirs == entry.origin.study else f" ({why})")


def _complete(client: MlflowClient, model: str) -> None:
    """Finish what an earlier call left: a promotion whose last records are missing."""
    settled = settle(client, model)
    if settled is not None:
        renew_card(client, model, settled)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
        return
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    try:
        client.create_registered_model(name, tags={"ambient_ray": "generator"}, description=about())
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
