"""The judge: one Ray actor that every trial asks after a rung. All that it keeps can be rebuilt.

`RungJudge` is the judgement itself, pure and fast, so that the simulator asks what a real search asks. `Judge` is the
actor around it, with the study to rebuild it from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .pruner import Decision, ParetoPruner, Within
from .records import Objectives
from .study import Study

# Configurations that must have reached a rung before any is stopped there. Of two that began together one is ahead of
# the other by luck, and in a short search the one that is stopped may be its best. On recorded curves with two workers
# and three trials' training (benchmarks/README.md) the hypervolume is .085 with 3 and .042 with 2 in one world, .361
# and .244 in the other; 4 and 6 add nothing, and from 16 trials on none of them differ.
FEWEST = 3


@dataclass(frozen=True)
class RungPolicy:
    """Which scores decide at which rung, and how hard the selection is.

    Attributes:
        rungs: how many rungs a trial has.
        reduction_factor: about one in this many dominated trials survives a rung; math.inf or None: all do.
        values: for each rung the names of the scores that count.
        protected: arms that are never stopped (their scores still count against the others): baselines, and replicas,
            which are there to be measured.
        within: the order on one front, "crowding" or "epsilon_net" (see `ParetoPruner`).
        fewest: configurations at a rung before any is stopped there.
    """

    rungs: int
    reduction_factor: float | None
    values: Sequence[Sequence[str]]
    protected: frozenset[str] = field(default=frozenset({"ddpm", "replica"}))
    within: Within = "crowding"
    fewest: int = FEWEST

    def needed(self, objectives: Objectives) -> tuple[str, ...]:
        """The scores without which a rung can be neither judged nor compared."""
        names = {objectives.fidelity, objectives.memorization, *(key for keys in self.values for key in keys)}
        return tuple(sorted(names))

    def pruner(self) -> ParetoPruner:
        """A fresh pruner of this policy.

        Raises:
            ValueError: the policy makes no sense (see `ParetoPruner`).
        """
        values = dict(enumerate(self.values))
        return ParetoPruner(range(self.rungs), self.reduction_factor, values, within=self.within, fewest=self.fewest)

    def judge(self) -> "RungJudge":
        """A fresh judge of this policy, without Ray and without a study."""
        return RungJudge(self)


def usual_rung_values(rungs: int, objectives: Objectives) -> list[list[str]]:
    """Which scores decide at each rung unless a user says else.

    Fidelity alone in the first half of the rungs, both objectives later. Copying has not begun at the first rungs, so
    memorization says nothing there. The early-warning gap (held-out less training loss) rises before copying starts,
    but a front over it keeps trials that are good at nothing else.

    Measured on recorded curves (benchmarks/README.md), images to the front of 128 random trials over this rule's, in a
    world of ten dimensions and one of two: fidelity and the gap at the second rung 1.24 [.91, 1.72] and 1.34 [1.00,
    1.76], fidelity alone but at the last rung 1.11 [.94, 1.31] and .88 [.73, 1.06].

    Args:
        rungs: how many a trial has.
        objectives: the study's.
    """
    both = [objectives.fidelity, objectives.memorization]
    return [[objectives.fidelity] if 2 * rung < rungs else both for rung in range(rungs)]


class RungJudge:
    """Decides at each rung by a policy: a `ParetoPruner` that knows which arms are protected.

    Args:
        policy: what counts at each rung.

    Raises:
        ValueError: the policy makes no sense.
    """

    def __init__(self, policy: RungPolicy) -> None:
        self._protected, self._pruner = policy.protected, policy.pruner()

    def decide(
        self, trial: int, arm: str, rung: int, scores: Mapping[str, float], configuration: int | None = None
    ) -> bool:
        """Record a rung's scores; True when the trial goes on. Asking twice about a rung is harmless.

        Args:
            trial: the trial's number.
            arm: the trial's arm; one of the policy's protected arms goes on whatever its scores are.
            rung: index, from 0.
            scores: name -> value; those that don't count at this rung are ignored.
            configuration: for a replica, the number of the trial that it replicates.

        Raises:
            ValueError: a score that counts at this rung is missing or not finite, named with the trial and the rung;
                nothing is recorded then.
        """
        decision = self._pruner.decide(trial, rung, scores, configuration=configuration)
        return arm in self._protected or decision is Decision.CONTINUE

    def record(self, trial: int, rung: int, scores: Mapping[str, float], configuration: int | None = None) -> None:
        """Take in a rung's scores without deciding. Arguments and errors as for `decide`."""
        self._pruner.record(trial, rung, scores, configuration=configuration)


class Judge:
    """Decides at each rung, and passes on where each trial stands.

    It rebuilds its `RungJudge` from the study's storage when it starts, so Ray may restart it at any time, and asking
    it twice about the same rung is harmless. A stored rung that this policy cannot judge, because the policy was
    changed since and now names a score that the rung does not have, is left out and counted (`left_out`).

    Args:
        study: the study's name.
        storage: the study's storage, as for `Study`.
        objectives: the study's objectives.
        policy: what counts at each rung.

    Raises:
        ValueError: the policy makes no sense.
    """

    def __init__(self, study: str, storage: str, objectives: Objectives, policy: RungPolicy) -> None:
        self._judge = policy.judge()
        self._beats: dict[int, tuple[int, float]] = {}
        self._left_out: list[str] = []
        for trial in Study(study, storage, objectives).trials():
            for rung in trial.rungs:
                self.record(trial.number, rung.rung, rung.scores, trial.replica_of)

    def decide(
        self, trial: int, arm: str, rung: int, scores: Mapping[str, float], configuration: int | None = None
    ) -> bool:
        """Record a rung's scores; True when the trial goes on. Arguments and errors as for `RungJudge.decide`."""
        return self._judge.decide(trial, arm, rung, scores, configuration)

    def record(self, trial: int, rung: int, scores: Mapping[str, float], configuration: int | None = None) -> None:
        """Take in a rung of the past without deciding; arguments as for `decide`. One that cannot be is left out."""
        try:
            self._judge.record(trial, rung, scores, configuration)
        except ValueError as error:
            self._left_out.append(str(error))

    def left_out(self) -> list[str]:
        """Why each stored rung that could not be taken in was left out; empty unless the policy was changed."""
        return list(self._left_out)

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
