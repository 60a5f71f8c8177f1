"""Syne Tune's MOASHA (Schmucker et al. 2021; Apache-2.0) on this project's simulated clock.

Its own scheduler object suggests and decides; nothing of it is rewritten here. Needs the package:
pip install --no-deps syne-tune (its other requirements are for its own searchers, which are not used).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np

from ambient_ray.simulation import Curves
from ambient_ray.tuning.space import Choice, Space


class SyneTuneMoasha:
    """MOASHA with its own random suggestions and its defaults, beside the same baselines as every other search.

    Args:
        space: what is searched. Its baselines run first and are never stopped, as in all searches compared; MOASHA
            sees their scores.
        curves: the world, for its rungs and objectives.
        reduction_factor: its eta. Its milestones are grace_period * eta^k, so with 2 they are this project's rungs.
        seed: of its draws, which come from NumPy's global state: it is set and put back around every call.
    """

    def __init__(self, space: Space, curves: Curves, reduction_factor: float, seed: int) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        self._space, self._rungs, self._objectives = space, curves.rungs, curves.objectives
        self._baselines = [{**space.fixed, **baseline} for baseline in space.baselines]
        self._trials: dict[int, Any] = {}
        self._state = np.random.RandomState(seed).get_state()
        with self._own_randomness():
            self._scheduler = MOASHA(
                config_space={name: _domain(parameter) for name, parameter in space.parameters.items()},
                metrics=[self._objectives.fidelity, self._objectives.memorization],
                time_attr="images",
                max_t=self._rungs[-1],
                grace_period=self._rungs[0],
                reduction_factor=reduction_factor,
                random_seed=seed,
            )

    def ask(self) -> tuple[int, Mapping[str, Any]]:
        """The next baseline, else the scheduler's suggestion."""
        from syne_tune.backend.trial_status import Trial

        number = len(self._trials)
        with self._own_randomness():
            if number < len(self._baselines):
                settings = self._baselines[number]
            else:
                settings = {**self._space.fixed, **_plain(self._scheduler.suggest().config)}
            trial = Trial(trial_id=number, config=dict(settings), creation_time=datetime.fromtimestamp(0))
            self._scheduler.on_trial_add(trial)
        self._trials[number] = trial
        return number, settings

    def scored(self, number: int, rung: int, scores: Mapping[str, float]) -> bool:
        """The scheduler's decision."""
        fidelity, memorization = self._objectives.of(scores)
        result = {
            "images": self._rungs[rung],
            self._objectives.fidelity: fidelity,
            self._objectives.memorization: memorization,
        }
        with self._own_randomness():
            decision = self._scheduler.on_trial_result(self._trials[number], result)
        return number < len(self._baselines) or decision == "CONTINUE"

    def ended(self, number: int, state: str) -> None:
        """It has decided that itself."""

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        others = np.random.get_state()
        np.random.set_state(self._state)
        try:
            yield
        finally:
            self._state = np.random.get_state()
            np.random.set_state(others)


def available() -> bool:
    """Whether Syne Tune can be imported."""
    try:
        import syne_tune.optimizer.schedulers.multiobjective.moasha  # noqa: F401
    except ImportError:
        return False
    return True


def _domain(parameter: Any) -> Any:
    from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform

    if isinstance(parameter, Choice):
        return choice(list(parameter.choices))
    if parameter.integer:
        return (lograndint if parameter.log else randint)(int(parameter.low), int(parameter.high))
    return (loguniform if parameter.log else uniform)(parameter.low, parameter.high)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in config.items()}
