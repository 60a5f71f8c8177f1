"""What a sampler is told of a study: a copy in memory, made so that it learns the right thing.

The study's storage is the truth. In the copy a trial is its best rung, rungs on the front are there beside it, a
stopped trial teaches what `Lesson` says, baselines outside of the space are left out, knowledge from another study
comes in and fades, and of thousands of trials only as many are kept as the sampler needs.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from .expectations import ExpectingStorage
from .forecast import Forecast
from .pareto import front_ranks, pareto_front
from .points import distribution, values_in
from .records import Objectives, TrialRecord, best_rung, candidates_of, violations
from .space import Space
from .transfer import Transfer

Lesson = Literal["infeasible", "pruned", "partial", "extrapolated"]

# What samplers keep beside a study's trials: of a trial, the number of its generation; of the whole, the place in a
# sequence. Suggestions follow from these, so they go into the study.
_GENERATION, _TRIED, _SEQUENCE = ":generation", ":tried", "qmc:"

#: From more than so many running trials on (TPE takes at most as many as good ones), most of the good ones known run,
#: and those that have ended are what was stopped: then forecasts of the running ones are told, too.
MANY = 25


class Memory:
    """A sampler's copy of a study; see the module's text.

    What a stopped trial teaches (`lesson`) was compared on recorded curves (`benchmarks/search.py --compare lessons`).
    Training images to the front of 64 random trials, over those of "extrapolated", in ten dimensions (20 seeds) and in
    two (30): infeasible 1.06 [.88, 1.31] and 1.01 [.88, 1.17], pruned .95 [.79, 1.13] and .97 [.82, 1.15], partial
    1.12 [.90, 1.44] and 1.05 [.91, 1.21]. No difference is shown, so the one that tells the sampler the most is kept.

    Args:
        sampler: gives an Optuna sampler for two objectives from a seed, or None for independent random draws.
        seed: of the sampler.
        kept: the sampler is made once and asked again and again, with a state that nobody but itself knows, so that a
            study that is taken up again may go on otherwise than it would have. Otherwise it is made anew for every
            suggestion, from a seed that follows from how many trials there are: what it suggests is a function of the
            copy alone.
        sequence: the sampler's suggestions are points of one sequence, so every suggestion's sampler has the same seed,
            and an independent_sampler whose seed is not.
        lesson: of a stopped trial the sampler learns that it is infeasible, with a violation that is larger the earlier
            it was stopped ("infeasible"), nothing that several objectives could use ("pruned"), its best rung as if it
            had been trained to the end ("partial"), or where it would have ended (`Forecast`, "extrapolated").
        whole_front: every rung is a candidate, so the sampler is told each that was on the front when its trial ended,
            as another trial of the same configuration. In ten dimensions the best rungs alone need 1.13 [.97, 1.34] of
            its images for the front of 128 random trials and end .035 [.000, .066] of the box lower (24 seeds); in two,
            .88 [.69, 1.10] (40 seeds).
        transfer: another study's trials, as knowledge that fades.
        remembers: how many ended trials the copy holds at the most; None: all. The best are kept, and an even choice of
            the others.

    Attributes:
        study: the copy.
    """

    def __init__(
        self,
        sampler: Callable[..., optuna.samplers.BaseSampler | None],
        seed: int,
        *,
        lesson: Lesson,
        whole_front: bool,
        transfer: Transfer | None,
        remembers: int | None,
        kept: bool = False,
        sequence: bool = False,
    ) -> None:
        self._kept, self._sequence = kept, sequence
        self._make_sampler, self._seed, self._lesson, self._whole_front = sampler, seed, lesson, whole_front
        self._transfer, self._remembers = transfer, remembers
        self._sampler: optuna.samplers.BaseSampler | None = None
        self._fathered: set[str] = set()  # generations whose parents this copy has chosen
        self.study: optuna.Study | None = None
        self._tickets: dict[int, int] = {}  # the study's number of a trial -> its number in the copy
        self._told: set[int] = set()
        # Where in the study the trials are that had not ended the last time; how many it had then; own ones ended.
        self._open: list[int] = []
        self._read = self._ended = 0
        self._storage = ExpectingStorage()
        self._expected: dict[int, int] = {}  # the study's number of a running trial -> rungs that its forecast knows
        self._held = 0  # ended trials in the copy
        self._forecast = Forecast()
        self._front: list[tuple[float, float]] = []  # of all rungs of the trials told
        self._points: dict[tuple[int, tuple[float, float] | None], tuple[float, float]] = {}
        self._shaped_by: tuple[Any, ...] = ()

    def begin(self, asked: int) -> None:
        """Have the sampler ready for the suggestion that is made when the study has `asked` trials."""
        assert self.study is not None
        if self._sampler is None or not self._kept:
            whole, seed = (int(np.random.SeedSequence([self._seed, n]).generate_state(1)[0]) for n in (0, asked))
            draws = optuna.samplers.RandomSampler(seed=seed)
            made = self._make_sampler(whole, independent_sampler=draws) if self._sequence else self._make_sampler(seed)
            self._sampler = made or draws
        self.study.sampler = self._sampler

    def noted(self, suggested: Sequence[FrozenTrial]) -> dict[str, Any]:
        """What is kept with the study's own trial: all that later suggestions follow from.

        That is what the sampler noted about its last suggestion, of the earlier ones, which were not taken, their
        generation, and where its sequence is.
        """
        assert self.study is not None
        found: dict[str, Any] = {}
        for place, trial in enumerate(suggested, start=1):
            own = {key: value for key, value in trial.system_attrs.items() if key.endswith(_GENERATION)}
            self._fathered |= {f"{key}{value}" for key, value in own.items()}
            found |= own if place == len(suggested) else {f"{key}{_TRIED}": value for key, value in own.items()}
        whole = self._storage.get_study_system_attrs(self.study._study_id)
        return found | {key: value for key, value in whole.items() if key.startswith(_SEQUENCE)}

    def relive(self, noted: Mapping[str, Any], asked: int, ask: Callable[[], object]) -> None:
        """Be as if the sampler had been asked for the trial about which `noted` was noted.

        Args:
            noted: by another process (`noted`).
            asked: as for `begin`.
            ask: asks the sampler; done where that makes a difference: the first suggestion of a generation is when
                its parents are chosen.
        """
        assert self.study is not None
        generations = {f"{key.removesuffix(_TRIED)}{value}" for key, value in noted.items() if _GENERATION in key}
        if generations - self._fathered:
            self.begin(asked)
            ask()
            self._fathered |= generations
        for key, value in noted.items():
            if key.startswith(_SEQUENCE):
                self._storage.set_study_system_attr(self.study._study_id, key, value)

    def synchronized(
        self,
        space: Space,
        trials: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
    ) -> optuna.Study:
        """The copy, with all that has happened since the last time. `trials`: each at the same place every time."""
        changing = [*self._open, *range(self._read, len(trials))]
        ended = self._ended + sum(t.ended for t in _own([trials[i] for i in changing]))
        foreign = self._transfer.kept(ended) if self._transfer is not None else 0
        crowded = self._remembers is not None and self._held > 1.25 * self._remembers
        shape = (space.name, reference, foreign)
        if self.study is None or shape != self._shaped_by or crowded:
            self._rebuild(space, _own(trials), objectives, reference, foreign)
            self._shaped_by, changing = shape, list(range(len(trials)))
        assert self.study is not None
        if self._lesson == "extrapolated":
            self._forecast.learn([trials[i] for i in changing], objectives)
        own = _own([trials[i] for i in changing])
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
        running = [t for t in own if not t.ended]
        if self._lesson == "extrapolated" and len(running) > MANY:
            self._expect(running, objectives, reference)
        self._open, self._read, self._ended = [i for i in changing if not trials[i].ended], len(trials), ended
        return self.study

    def _expect(
        self, running: Sequence[TrialRecord], objectives: Objectives, reference: tuple[float, float] | None
    ) -> None:
        """Tell where running trials are going to end, as far as their rungs say."""
        assert self.study is not None
        for trial in running:
            ticket = self._tickets[trial.number]
            if ticket >= 0 and len(trial.rungs) > self._expected.get(trial.number, 0):
                self._expected[trial.number] = len(trial.rungs)
                self._storage.expect(self._in_copy(ticket), self._forecast.of(trial, objectives, reference))

    def _rebuild(
        self,
        space: Space,
        own: Sequence[TrialRecord],
        objectives: Objectives,
        reference: tuple[float, float] | None,
        foreign: int,
    ) -> None:
        before = self.study
        self._storage, self._expected, self._fathered = ExpectingStorage(), {}, set()
        directions = ["minimize", "minimize"]
        sampler = self._sampler or optuna.samplers.RandomSampler(seed=0)  # `begin` comes before anything is asked
        self.study = memory = optuna.create_study(storage=self._storage, directions=directions, sampler=sampler)
        if before is not None:  # a sequence goes on where it was; parents of a generation are chosen anew
            for key, value in before._storage.get_study_system_attrs(before._study_id).items():
                if ":parent" not in key and not key.startswith("study:"):
                    memory._storage.set_study_system_attr(memory._study_id, key, value)
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
                self._add(space, trial)

    def _left_out(
        self, own: Sequence[TrialRecord], objectives: Objectives, reference: tuple[float, float] | None
    ) -> set[int]:
        """The ended trials that the copy does without, when there are more than the sampler needs."""
        ended = [t for t in own if t.ended and t.rungs]
        if self._remembers is None or len(ended) <= self._remembers:
            return set()
        ranks = iter(front_ranks([objectives.of(rung.scores) for t in ended for rung in t.rungs]))
        best = np.array([min(next(ranks) for _ in t.rungs) for t in ended])
        stopped = np.array([t.state == "stopped" for t in ended])
        order = np.lexsort((stopped, best))  # the sampler's good ones are among the first
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

    def _add(self, space: Space, trial: TrialRecord) -> None:
        """A trial, as running; one outside of the space is no use to a sampler."""
        assert self.study is not None
        values = values_in(space, trial.settings)
        if values is None:
            self._tickets[trial.number] = -1
            return
        noted = {k: v for k, v in trial.noted.items() if k.endswith(_GENERATION)}
        frozen = create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions={name: distribution(space.parameters[name]) for name in values},
            system_attrs=noted,
        )
        trial_id = self._storage.create_new_trial(self.study._study_id, template_trial=frozen)
        self._tickets[trial.number] = self._storage.get_trial_number_from_id(trial_id)

    def _tell(self, trial: TrialRecord, objectives: Objectives, reference: tuple[float, float] | None) -> None:
        assert self.study is not None
        memory, ticket = self.study, self._tickets[trial.number]
        point = self._point(trial, objectives, reference)
        with quiet():
            if trial.state == "failed" or point is None:
                memory.tell(ticket, state=TrialState.FAIL)
                return
            if trial.state == "stopped" and self._lesson == "extrapolated":
                point = self._forecast.of(trial, objectives, reference)
            if trial.state == "stopped" and self._lesson == "pruned":
                memory.tell(ticket, state=TrialState.PRUNED)
                return
            stopped = trial.state == "stopped" and self._lesson == "infeasible"
            trial_id = self._in_copy(ticket)._trial_id
            for key, violation in violations(point, reference, trial.spared if stopped else 0.0).items():
                memory._storage.set_trial_system_attr(trial_id, f"constraints:{key}", violation)
            memory.tell(ticket, list(point))
            for other in self._others_on_front(trial, point, objectives, reference) if self._whole_front else []:
                frozen = self._in_copy(ticket)
                feasible = {f"constraints:{key}": 0.0 for key in violations(other, reference, 0.0)}
                memory.add_trial(
                    create_trial(
                        state=TrialState.COMPLETE,
                        params=frozen.params,
                        distributions=frozen.distributions,
                        values=list(other),
                        system_attrs=feasible,
                    )
                )

    def _in_copy(self, ticket: int) -> FrozenTrial:
        """A trial of the copy; reading them all for one would cost as much as there are."""
        assert self.study is not None
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, ticket)
        return self._storage.get_trial(trial_id)

    def _others_on_front(
        self,
        trial: TrialRecord,
        told: tuple[float, float],
        objectives: Objectives,
        reference: tuple[float, float] | None,
    ) -> list[tuple[float, float]]:
        """A trial's rungs that meet the constraint and that nothing dominates, but for the one that was told."""
        points = [objectives.of(rung.scores) for rung in trial.rungs]
        known = np.array([*self._front, *points])
        self._front = list(map(tuple, known[pareto_front(known)].tolist()))
        on_front = set(self._front) - {told}
        return [p for p in dict.fromkeys(points) if p in on_front and (reference is None or p[0] <= reference[0])]


def _own(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that a sampler may learn from: no baselines, no replicas."""
    return [t for t in trials if t.replica_of is None and t.source != "baseline"]


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna's word that something is experimental, about what was chosen on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
