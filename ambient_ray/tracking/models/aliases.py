"""Moves aliases of a registered model so that a crash between any two writes leaves a state that explains itself.

MLflow writes one tag, one alias or one version at a time and has no transaction over several, nor a compare-and-set.
So a promotion to `champion` is written in this order, each step harmless without the next:

1. the newcomer's tags `promoted.*` (who, when, why, from which version), with `promoted.state = begun`;
2. `previous-champion` on the version that still is the champion;
3. `champion` on the newcomer, if it is still where it was when the decision was made;
4. both are read back, and `promoted.state` becomes `done`.

A process that dies leaves the old champion (after 1 and 2; doing it again completes it) or the new one (after 3; the
next command that looks, `settle`, writes what is missing). A write that the registry refuses is undone: the aliases
and tags are put back. Two writers at the same moment are kept apart by reading again just before 3, and told by
reading again after it; in the milliseconds between one may pass over the other, and the loser says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ambient_ray.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

CHAMPION, PREVIOUS = "champion", "previous-champion"
STATE, BEGUN, DONE = "promoted.state", "begun", "done"
_LIMIT = 5000  # of a registered model's tag, in characters


class AliasMovedError(UserError):
    """Another writer moved the alias between the decision and the write."""


class RegistryWriteError(UserError):
    """The registry refused a write in the middle of a move."""


@dataclass(frozen=True)
class Note:
    """What is recorded of a promotion. evidence: the sentence that carries it, or `none`; at: UTC, ISO 8601."""

    by: str
    reason: str
    evidence: str
    at: str

    def tags(self, holder: int | None) -> dict[str, str]:
        """As tags of the version; holder: the version that stepped down, or None."""
        values = {"by": self.by, "at": self.at, "reason": self.reason, "evidence": self.evidence}
        values["from"] = "" if holder is None else str(holder)
        return {STATE: BEGUN} | {f"promoted.{key}": value for key, value in values.items()}


def now() -> str:
    """The time as it is recorded: `2026-05-01T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user() -> str:
    """The name of the user that this process belongs to, `unknown` where the system knows none."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user id, as in some containers
        return "unknown"


def aliases(client: MlflowClient, model: str) -> dict[str, int]:
    """Which version holds which alias, as the registry says now."""
    return {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}


def promote(client: MlflowClient, model: str, version: int, holder: int | None, note: Note) -> None:
    """Make `version` the champion in the order that this module describes.

    holder: what held the alias when this was decided; it becomes `previous-champion`. Raises AliasMovedError where
    something else holds it by now, and RegistryWriteError where a write is refused; then all is as it was, or the
    sentence says what is not.
    """
    before = aliases(client, model)
    _expect(before, holder, model)
    tags = dict(client.get_model_version(model, str(version)).tags)
    new = note.tags(holder)
    undo: list[Callable[[], None]] = [lambda: _put_tags(client, model, version, {key: tags.get(key) for key in new})]
    try:
        _put_tags(client, model, version, new)
        if holder is not None:
            undo.insert(0, lambda: _put_alias(client, model, PREVIOUS, before.get(PREVIOUS)))
            client.set_registered_model_alias(model, PREVIOUS, str(holder))
        _expect(aliases(client, model), holder, model)
        client.set_registered_model_alias(model, CHAMPION, str(version))
    except Exception as error:
        if not _arrived(client, model, version):
            left = _undo(client, model, holder, undo)
            if isinstance(error, AliasMovedError):
                raise
            text = f"{model}: the registry refused to make version {version} the champion ({sentence(error)})"
            raise RegistryWriteError(f"{text}; {left or 'nothing was changed'}") from error
    found = aliases(client, model).get(CHAMPION)
    if found != version:
        raise AliasMovedError(
            f"{model}: another writer made version {found} the champion at the same moment as version {version};"
            " look at both and promote the one that is meant"
        )
    try:
        client.set_model_version_tag(model, str(version), STATE, DONE)
    except Exception as error:
        text = f"{model}: version {version} is the champion, but the registry refused to note that ({sentence(error)})"
        raise RegistryWriteError(f"{text}; the same command again completes it") from error


def settle(client: MlflowClient, model: str) -> int | None:
    """Finish the records of a promotion that was interrupted after the alias had moved; its version, or None."""
    champion = aliases(client, model).get(CHAMPION)
    if champion is None or client.get_model_version(model, str(champion)).tags.get(STATE) != BEGUN:
        return None
    client.set_model_version_tag(model, str(champion), STATE, DONE)
    return champion


def point(client: MlflowClient, model: RegisteredModel, alias: str, version: int, why: str) -> None:
    """Let an alias other than `champion` name `version`, and say since when and why in the model's tag `alias.NAME`.

    The alias is one write. A tag that a crash left behind it is written by the next call. Raises RegistryWriteError.

    model: as it was read a moment ago.
    """
    name, told = model.name, str(model.tags.get(f"alias.{alias}", ""))
    try:
        if str(model.aliases.get(alias)) != str(version):
            client.set_registered_model_alias(name, alias, str(version))
        elif told.startswith(f"version {version} "):
            return
        client.set_registered_model_tag(name, f"alias.{alias}", f"version {version} since {now()}: {why}"[:_LIMIT])
    except Exception as error:
        raise RegistryWriteError(
            f"{name}: the registry refused to point @{alias} to version {version} ({sentence(error)})"
        ) from error


def sentence(error: Exception) -> str:
    """The first line of what went wrong, without a full stop."""
    return str(error).partition("\n")[0].strip().rstrip(".") or type(error).__name__


def _expect(held: Mapping[str, int], holder: int | None, model: str) -> None:
    found = held.get(CHAMPION)
    if found != holder:
        was, now_ = ("nobody" if v is None else f"version {v}" for v in (holder, found))
        raise AliasMovedError(
            f"{model}: the champion was {was} when this was decided and is {now_} now, so nothing was moved; run it"
            " again"
        )


def _arrived(client: MlflowClient, model: str, version: int) -> bool:
    """Whether the alias is there after all: an answer may be lost after the write."""
    try:
        return aliases(client, model).get(CHAMPION) == version
    except Exception:  # the registry is away: what is known is that it did not answer
        return False


def _undo(client: MlflowClient, model: str, holder: int | None, steps: list[Callable[[], None]]) -> str:
    """Undo what was written, newest first; what could not be, as words, empty when all was.

    Where another writer moved the champion meanwhile, previous-champion is theirs and only the tags are put back.
    """
    try:
        own = aliases(client, model).get(CHAMPION) == holder
        for step in steps if own else steps[-1:]:
            step()
    except Exception as error:
        kept = "none" if holder is None else f"version {holder}"
        return (
            f"the champion is still {kept}, but what was begun could not be undone ({sentence(error)}): the same"
            " command again completes it"
        )
    return ""


def _put_tags(client: MlflowClient, model: str, version: int, tags: Mapping[str, str | None]) -> None:
    """Set tags, or delete those whose value is None; only where that changes something."""
    known = client.get_model_version(model, str(version)).tags
    for key, value in tags.items():
        if value is None and key in known:
            client.delete_model_version_tag(model, str(version), key)
        elif value is not None and known.get(key) != value:
            client.set_model_version_tag(model, str(version), key, value)


def _put_alias(client: MlflowClient, model: str, alias: str, version: int | None) -> None:
    if version is None:
        client.delete_registered_model_alias(model, alias)
    else:
        client.set_registered_model_alias(model, alias, str(version))
