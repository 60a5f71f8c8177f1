"""How a study lies in Optuna's storage: its trials as records, its lease, and how the storage is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from optuna.trial import FrozenTrial

from ambient_ray.storage import Patience

from .faults import Fault
from .journal import Journal
from .records import (
    RungRecord,
    State,
    TrialRecord,
)

RUNG = "rung:"
FAULT = "fault:"


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial as it stands in Optuna's storage."""
    # One that was ending when its search was killed still runs: it is taken up, and ends again.
    end = trial.user_attrs.get("end", {}) if trial.state.is_finished() else {}
    attrs = {**trial.user_attrs, **end}  # older studies have an end's entries one by one
    state = cast(State, "running" if not trial.state.is_finished() else attrs.get("outcome", "failed"))
    rungs = [RungRecord(**attrs[key]) for key in attrs if key.startswith(RUNG)]
    return TrialRecord(
        number=trial.number,
        arm=attrs.get("arm", "ambient"),
        settings=attrs.get("settings", {}),
        state=state,
        rungs=tuple(sorted(rungs, key=lambda r: r.rung)),
        reason=attrs.get("reason", ""),
        replica_of=attrs.get("replica_of"),
        source=attrs.get("source", "baseline" if "baseline" in attrs else "sampler"),
        spared=attrs.get("spared", 0.0),
        noted=attrs.get("sampler", {}),
        notes=tuple(attrs.get("notes", ())),
        cause=attrs.get("cause", ""),
        faults=tuple(Fault(**attrs[key]) for key in sorted(attrs) if key.startswith(FAULT)),
        begun=trial.user_attrs.get("turn", 0),
        over=end.get("turn", 0),
    )


@dataclass(frozen=True)
class StudyBoard:
    """In the study's own attributes, of a storage that can write over them."""

    storage: Any
    study_id: int

    def read(self) -> Mapping[str, Any] | None:
        """See `Board`."""
        found = self.storage.get_study_user_attrs(self.study_id).get("lease")
        return found if isinstance(found, dict) else None

    def write(self, lease: Mapping[str, Any]) -> None:
        """See `Board`."""
        self.storage.set_study_user_attr(self.study_id, "lease", dict(lease))


def opened(url: str, patience: Patience) -> tuple[Any, Journal | None]:
    """Optuna's storage, and the journal below it where it is one."""
    from optuna.storages import InMemoryStorage, JournalStorage, get_storage

    if url == "memory:":
        return InMemoryStorage(), None
    if not url.startswith("journal:"):
        return get_storage(url), None
    path = Path(url.removeprefix("journal:"))
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(path, patience)
    return JournalStorage(journal), journal
