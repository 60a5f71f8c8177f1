"""Who chooses the next configuration: a user's beliefs, an even start, a grid, or an Optuna sampler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial

from .expectations import ExpectingStorage
from .history import history
from .memory import Lesson, Memory, quiet
from .opening import even_start, from_belief, next_of_grid
from .points import uniform
from .records import Objectives, TrialRecord, settled_reference
from .space import Choice, Range, Space
from .transfer import Transfer

# How often a sampler that suggests a configuration for the second time is asked again, and from when on at random.
_ATTEMPTS = 8
_PATIENCE = 1


@dataclass(frozen=True)
class Proposal:
    """A configuration to try.

    Attributes:
        values: the space's parameters that are active, with their values.
        source: sampler | prior | enqueued.
        distributions: of the values, in Optuna's words.
        attrs: what the sampler noted about it and needs again after a restart (`Memory.noted`).
    """

    values: Mapping[str, Any]
    source: str
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Proposer:
    """Proposes configurations.

    What it proposes is a function of its arguments and of the study, in the order in which things happened there
    (`history`), whichever process asks: one that takes a study up proposes what the one before would have. Excepted
    are samplers that are `kept`.

    Args:
        sampler: gives an Optuna sampler for two objectives from a seed, or None for independent random draws.
        seed: of all draws.
        lesson: what a stopped trial teaches (`Memory`).
        whole_front: whether the sampler is told every rung on the front, not the best of each trial alone (`Memory`).
        prior_weight: the share of the first configurations that are drawn from the space's beliefs (`prior_share`).
        transfer: another study's trials, as knowledge that fades.
        remembers: how many ended trials the sampler is told of at the most; None: all (`Memory`).
        grid: points along each range for an exhaustive grid instead of a sampler.
        even_start: until so many trials have ended, configurations are a Sobol sequence with beliefs in between, and
            the sampler is not asked. 0 where another study's trials are known.
        kept: the sampler is one object for as long as this one lives (`Memory`).
        sequence: the sampler's suggestions are points of one sequence (`Memory`).
    """

    def __init__(
        self,
        sampler: Callable[..., optuna.samplers.BaseSampler | None],
        *,
        seed: int = 0,
        lesson: Lesson = "extrapolated",
        whole_front: bool = False,
        prior_weight: float = 0.5,
        transfer: Transfer | None = None,
        remembers: int | None = None,
        grid: int | None = None,
        even_start: int = 0,
        kept: bool = False,
        sequence: bool = False,
    ) -> None:
        if not 0 <= prior_weight <= 1:
            raise ValueError(f"prior_weight must be a share, from 0 to 1, got {prior_weight}")
        self._seed, self._prior_weight, self._grid = seed, prior_weight, grid
        self._even_start = even_start if transfer is None else 0
        self._memory = Memory(
            sampler, seed, lesson=lesson, whole_front=whole_front, transfer=transfer, remembers=remembers,
            kept=kept, sequence=sequence,
        )  # fmt: skip
        self._known: set[frozenset[Any]] = set()  # the configurations so far
        self._sources: list[str] = []  # of the trials but replicas and baselines, in the study's order
        self._read = 0  # trials of the study that the two above hold

    def propose(
        self,
        space: Space,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
        given: Mapping[str, Any] | None = None,
    ) -> Proposal:
        """The next configuration.

        Args:
            space: what is searched.
            trials: all of the study, replicas included.
            objectives: the names of the two scores.
            reference: the study's (`Study.reference`).
            given: values that are decided already, of some or all parameters.

        Raises:
            SpaceExhaustedError: a grid has been tried whole.
        """
        if self._read == 0:
            self._relive(space, trials, objectives, reference)
        memory = self._memory.synchronized(space, trials, objectives, reference)
        for trial in filter(_searched, trials[self._read :]):
            self._sources.append(trial.source)
            self._known.add(_key(space, trial.settings))
        self._read = len(trials)
        source, fixed = "sampler", dict(given or {})
        if given is not None:
            source = "enqueued"
        elif self._grid is not None:
            fixed = next_of_grid(space, self._grid, self._seed, list(filter(_searched, trials)))
        else:
            asked = len(self._sources) - self._sources.count("enqueued")
            ended = (t for t in trials if t.ended and _searched(t))
            if drawn := from_belief(space, self._prior_weight, self._seed, asked):
                source, fixed = "prior", drawn
            elif sum(1 for _ in islice(ended, self._even_start)) < self._even_start:
                fixed = even_start(space, self._seed, self._sources.count("sampler"))
        self._memory.begin(len(trials))
        suggested: list[FrozenTrial] = []
        for attempt in range(_ATTEMPTS):
            frozen, values = self._ask(memory, space, fixed)
            suggested.append(frozen)
            if _key(space, values) not in self._known or given is not None:
                break  # evolution may clone: the same training would teach nothing
            if attempt >= _PATIENCE:
                fixed = uniform(np.random.default_rng([self._seed, len(trials), attempt]), space)
        return Proposal(values, source, dict(frozen.distributions), self._memory.noted(suggested))

    def _relive(
        self,
        space: Space,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
    ) -> None:
        """Learn what the study's earlier processes had learnt, in the order in which they did."""
        settled = False
        for before, trial in history(trials):
            if not _searched(trial):
                continue
            settled = settled or settled_reference(before, objectives, 0.0) is not None
            memory = self._memory.synchronized(space, before, objectives, reference if settled else None)
            self._memory.relive(trial.noted, len(before), partial(self._ask, memory, space, {}))

    def _ask(self, memory: optuna.Study, space: Space, fixed: Mapping[str, Any]) -> tuple[FrozenTrial, dict[str, Any]]:
        """The sampler's suggestion. No trace of it stays in the copy, where the study's trial comes once it begins."""
        storage = cast(ExpectingStorage, memory._storage)
        with quiet(), storage.on_trial(memory._study_id):
            if fixed:
                memory.enqueue_trial(dict(fixed))
            trial = memory.ask()
            values: dict[str, Any] = {}
            for name in space.order:
                if space.active(name, {**space.fixed, **values}):
                    values[name] = _suggest(trial, name, space.parameters[name])
            return storage.get_trial(trial._trial_id), values


def _searched(trial: TrialRecord) -> bool:
    """Whether a trial is of a configuration that was proposed here, or given."""
    return trial.replica_of is None and trial.source in {"sampler", "prior", "enqueued"}


def _key(space: Space, settings: Mapping[str, Any]) -> frozenset[Any]:
    """What makes a configuration the same as another."""
    return frozenset((name, settings[name]) for name in space.parameters if name in settings)


def _suggest(trial: Trial, name: str, parameter: Range | Choice) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.choices)
    if parameter.integer:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)
