"""The judge: one Ray actor that every trial asks after a rung. All that it keeps can be rebuilt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .pruner import Decision, ParetoPruner
from .records import Objectives
from .study import Study


@dataclass(frozen=True)
class RungPolicy:
    """Which scores decide at which rung, and how hard the selection is.

    Attributes:
        rungs: how many rungs a trial has.
        reduction_factor: about one in this many dominated trials survives a rung.
        values: for each rung the names of the scores that count.
        protected: arms that are never stopped (their scores still count against the others).
    """

    rungs: int
    reduction_factor: float
    values: Sequence[Sequence[str]]
    protected: frozenset[str] = field(default=frozenset({"ddpm"}))

    def needed(self, objectives: Objectives) -> tuple[str, ...]:
        """The scores without which a rung can be neither judged nor compared."""
        names = {objectives.fidelity, objectives.memorization, *(key for keys in self.values for key in keys)}
        return tuple(sorted(names))

    def pruner(self) -> ParetoPruner:
        """A fresh pruner of this policy."""
        return ParetoPruner(range(self.rungs), self.reduction_factor, dict(enumerate(self.values)))


class Judge:
    """Decides at each rung, and passes on where each trial stands.

    It rebuilds its pruner from the study's storage when it starts, so Ray may restart it at any time, and asking
    it twice about the same rung is harmless.

    Args:
        study: the study's name.
        storage: the study's storage, as for `Study`.
        objectives: the study's objectives.
        policy: what counts at each rung.
    """

    def __init__(self, study: str, storage: str, objectives: Objectives, policy: RungPolicy) -> None:
        self._policy, self._pruner = policy, policy.pruner()
        self._beats: dict[int, tuple[int, float]] = {}
        for trial in Study(study, storage, objectives).trials():
            for rung in trial.rungs:
                self._pruner.record(trial.number, rung.rung, rung.scores)

    def decide(self, trial: int, arm: str, rung: int, scores: Mapping[str, float]) -> bool:
        """Record a rung's scores; True when the trial goes on.

        Raises:
            ValueError: a score that counts at this rung is missing or not finite.
        """
        decision = self._pruner.decide(trial, rung, scores)
        return arm in self._policy.protected or decision is Decision.CONTINUE

    def beat(self, trial: int, images_seen: int, loss: float) -> None:
        """A trial says how far it is."""
        self._beats[trial] = (images_seen, loss)

    def beats(self) -> dict[int, tuple[int, float]]:
        """Trial number -> (images seen, recent loss), for the display."""
        return dict(self._beats)


def start_judge(study: Study, policy: RungPolicy) -> Any:
    """The judge as an actor on this node (it reads the study's storage, which may be a local file).

    Returns:
        The actor's handle; the actor ends with the driver.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Judge).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=1, scheduling_strategy=here
    )
    return actor.remote(study.name, study.storage_url, study.objectives, policy)
