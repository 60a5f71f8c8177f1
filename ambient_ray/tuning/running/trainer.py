"""Ray Train's trainer without the processes that a slot has no use for."""

from typing import Any

from ray.train.v2._internal.execution.callback import WorkerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy, ResizeDecision
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from .nodes import staying
from .shape import TrialShape


class SlotTrainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
    """Ray Train's trainer for workers that read no Ray Datasets and set up torch.distributed themselves.

    `TorchTrainer` is its base class with that set up; importing it loads PyTorch into every controller, 300 MB and 2 s
    each. Two of the base class's callbacks start a process each, 1.5 s of processor time: one hands out Datasets, and
    one frees the workers' resources when the controller dies, which it learns from the dashboard and so never where
    none runs. They are left out by name; should Ray rename them, they are back, and cost what they cost. On a cluster
    without a dashboard, which is one that a search has started for itself, a third is left out (`UnannouncedScaling`).
    """

    def __init__(
        self, *args: Any, dashboard: bool, elastic: tuple[TrialShape, int] | None = None, **others: Any
    ) -> None:
        """See the class.

        dashboard: whether the cluster runs one. elastic: a trial's shape, and how many slots share the cluster, where
        the number of workers follows its room. The rest as for the base class.
        """
        self._elastic = elastic
        self._unused = {"DatasetsCallback"} | (set() if dashboard else {"PlacementGroupCleanerCallback"})
        self._dashboard = dashboard
        super().__init__(*args, **others)

    def _create_default_callbacks(self) -> list[Any]:
        unused = self._unused
        kept = [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in unused]
        return [*kept, Termination()]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        if self._elastic is not None:
            arguments["scaling_policy"] = FairScaling(self.scaling_config, *self._elastic)
        elif not self._dashboard:
            arguments["scaling_policy"] = UnannouncedScaling(self.scaling_config)
        return super()._initialize_and_run_controller(**arguments)


class UnannouncedScaling(FixedScalingPolicy):  # type: ignore[misc]
    """A fixed number of workers that nobody is told of beforehand.

    Ray's own policy announces them to an actor that passes the wish on to the autoscaler. The actor is a process of its
    own, and the controller waits for it, 1.5 s each time. The workers' placement group says the same once it is asked
    for.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Announce nothing."""

    def _maybe_send_resource_request(self) -> None:
        """Announce nothing."""


class FairScaling(UnannouncedScaling):
    """As many workers as are this slot's share of what the cluster has, found out anew whenever they are to start.

    Ray's own elastic policy takes all that there is, which other slots then wait for, and changes the number within one
    run, whose workers would ask for its first trials again.
    """

    def __init__(self, scaling_config: Any, shape: TrialShape, slots: int) -> None:
        """shape: of a trial; slots: how many of them share the cluster."""
        super().__init__(scaling_config)
        self._shape, self._slots = shape, slots

    def make_decision_for_non_running_worker_group(self) -> ResizeDecision:
        """Start so many workers."""
        return ResizeDecision(self._shape.fair_size(staying(), self._slots), self._shape.resources)


class Termination(WorkerCallback):  # type: ignore[misc]
    """Lets a worker take SIGTERM as a notice. Ray calls it in the worker's main thread, where training is not."""

    def after_init_train_context(self) -> None:
        """Before training."""
        from ambient_ray.training.notice import note_termination

        note_termination()
