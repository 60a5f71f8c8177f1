"""A storage in memory whose running trials can be seen as if they had ended, where they are expected to end."""

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState


class ExpectingStorage(InMemoryStorage):  # type: ignore[misc]  # Optuna ships no types that mypy reads here
    """Optuna's storage in memory; `get_all_trials`, from which samplers learn, shows expectations as results.

    A trial stays running to all that asks for it alone, and when it ends its result takes the expectation's place.
    What is asked `on_trial` leaves no trial behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._expected: dict[int, FrozenTrial] = {}

    def expect(self, trial: FrozenTrial, values: Sequence[float]) -> None:
        """Show a running trial with these values from now on; a later expectation replaces it."""
        expected = copy.copy(trial)
        expected.state, expected.values = TrialState.COMPLETE, list(values)
        self._expected[trial.number] = expected

    @contextmanager
    def on_trial(self, study_id: int) -> Iterator[None]:
        """Trials that are made meanwhile are gone afterwards, as if a sampler had never been asked."""
        trials = self._studies[study_id].trials
        before, waiting = len(trials), self._prev_waiting_trial_number[study_id]
        try:
            yield
        finally:
            with self._lock:
                for trial in trials[before:]:
                    del self._trial_id_to_study_id_and_number[trial._trial_id]
                del trials[before:]
                self._prev_waiting_trial_number[study_id] = waiting

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As `InMemoryStorage.get_all_trials`, with expectations in the place of running trials."""
        trials = list(super().get_all_trials(study_id, deepcopy=False))
        for number in [n for n in self._expected if trials[n].state.is_finished()]:
            del self._expected[number]
        for number, expected in self._expected.items():
            trials[number] = expected
        kept = trials if states is None else [trial for trial in trials if trial.state in states]
        return copy.deepcopy(kept) if deepcopy else kept
