"""The study: what is asked, what is learnt, and what is still known after a crash. Optuna's storage holds it all."""

import json
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from ambient_ray.errors import UserError

from .records import Landscape, Objectives, RungRecord, State, TrialRecord
from .space import Choice, Parameter, Space

_RUNG = "rung:"


class StudySettingsChangedError(UserError):
    """A study is continued with settings that would mix results that cannot be compared."""


class StudyStorageError(UserError):
    """The study's storage cannot be opened."""


class Study:
    """A search's memory, over Optuna's ask and tell.

    Everything is written to the storage as it becomes known, so a study that died is read back whole. One driver
    writes; the judge and reports read.

    Args:
        name: the study's name within its storage.
        storage: "journal:PATH" for a journal file, or any Optuna storage URL ("sqlite:///...", "postgresql://...").
        objectives: the names of the two scores that are minimised.
        sampler: gives an Optuna sampler for two objectives from a seed; only `ask` needs it. The seed follows from how
            many trials there are, so that a study taken up again does not draw what it drew before.

    Raises:
        StudyStorageError: the storage cannot be opened.
    """

    def __init__(
        self,
        name: str,
        storage: str,
        objectives: Objectives,
        sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None,
    ) -> None:
        self.name, self.storage_url, self.objectives = name, storage, objectives
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._study = optuna.create_study(
                study_name=name,
                storage=_storage(storage),
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        except Exception as error:
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise StudyStorageError(f"the study's storage {storage} cannot be opened: {first_line}") from error
        if sampler is not None:
            self._study.sampler = sampler(len(self._trials()))
        if "uid" not in self._study.user_attrs:
            self._study.set_user_attr("uid", uuid.uuid4().hex[:8])

    @property
    def uid(self) -> str:
        """Tells this study from another of the same name whose storage was deleted: part of checkpoint paths."""
        return str(self._study.user_attrs["uid"])

    # -- settings ---------------------------------------------------------------------------------------------

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Remember the settings that make results comparable, or check that they are those of the study's trials.

        Args:
            settings: flat {dotted key: plain value}.

        Raises:
            StudySettingsChangedError: names the first key that differs, with its old and new value.
        """
        new = json.loads(json.dumps(dict(settings), sort_keys=True))
        old = self._study.user_attrs.get("settings")
        if old is None or not self._trials():
            self._study.set_user_attr("settings", new)
            return
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                raise StudySettingsChangedError(
                    f"study {self.name!r} was started with {key}={old.get(key)!r} and is now given {new.get(key)!r};"
                    f" their results cannot be compared, so put {key} back, or choose another name with study="
                )

    # -- asking -----------------------------------------------------------------------------------------------

    def ask(self, space: Space) -> TrialRecord:
        """A new trial: the next baseline that was never tried, else the sampler's suggestion."""
        arms = [json.dumps(t.user_attrs.get("baseline"), sort_keys=True) for t in self._trials()]
        for baseline in space.baselines:
            if json.dumps(dict(baseline), sort_keys=True) not in arms:
                trial = self._study.ask()
                trial.set_user_attr("baseline", dict(baseline))
                return self._begin(trial, {**space.fixed, **baseline})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self._study.ask({name: _distribution(p) for name, p in space.parameters.items()})
        return self._begin(trial, {**space.fixed, **trial.params})

    def _begin(self, trial: Trial, settings: Mapping[str, Any]) -> TrialRecord:
        record = TrialRecord(trial.number, "ddpm" if settings.get("sigma_tn") == 0 else "ambient", dict(settings))
        trial.set_user_attr("arm", record.arm)
        trial.set_user_attr("settings", dict(record.settings))
        return record

    # -- learning ---------------------------------------------------------------------------------------------

    def record_rung(self, number: int, record: RungRecord) -> None:
        """Remember a scored rung; telling it again changes nothing."""
        self._open(number).set_user_attr(f"{_RUNG}{record.rung}", record.to_dict())

    def finish(self, number: int, state: State, reason: str = "", *, rungs_left: float = 0.0) -> None:
        """End a trial. What the sampler learns is the trial's best rung (`Landscape.best_of`).

        A stopped trial is told as infeasible, with a violation that is larger the earlier it was stopped: an
        Optuna sampler for several objectives learns nothing from a pruned trial.

        Args:
            number: the trial.
            state: finished, stopped or failed.
            reason: one sentence, for stopped and failed trials.
            rungs_left: for a stopped trial, the share of its training length that it was spared, in (0, 1].
        """
        trial = self._open(number)
        trial.set_user_attr("outcome", state)
        trial.set_user_attr("reason", reason)
        best = self.landscape().best_of(self.trial(number))
        if state == "failed" or best is None:
            self._study.tell(number, state=TrialState.FAIL)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial.set_constraint("stopped", rungs_left if state == "stopped" else 0.0)
        self._study.tell(number, list(best.point))

    def _open(self, number: int) -> Trial:
        return Trial(self._study, self._trials()[number]._trial_id)

    # -- remembering ------------------------------------------------------------------------------------------

    def trial(self, number: int) -> TrialRecord:
        """One trial by number."""
        return _record(self._trials()[number])

    def trials(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [_record(trial) for trial in self._trials()]

    def running(self) -> list[TrialRecord]:
        """Trials that were begun and never ended: a dead search's, to be taken up again."""
        return [trial for trial in self.trials() if trial.state == "running"]

    def landscape(self) -> Landscape:
        """All candidates with the front and hypervolume."""
        return Landscape.of(self.trials(), self.objectives)

    def _trials(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials


def _record(trial: FrozenTrial) -> TrialRecord:
    attrs = trial.user_attrs
    state = cast(State, "running" if not trial.state.is_finished() else attrs.get("outcome", "failed"))
    rungs = [RungRecord(**attrs[key]) for key in attrs if key.startswith(_RUNG)]
    return TrialRecord(
        number=trial.number,
        arm=attrs.get("arm", "ambient"),
        settings=attrs.get("settings", {}),
        state=state,
        rungs=tuple(sorted(rungs, key=lambda r: r.rung)),
        reason=attrs.get("reason", ""),
    )


def _storage(url: str) -> Any:
    if not url.startswith("journal:"):
        return url
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = Path(url.removeprefix("journal:"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.choices)
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
