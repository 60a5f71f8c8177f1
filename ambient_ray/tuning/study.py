"""The study: what is asked, what is learnt, and what is still known after a crash. Optuna's storage holds it all."""

import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ambient_ray.errors import UserError
from ambient_ray.redaction import redacted
from ambient_ray.storage import Patience

from .faults import Fault
from .history import turns
from .lease import Board, FileBoard
from .proposer import Proposal, Proposer
from .records import (
    Landscape,
    Objectives,
    RungRecord,
    State,
    TrialRecord,
    best_rung,
    candidates_of,
    settled_reference,
)
from .space import Space
from .stored import FAULT, RUNG, StudyBoard, opened, record_of

_NOTES = 50  # kept of a trial, the last ones


class StudySettingsChangedError(UserError):
    """A study is continued with settings that would mix results that cannot be compared."""


class StudyStorageError(UserError):
    """The study's storage cannot be opened."""


class Proposes(Protocol):
    """Who chooses configurations: a `Proposer`."""

    def propose(
        self,
        space: Space,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
        given: Mapping[str, Any] | None = None,
    ) -> Proposal:
        """The next configuration."""
        ...


class Study:
    """A search's memory, over Optuna's storage.

    Everything is written to the storage as it becomes known, so a study that died is read back whole. One process
    writes, and reads its own copy of what it wrote; the judge and reports open the study for themselves.

    Args:
        name: the study's name within its storage.
        storage: "journal:PATH" for a journal file, "memory:", or any Optuna storage URL ("sqlite:///...",
            "postgresql://...").
        objectives: the names of the two scores that are minimised.
        proposer: chooses configurations; only `ask` needs it. Default: independent random draws.
        delta: fidelity worse than (1 + delta) times DDPM's best is of no use (`reference`).
        patience: how long a journal waits for a disk that is full.

    Raises:
        StudyStorageError: the storage cannot be opened.
    """

    def __init__(
        self,
        name: str,
        storage: str,
        objectives: Objectives,
        proposer: Proposes | None = None,
        *,
        delta: float = 1.0,
        patience: Patience = Patience(),  # noqa: B008  # frozen
    ) -> None:
        self.name, self.storage_url, self.objectives, self.delta = name, storage, objectives, delta
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._storage, self._journal = opened(storage, patience)
            self._study = optuna.create_study(
                study_name=name,
                storage=self._storage,
                directions=["minimize", "minimize"],
                sampler=optuna.samplers.RandomSampler(seed=0),  # Optuna's own ask is not used
                load_if_exists=True,
            )
        except Exception as error:
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StudyStorageError(
                redacted(f"the study's storage {storage} cannot be opened: {first_line}")
            ) from error
        frozen: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in frozen}
        self._records = {trial.number: record_of(trial) for trial in frozen}
        self._attrs: dict[str, Any] = dict(self._study.user_attrs)
        self._counting: tuple[float, float] | None = None
        self._turn = max((turn for record in self._records.values() for turn in turns(record)), default=0)
        self._proposer = proposer if proposer is not None else Proposer(lambda seed: None)
        if "uid" not in self._attrs:
            self._remember("uid", uuid.uuid4().hex[:8])

    @property
    def uid(self) -> str:
        """Tells this study from another of the same name whose storage was deleted: part of checkpoint paths."""
        return str(self._attrs["uid"])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that make its results comparable (`claim`); empty for a study that was never claimed."""
        return dict(self._attrs.get("settings", {}))

    @property
    def seconds(self) -> float:
        """For how long it has been searched, over all processes that did."""
        return float(self._attrs.get("seconds", 0.0))

    def searched(self, seconds: float) -> None:
        """Remember for how long the study has been searched in all."""
        self._remember("seconds", seconds)

    def show_live(self, state: Mapping[str, Any]) -> None:
        """Leave word of the process that searches it, for whoever reads this storage (`read_study`)."""
        self._study.set_user_attr("live", dict(state))

    def begin_counting(self) -> None:
        """From now on it is searched (`elapsed`)."""
        self._counting = (self.seconds, time.monotonic())

    def elapsed(self) -> float:
        """Seconds for which it has been searched until now; more than `seconds`, which are those remembered."""
        if self._counting is None:
            return self.seconds
        before, began = self._counting
        return before + time.monotonic() - began

    def board(self) -> Board | None:
        """Where the lease of whoever searches this study stands; None for a study that is in memory."""
        if self.storage_url == "memory:":
            return None
        if self.storage_url.startswith("journal:"):
            return FileBoard(Path(f"{self.storage_url.removeprefix('journal:')}.lease"))
        return StudyBoard(self._storage, self._study._study_id)

    def tell_waits(self, say: Callable[[str], None]) -> None:
        """Say from now on to `say` when the journal waits for a full disk, and when it goes on."""
        if self._journal is not None:
            self._journal.say = say

    def _remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)
        self._attrs[key] = value

    # -- settings ---------------------------------------------------------------------------------------------

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Remember the settings that make results comparable, or check that they are those of the study's trials.

        A key that the study does not know is new since it was started, with a default that changes nothing: taken in.

        Args:
            settings: flat {dotted key: plain value}.

        Raises:
            StudySettingsChangedError: names the first key that differs, with its old and new value.
        """
        new = json.loads(json.dumps(dict(settings), sort_keys=True))
        old = self._attrs.get("settings")
        if old is not None and self._records:
            for key in sorted(old):
                if old[key] != new.get(key):
                    raise StudySettingsChangedError(
                        f"study {self.name!r} was started with {key}={old[key]!r} and is now given {new.get(key)!r};"
                        f" their results cannot be compared, so put {key} back, or choose another name with study="
                    )
        if old != new:
            self._remember("settings", new)

    # -- asking -----------------------------------------------------------------------------------------------

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Points to run before the sampler is asked; the same point given again is not run again.

        Args:
            points: {parameter: value}; parameters that a point leaves out are chosen by the sampler.
        """
        known = list(self._attrs.get("enqueued", []))
        new = [dict(point) for point in points if dict(point) not in known]
        if new:
            self._remember("enqueued", known + new)

    def ask(self, space: Space) -> TrialRecord:
        """A new trial: the next baseline that was never tried, then the next enqueued point, then the proposer's.

        Raises:
            SpaceExhaustedError: a grid has been tried whole.
        """
        for baseline in space.baselines:
            settings = {**space.fixed, **baseline}
            if not any(t.source == "baseline" and t.settings == settings for t in self._records.values()):
                return self._begin(settings, "baseline", "ddpm" if settings.get("sigma_tn") == 0 else "ambient")
        queue = self._attrs.get("enqueued", [])
        begun = sum(t.source == "enqueued" for t in self._records.values()) if queue else 0
        given = queue[begun] if begun < len(queue) else None
        trials = list(self._records.values())
        proposal = self._proposer.propose(space, trials, self.objectives, self.reference, given)
        settings = {**space.fixed, **proposal.values}
        plain = "rival" if proposal.values else "ddpm"  # DDPM with something else that is searched
        arm = plain if settings.get("sigma_tn") == 0 else "ambient"
        return self._begin(settings, "enqueued" if given is not None else proposal.source, arm, proposal)

    def replicate(self, number: int, seed: int, rungs: Sequence[int]) -> TrialRecord:
        """A replica: the configuration of a trial once more, on another training seed.

        Args:
            number: the trial.
            seed: of weights, order and noise levels; split, noise bank and latents stay the study's.
            rungs: training length at each rung, in images: the study's rungs up to the one in question.
        """
        original = self._records[number]
        settings = {**original.settings, "seed": seed, "rungs": list(rungs)}
        return self._begin(settings, "replica", original.arm, replica_of=number)

    def _begin(
        self,
        settings: Mapping[str, Any],
        source: str,
        arm: str,
        proposal: Proposal | None = None,
        replica_of: int | None = None,
    ) -> TrialRecord:
        attrs: dict[str, Any] = {"arm": arm, "settings": dict(settings), "source": source, "turn": self._next_turn()}
        attrs |= {"replica_of": replica_of} if replica_of is not None else {}
        attrs |= {"sampler": dict(proposal.attrs)} if proposal is not None and proposal.attrs else {}
        frozen = create_trial(
            state=TrialState.RUNNING,
            params=dict(proposal.values) if proposal is not None else {},
            distributions=dict(proposal.distributions) if proposal is not None else {},
            user_attrs=attrs,
        )
        trial_id = self._storage.create_new_trial(self._study._study_id, template_trial=frozen)
        record = record_of(self._storage.get_trial(trial_id))
        self._ids[record.number], self._records[record.number] = trial_id, record
        return record

    # -- learning ---------------------------------------------------------------------------------------------

    def record_rung(self, number: int, record: RungRecord) -> None:
        """Remember a scored rung; telling it again changes nothing."""
        known = [rung.turn for rung in self._records[number].rungs if rung.rung == record.rung]
        record = replace(record, turn=known[0] if known else self._next_turn())
        self._storage.set_trial_user_attr(self._ids[number], f"{RUNG}{record.rung}", record.to_dict())
        self._records[number] = self._records[number].with_rung(record)

    def survived(self, number: int, fault: Fault) -> bool:
        """Remember a failure that a trial survived; False when it was known already."""
        faults = self._records[number].faults
        if fault.key in [known.key for known in faults]:
            return False
        key = f"{FAULT}{len(faults):03d}"
        self._storage.set_trial_user_attr(self._ids[number], key, fault.to_dict())
        self._records[number] = replace(self._records[number], faults=(*faults, fault))
        return True

    def note(self, number: int, text: str) -> None:
        """Remember what a running trial waits for or got over, as a clause without its name; the last 50 are kept."""
        trial = self._records[number]
        if trial.ended:
            return
        notes = (*trial.notes, text)[-_NOTES:]
        self._storage.set_trial_user_attr(self._ids[number], "notes", list(notes))
        self._records[number] = replace(trial, notes=notes)

    def finish(self, number: int, state: State, reason: str = "", *, rungs_left: float = 0.0, cause: str = "") -> None:
        """End a trial. In the storage it stands with its best rung (`best_rung`).

        A stopped trial stands as infeasible, with a violation that is larger the earlier it was stopped. What the
        sampler is told is the proposer's choice (`Lesson`).

        Args:
            number: the trial.
            state: finished, stopped or failed.
            reason: one sentence, for stopped and failed trials.
            rungs_left: for a stopped trial, the share of its training length that it was spared, in (0, 1].
            cause: for a failed trial, one of `faults.CAUSES`.
        """
        trial_id = self._ids[number]
        spared = rungs_left if state == "stopped" else 0.0
        # One entry, as a journal waits for the disk at each.
        turn = self._next_turn()
        end = {"outcome": state, "reason": reason, "spared": spared, "turn": turn, "cause": cause}
        self._storage.set_trial_user_attr(trial_id, "end", end)
        record = replace(self._records[number], state=state, reason=reason, spared=spared, over=turn, cause=cause)
        self._records[number] = record
        self._settle_reference()
        best = best_rung(candidates_of([record], self.objectives), self.reference)
        if state == "failed" or best is None:
            self._study.tell(number, state=TrialState.FAIL)
            return
        self._storage.set_trial_system_attr(trial_id, "constraints:stopped", spared)
        self._study.tell(number, list(best.point))

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    @property
    def reference(self) -> tuple[float, float] | None:
        """(fidelity limit, 1): what a candidate must beat to be of use, and what bounds the hypervolume.

        The limit is (1 + delta) times the best fidelity of the study's first DDPM baseline over its rungs. It is
        settled when that baseline ends and never changes afterwards, so hypervolumes of a study compare over time.
        Where no baseline was scored, the first trial that ended stands in. None until then.
        """
        stored = self._attrs.get("reference")
        return (float(stored[0]), float(stored[1])) if stored else None

    def _settle_reference(self) -> None:
        if self._attrs.get("reference"):
            return
        found = settled_reference(self.trials(), self.objectives, self.delta)
        if found is not None:
            self._remember("reference", list(found))

    # -- remembering ------------------------------------------------------------------------------------------

    def trial(self, number: int) -> TrialRecord:
        """One trial by number."""
        return self._records[number]

    def trials(self) -> list[TrialRecord]:
        """Every trial, replicas included, by number."""
        return list(self._records.values())

    def running(self) -> list[TrialRecord]:
        """Trials that were begun and never ended: a dead search's, to be taken up again."""
        return [trial for trial in self.trials() if trial.state == "running"]

    def landscape(self) -> Landscape:
        """All candidates with the front and hypervolume."""
        return Landscape.of(self.trials(), self.objectives, self.reference)
