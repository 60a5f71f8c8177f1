"""Run a study's trials over a Ray cluster until it holds as many as wanted."""

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ambient_ray.errors import UserError

from ..budget import Budget
from ..faults import MOST_BLAMELESS
from ..judge import RungPolicy, start_judge
from ..space import Space
from ..study import Study
from .following import Following
from .guard import guard_own_cluster
from .nodes import staying
from .roster import Roster
from .shape import TrialShape
from .slots import Slots, place_of
from .waiting import Demand, wait_for_nodes

if TYPE_CHECKING:
    from ..listener import Listener

# Ray reads these when it is imported; the user's own settings win. (Reasons: Tune's result loggers and its
# Ctrl-C handler would do our work a second time, and a dead driver is told in a sentence of ours; starvation must show,
# but a busy machine is not starved; Ray Train's watcher of nodes is a process for each slot, where ours is a thread for
# eight.)
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that asks too late must not start, or join, another cluster
}


# Of the search's node, for each trial's driver: Ray counts in 1e-4, so that 10,000 of them fit.
_DRIVERS_SHARE = 1e-4
# Where hours bound a search and not trials, Tune still wants a number.
_MOST_TRIALS = 1_000_000


class ClusterError(UserError):
    """A Ray cluster that cannot be joined."""


@dataclass(frozen=True)
class SearchPlan:
    """All that a search runs on, besides the study.

    Attributes:
        space: what is searched.
        budget: when no more trials are begun; its `gpus` and `at_once` are filled in from the cluster.
        rungs: training length at each rung, in images.
        policy: what the judge decides by.
        shape: what a trial asks of the cluster.
        folder: where trials keep their checkpoints: a path that every node reaches, or a URL.
        max_concurrent: an upper bound; the cluster's size is another.
        max_failures: how often a trial is taken up again from its checkpoint after its workers died.
        imports: modules that the workers import while they wait for their first trial.
        pack: how many trials a worker trains together.
        joined: the cluster is not the search's own, so that its nodes come and go.
        wait_minutes: how long a search waits for a joined cluster's first nodes.
        hang_minutes: without a sign of life, after which a trial's workers are killed and it is taken up again.
        patience: hours that a trial waits for a full disk, or a store that is away.
    """

    space: Space
    budget: Budget
    rungs: Sequence[int]
    policy: RungPolicy
    shape: TrialShape
    folder: str
    max_concurrent: int | None = None
    max_failures: int = 1
    imports: Sequence[str] = ()
    pack: int = 1
    joined: bool = False
    wait_minutes: float = 0.0
    hang_minutes: float | None = None
    patience: float = 12.0

    def slots(self) -> Slots:
        """Slots for these trials; none has started yet."""
        # In a joined cluster the hosts may be on nodes that don't know our settings.
        environment = {key: value for key, value in os.environ.items() if key in ENVIRONMENT}
        return Slots(
            self.shape, tuple(self.imports), self.max_failures, environment, self.pack,
            None if self.hang_minutes is None else 60 * self.hang_minutes,
        )  # fmt: skip


def joins(address: str | None) -> bool:
    """Whether a search with this address (or RAY_ADDRESS) joins a cluster, instead of starting its own."""
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def start_ray(address: str | None, cpus: int, data_bytes: int = 0) -> list[dict[str, float]]:
    """Join the cluster at `address` (or RAY_ADDRESS), or start one on this machine.

    Args:
        address: None, "local", or a cluster's.
        cpus: cores of a cluster that is started here.
        data_bytes: what the trials will share, so that its object store holds it.

    Returns:
        The resources of each living node.

    Raises:
        ClusterError: the address does not answer.
    """
    joined = joins(address)
    address = address or os.environ.get("RAY_ADDRESS")
    if address and joined:
        check_cluster(address)
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if not joined:
        guard_own_cluster()
    import ray

    common: dict[str, Any] = {"namespace": "ambient_ray", "log_to_driver": False, "logging_level": "ERROR"}
    # What the processes of trials log, into Ray's files on their nodes. Given to the job and not to `init`, which would
    # have this process log to the terminal, too.
    common["job_config"] = ray.job_config.JobConfig()
    logs = ray.LoggingConfig(encoding="JSON", log_level="INFO", additional_log_standard_attrs=["name"])
    common["job_config"].set_py_logging_config(logs)
    try:
        if joined:
            ray.init(address=address, **common)
        else:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=256 * 2**20 + 2 * data_bytes,
                **common,
            )
    except Exception as error:  # Ray raises its base class too, when a busy machine is slow to start it
        raise ClusterError(
            f"the Ray cluster at {address or 'local'} cannot be used: {str(error).splitlines()[0]}"
        ) from error
    # The raylet's notices to the terminal, in practice "WARNING: 8 PYTHON worker processes have been started", which is
    # how many two trials have. What matters to a trial comes back as its error.
    ray._private.worker._worker_logs_enabled = False
    return staying()


def check_cluster(address: str) -> None:
    """Knock at HOST:PORT for a few seconds; Ray itself would wait for minutes. Other addresses are Ray's to judge.

    Raises:
        ClusterError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host or not host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start it, correct the address,"
            " or leave it out to run on this machine"
        ) from error


def trials_ahead(
    study: Study, plan: SearchPlan, say: Callable[[str], None] = lambda text: None, *, only_begun: bool = False
) -> tuple[int, int, str]:
    """What there is to run: (trials at most, how many of them at once, why no new ones are begun or "").

    Ray must have been started. A joined cluster that has no room for a trial is waited for, and `say` told.

    Raises:
        TrialShapeError: there is no room, or was none in `plan.wait_minutes`.
    """
    if plan.joined:
        # What was begun is not given up for want of nodes: the search has had some.
        wait_for_nodes(plan.shape, math.inf if only_begun else plan.wait_minutes, say)
    nodes = staying()
    fits = min(plan.shape.concurrency(nodes) * plan.pack, plan.max_concurrent or sys.maxsize)
    if (note := plan.shape.idle_gpus(nodes)) and not only_begun:
        say(note)
    waiting, spent = len(study.running()), _budget(plan, fits).reached(study.trials(), study.seconds)
    if only_begun or spent:
        most = waiting
    elif plan.budget.trials is not None:
        most = waiting + plan.budget.trials - sum(t.replica_of is None for t in study.trials())
    else:
        most = _MOST_TRIALS
    return most, min(fits, most), spent


def _budget(plan: SearchPlan, at_once: int) -> Budget:
    return replace(plan.budget, gpus=plan.shape.gpus * plan.shape.most_workers, at_once=at_once)


def _beats(judge: Any) -> Callable[[], Mapping[int, tuple[int, float]]]:
    """How far the trials are, as the judge has heard; one that is being started again tells nothing new."""
    import ray

    heard: dict[int, tuple[int, float]] = {}

    def ask() -> Mapping[int, tuple[int, float]]:
        with suppress(ray.exceptions.GetTimeoutError):
            heard.update(ray.get(judge.beats.remote(), timeout=30))
        return dict(heard)

    return ask


def this_node() -> str:
    """The resource that Ray gives to the node of this process alone, 1 of it. Ray must have been started."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    here = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == mine)
    return next(str(key) for key in here if key.startswith("node:") and not key.startswith("node:__"))


def run_search(
    study: Study,
    plan: SearchPlan,
    slots: Slots,
    shared: Mapping[str, Any],
    listeners: Sequence["Listener"] = (),
    on_start: Callable[[Callable[[], Mapping[int, tuple[int, float]]]], None] = lambda beats: None,
    say: Callable[[str], None] = lambda text: None,
    *,
    only_begun: bool = False,
) -> str:
    """Run until the budget is spent and all that was begun has ended. Ray must have been started.

    Trials that a dead search left running are taken up first, from their newest checkpoint, replicas among them.

    Args:
        study: asked and told.
        plan: what to run.
        slots: where; more are started as they are needed, and left running for whatever comes next.
        shared: what every trial needs: training (the study's settings as a dict) and data (an object reference).
        listeners: told of every start, rung and end.
        on_start: called with a function that gives the trials' heartbeats, once trials can run.
        say: told what is waited for, as a line for people.
        only_begun: run what was begun, replicas above all, and ask for nothing new.

    Returns:
        Why it ended, as one clause; "" when what was begun is all.
    """
    from ray import tune  # a second, in which the slots' workers start

    from .scratch import ray_scratch
    from .searcher import DriverDeaths, StudySearcher
    from .trial import drive_trial

    for trial in [t for t in study.running() if not t.settings]:
        study.finish(trial.number, "failed", "the search died while it was asked for")
    most, at_once, spent = trials_ahead(study, plan, say, only_begun=only_begun)
    if not most:
        return spent
    roster, budget = Roster(slots.grow(at_once), place_of), _budget(plan, at_once)
    judge = start_judge(study, plan.policy)
    on_start(_beats(judge))
    needed = plan.policy.needed(study.objectives)
    searcher = StudySearcher(
        study, plan.space, {**shared, "judge": judge, "folder": plan.folder, "uid": study.uid, "needed": needed,
                                  "study": study.name, "patience": plan.patience},
        plan.rungs, study.running(), listeners, roster, spent=lambda seconds: budget.reached(study.trials(), seconds),
    )  # fmt: skip
    # A driver that takes a CPU starves the workers; Tune refuses to ask for nothing, so it asks for a little of
    # what this node alone has: other nodes come and go.
    trainable = tune.with_resources(drive_trial, tune.PlacementGroupFactory([{"CPU": 0, this_node(): _DRIVERS_SHARE}]))
    with ray_scratch("tune") as folder, _following(plan, most, slots, roster, say):
        tune.Tuner(
            trainable,
            # As many at once as the searcher has slots for.
            tune_config=tune.TuneConfig(search_alg=searcher, num_samples=most, reuse_actors=True),
            run_config=tune.RunConfig(
                name=time.strftime("%Y%m%d-%H%M%S"),
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_BLAMELESS),
                callbacks=[DriverDeaths(searcher)],
            ),
        ).fit()
    return searcher.ended_because or budget.reached(study.trials(), study.seconds)


def _following(
    plan: SearchPlan, most: int, slots: Slots, roster: Roster, say: Callable[[str], None]
) -> AbstractContextManager[object]:
    """As many trials at once as a joined cluster has room for at any time; one's own never changes."""
    if not plan.joined:
        return nullcontext()
    bound = min(plan.max_concurrent or sys.maxsize, most)
    # What an autoscaler may bring is not known, so that it is asked for as much as the user has named.
    ask = Demand(plan.shape).want if plan.max_concurrent is not None else lambda trials: None
    return Following(plan.shape, plan.pack, bound, staying, slots, roster, say, ask)
