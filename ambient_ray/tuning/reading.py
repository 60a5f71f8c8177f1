"""A study as somebody else's process left it in its storage so far: read, and never written, locked or made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted

from .records import Landscape, Objectives, TrialRecord
from .stored import record_of
from .study import StudyStorageError

_SQLITE = "sqlite:///"


class UnknownStudyError(UserError):
    """There is no such study in the storage."""


@dataclass(frozen=True)
class StoredStudy:
    """What a study's storage holds at a moment.

    Attributes:
        name: the study's.
        trials: replicas included, by number.
        attrs: what the study remembers besides its trials.
    """

    name: str
    trials: tuple[TrialRecord, ...]
    attrs: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that make its results comparable (`Study.claim`)."""
        return dict(self.attrs.get("settings", {}))

    @property
    def objectives(self) -> Objectives | None:
        """The two scores that it minimises; None for a study that was never claimed."""
        names = [self.settings.get(f"evaluation.{key}") for key in ("fidelity", "memorization")]
        return Objectives(str(names[0]), str(names[1])) if all(names) else None

    @property
    def rungs(self) -> tuple[int, ...]:
        """Training length at each rung, in images; empty for a study that was never claimed."""
        return tuple(self.settings.get("trial.rungs", ()))

    @property
    def seconds(self) -> float:
        """For how long it has been searched."""
        return float(self.attrs.get("seconds", 0.0))

    def landscape(self) -> Landscape | None:
        """Its candidates and front; None for a study that was never claimed."""
        if self.objectives is None:
            return None
        stored = self.attrs.get("reference")
        reference = (float(stored[0]), float(stored[1])) if stored else None
        return Landscape.of(self.trials, self.objectives, reference)


def read_study(name: str, storage: str) -> StoredStudy:
    """Read a study, also while it is searched.

    A journal is read without its lock. A database is asked by two queries; nothing is created in it.

    Args:
        name: the study's.
        storage: as for `Study`.

    Raises:
        UnknownStudyError: the storage is not there, or holds no study of this name; the others in it are named.
        StudyStorageError: the storage cannot be read.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _opened(storage) as found:
            try:
                study = found.get_study_id_from_name(name)
            except KeyError as error:
                others = sorted(each.study_name for each in found.get_all_studies())
                raise UnknownStudyError(_unknown(name, storage, others)) from error
            attrs = dict(found.get_study_user_attrs(study))
            trials = tuple(record_of(trial) for trial in found.get_all_trials(study, deepcopy=False))
    except UserError:
        raise
    except Exception as error:  # whatever the storage's driver raises
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StudyStorageError(redacted(f"the study's storage {storage} cannot be read: {first_line}")) from error
    return StoredStudy(name, trials, attrs)


@contextmanager
def _opened(storage: str) -> Iterator[Any]:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if storage.startswith(("journal:", _SQLITE)):  # opening them would make the file
        file = Path(storage.removeprefix("journal:").removeprefix(_SQLITE).partition("?")[0])
        if not file.is_file():
            raise UnknownStudyError(f"there is no study in {file}: the file does not exist")
    if storage.startswith("journal:"):
        yield JournalStorage(JournalFileBackend(str(file)))
        return
    database = RDBStorage(storage, skip_compatibility_check=True, skip_table_creation=True)
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _unknown(name: str, storage: str, others: list[str]) -> str:
    there = ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
    return redacted(f"there is no study {name!r} in {storage}; there is {there or 'none'}")
