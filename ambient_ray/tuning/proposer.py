"""Who chooses the next configuration: an Optuna sampler, and what it is told of the study.

The study's storage is the truth; the sampler sees a copy of it in memory, made so that it learns the right thing: a
trial is its best rung, a stopped one is a graded failure, baselines outside of the space are left out, knowledge from
another study comes in and fades, and of thousands of trials only as many are kept as the sampler needs.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from .forecast import Forecast
from .opening import even_start, from_belief, next_of_grid
from .pareto import front_ranks
from .points import distribution, uniform, values_in
from .records import Objectives, TrialRecord, best_rung, candidates_of, violations
from .space import Choice, Range, Space
from .transfer import Transfer

Lesson = Literal["infeasible", "pruned", "partial", "extrapolated"]


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
        attrs: what the sampler noted about it and needs again after a restart (a generation's number).
        ticket: its place in the sampler's copy.
    """

    values: Mapping[str, Any]
    source: str
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    ticket: int = -1


class Proposer:
    """Proposes configurations; see the module's text.

    What a stopped trial teaches (`lesson`) was compared on recorded curves (`benchmarks/search.py --compare lessons`).
    Training images to the front of 64 random trials, over those of "extrapolated", in ten dimensions (20 seeds) and in
    two (30): infeasible 1.06 [.88, 1.31] and 1.01 [.88, 1.17], pruned .95 [.79, 1.13] and .97 [.82, 1.15], partial
    1.12 [.90, 1.44] and 1.05 [.91, 1.21]. No difference is shown, so the one that tells the sampler the most is kept.

    Args:
        sampler: gives an Optuna sampler for two objectives from a seed, or None for independent random draws. The seed
            follows from how many trials there are, so that a study taken up again does not draw what it drew before.
        seed: of the draws from beliefs, and of the order of a grid.
        lesson: of a stopped trial the sampler learns that it is infeasible, with a violation that is larger the earlier
            it was stopped ("infeasible"), nothing that several objectives could use ("pruned"), its best rung as if it
            had been trained to the end ("partial"), or where it would have ended (`Forecast`, "extrapolated").
        prior_weight: the share of the first configurations that are drawn from the space's beliefs (`prior_share`).
        transfer: another study's trials, as knowledge that fades.
        remembers: how many ended trials the sampler's copy holds at the most; None: all. The best are kept, and an
            even choice of the others.
        grid: points along each range for an exhaustive grid instead of a sampler.
        even_start: until so many trials have ended, configurations are a Sobol sequence with beliefs in between, and
            the sampler is not asked. 0 where another study's trials are known.
    """

    def __init__(
        self,
        sampler: Callable[[int], optuna.samplers.BaseSampler | None],
        *,
        seed: int = 0,
        lesson: Lesson = "extrapolated",
        prior_weight: float = 0.5,
        transfer: Transfer | None = None,
        remembers: int | None = None,
        grid: int | None = None,
        even_start: int = 0,
    ) -> None:
        if not 0 <= prior_weight <= 1:
            raise ValueError(f"prior_weight must be a share, from 0 to 1, got {prior_weight}")
        self._make_sampler, self._seed, self._lesson = sampler, seed, lesson
        self._prior_weight, self._transfer, self._remembers, self._grid = prior_weight, transfer, remembers, grid
        self._even_start = even_start if transfer is None else 0
        self._sampler: optuna.samplers.BaseSampler | None = None
        self._memory: optuna.Study | None = None
        self._tickets: dict[int, int] = {}  # the study's number of a trial -> its number in the copy
        self._told: set[int] = set()
        self._tried: list[frozenset[Any]] = []  # the configurations so far, in the study's order
        self._known: set[frozenset[Any]] = set()
        self._held = 0  # ended trials in the copy
        self._forecast = Forecast()
        self._points: dict[tuple[int, tuple[float, float] | None], tuple[float, float]] = {}
        self._shaped_by: tuple[Any, ...] = ()

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
        searched = [t for t in trials if t.replica_of is None and t.source in {"sampler", "prior", "enqueued"}]
        memory = self._synchronized(space, trials, objectives, reference)
        source, fixed = "sampler", dict(given or {})
        if given is not None:
            source = "enqueued"
        elif self._grid is not None:
            fixed = next_of_grid(space, self._grid, self._seed, searched)
        else:
            asked = [t.source for t in searched if t.source != "enqueued"]
            if drawn := from_belief(space, self._prior_weight, self._seed, len(asked)):
                source, fixed = "prior", drawn
            elif sum(t.ended for t in searched) < self._even_start:
                fixed = even_start(space, self._seed, asked.count("sampler"))
        for trial in searched[len(self._tried) :]:
            self._tried.append(_key(space, trial.settings))
            self._known.add(self._tried[-1])
        for attempt in range(_ATTEMPTS):
            ticket, values = self._ask(memory, space, fixed)
            if _key(space, values) not in self._known or given is not None or attempt == _ATTEMPTS - 1:
                break
            if attempt >= _PATIENCE:
                fixed = uniform(np.random.default_rng([self._seed, len(trials), attempt]), space)
            memory.tell(ticket, state=TrialState.FAIL)  # evolution may clone: the same training would teach nothing
        frozen: FrozenTrial = memory.get_trials(deepcopy=False)[ticket.number]
        attrs = {key: value for key, value in frozen.system_attrs.items() if key.endswith(":generation")}
        return Proposal(values, source, dict(frozen.distributions), attrs, ticket.number)

    def _ask(self, memory: optuna.Study, space: Space, fixed: Mapping[str, Any]) -> tuple[Trial, dict[str, Any]]:
        with _quiet():
            if fixed:
                memory.enqueue_trial(dict(fixed))
            trial = memory.ask()
            values: dict[str, Any] = {}
            for name in space.order:
                if space.active(name, {**space.fixed, **values}):
                    values[name] = _suggest(trial, name, space.parameters[name])
        return trial, values

    def accepted(self, proposal: Proposal, number: int) -> None:
        """The proposal became trial `number` of the study."""
        self._tickets[number] = proposal.ticket

    # -- the sampler's copy -----------------------------------------------------------------------------------

    def _synchronized(
        self,
        space: Space,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
    ) -> optuna.Study:
        """The copy, with all that has happened since the last time."""
        own = [t for t in trials if t.replica_of is None and t.source != "baseline"]
        ended = sum(t.ended for t in own)
        foreign = self._transfer.kept(ended) if self._transfer is not None else 0
        crowded = self._remembers is not None and self._held > 1.25 * self._remembers
        shape = (space.name, reference, foreign)
        if self._memory is None or shape != self._shaped_by or crowded:
            self._rebuild(space, own, objectives, reference, foreign)
            self._shaped_by = shape
        assert self._memory is not None
        if self._lesson == "extrapolated":
            self._forecast.learn(trials, objectives)
        for trial in own:
            if trial.number in self._told:
                continue
            if trial.number not in self._tickets:
                self._add(space, trial)
            if trial.ended and self._tickets[trial.number] >= 0:
                self._tell(trial, objectives, reference)
                self._held += 1
            if trial.ended:
                self._told.add(trial.number)
        return self._memory

    def _rebuild(
        self,
        space: Space,
        own: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
        foreign: int,
    ) -> None:
        before, tickets = self._memory, self._tickets
        if self._sampler is None:
            seed = int(np.random.SeedSequence([self._seed, len(own)]).generate_state(1)[0])
            self._sampler = self._make_sampler(seed) or optuna.samplers.RandomSampler(seed=seed)
        self._memory = memory = optuna.create_study(directions=["minimize", "minimize"], sampler=self._sampler)
        if before is not None:  # a sequence goes on where it was; parents of a generation are chosen anew
            for key, value in before._storage.get_study_system_attrs(before._study_id).items():
                if ":parent" not in key and not key.startswith("study:"):
                    memory._storage.set_study_system_attr(memory._study_id, key, value)
        old = before.get_trials(deepcopy=False) if before is not None else []
        self._tickets, self._told, self._held = {}, set(), 0
        if self._transfer is not None:
            for frozen in self._transfer.trials(space, reference, foreign):
                memory.add_trial(frozen)
        left_out = self._left_out(own, objectives, reference)
        for trial in own:
            if trial.number in left_out:
                self._told.add(trial.number)
                self._tickets[trial.number] = -1
            else:
                known = tickets.get(trial.number, -1)
                self._add(space, trial, old[known].system_attrs if known >= 0 else {})

    def _left_out(
        self, own: Sequence[TrialRecord], objectives: Objectives, reference: tuple[float, float] | None
    ) -> set[int]:
        """The ended trials that the copy does without, when there are more than the sampler needs."""
        ended = [t for t in own if t.ended and t.rungs]
        if self._remembers is None or len(ended) <= self._remembers:
            return set()
        points = np.array([self._point(t, objectives, reference) for t in ended])
        stopped = np.array([t.state == "stopped" for t in ended])
        order = np.lexsort((front_ranks(points), stopped))  # the sampler's good ones are among the first
        good, rest = order[: self._remembers // 4], order[self._remembers // 4 :]
        even = rest[np.linspace(0, len(rest) - 1, self._remembers - len(good)).astype(int)]
        keep = {ended[i].number for i in (*good, *even)}
        return {t.number for t in ended if t.number not in keep}

    def _point(
        self, trial: TrialRecord, objectives: Objectives, reference: tuple[float, float] | None
    ) -> tuple[float, float] | None:
        """A trial's best rung; worked out once for an ended trial."""
        known = self._points.get((trial.number, reference))
        if known is None:
            best = best_rung(candidates_of([trial], objectives), reference)
            if best is None:
                return None
            known = self._points[(trial.number, reference)] = best.point
        return known

    def _add(self, space: Space, trial: TrialRecord, attrs: Mapping[str, Any] | None = None) -> None:
        """A trial that the copy didn't propose itself, as running; one outside of the space is no use to a sampler."""
        assert self._memory is not None
        values = values_in(space, trial.settings)
        if values is None:
            self._tickets[trial.number] = -1
            return
        noted = {k: v for k, v in (attrs or trial.noted).items() if k.endswith(":generation")}
        self._memory.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=values,
                distributions={name: distribution(space.parameters[name]) for name in values},
                system_attrs=noted,
            )
        )
        self._tickets[trial.number] = len(self._memory.get_trials(deepcopy=False)) - 1

    def _tell(self, trial: TrialRecord, objectives: Objectives, reference: tuple[float, float] | None) -> None:
        assert self._memory is not None
        memory, ticket = self._memory, self._tickets[trial.number]
        point = self._point(trial, objectives, reference)
        with _quiet():
            if trial.state == "failed" or point is None:
                memory.tell(ticket, state=TrialState.FAIL)
                return
            if trial.state == "stopped" and self._lesson == "extrapolated":
                point = self._forecast.of(trial, objectives, reference)
            if trial.state == "stopped" and self._lesson == "pruned":
                memory.tell(ticket, state=TrialState.PRUNED)
                return
            stopped = trial.state == "stopped" and self._lesson == "infeasible"
            trial_id = memory.get_trials(deepcopy=False)[ticket]._trial_id
            for key, violation in violations(point, reference, trial.spared if stopped else 0.0).items():
                memory._storage.set_trial_system_attr(trial_id, f"constraints:{key}", violation)
            memory.tell(ticket, list(point))


def _key(space: Space, settings: Mapping[str, Any]) -> frozenset[Any]:
    """What makes a configuration the same as another."""
    return frozenset((name, settings[name]) for name in space.parameters if name in settings)


def _suggest(trial: Trial, name: str, parameter: Range | Choice) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.choices)
    if parameter.integer:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's word that something is experimental, about what was chosen on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
