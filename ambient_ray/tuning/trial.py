"""One trial inside Ray Tune: a driver of no CPUs that starts Ray Train and passes on what the workers report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambient_ray.errors import UserError


class TrialShapeError(UserError):
    """A trial that no node of the cluster can hold."""


@dataclass(frozen=True)
class TrialShape:
    """What a trial asks of the cluster.

    Attributes:
        workers: Ray Train workers.
        cpus: cores of each worker.
        gpus: GPUs of each worker; fractions share one.
    """

    workers: int = 1
    cpus: float = 1
    gpus: float = 0

    @property
    def resources(self) -> dict[str, float]:
        """One worker's resources, as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def concurrency(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many such trials run at once.

        Args:
            nodes: each node's resources, {"CPU": cores, "GPU": GPUs}.

        Raises:
            TrialShapeError: not even one fits.
        """
        places = sum(self._workers_on(node) for node in nodes)
        if places < self.workers:
            have = (
                "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
                or "no nodes"
            )
            if not any(self._workers_on(node) for node in nodes):
                raise TrialShapeError(
                    f"no node can hold a worker with {self.cpus:g} CPUs and {self.gpus:g} GPUs (there are: {have});"
                    " lower trial.cpus_per_worker or trial.gpus_per_worker"
                )
            raise TrialShapeError(
                f"a trial of {self.workers} workers with {self.cpus:g} CPUs and {self.gpus:g} GPUs each does not fit:"
                f" the nodes ({have}) hold {places} of them; lower trial.workers"
            )
        return places // self.workers

    def _workers_on(self, node: Mapping[str, float]) -> int:
        fits = node.get("CPU", 0.0) / self.cpus
        if self.gpus:
            fits = min(fits, node.get("GPU", 0.0) / self.gpus)
        return int(fits + 1e-9)


def drive_trial(config: dict[str, Any]) -> None:
    """Ray Tune's trainable: runs one configuration under Ray Train and returns when the trial has ended itself.

    Args:
        config: what `StudySearcher.suggest` gives: number, arm, replica_of, settings, and `shared`, the same for all
            trials (training: the study's settings as a dict, data, judge, needed, shape, cpus, uid, folder,
            max_failures).
    """
    from ray import tune

    try:
        _trainer(config).fit()
    except Exception as error:  # whatever ended the workers ends this trial, with its reason, and not the search
        tune.report({"state": "failed", "reason": root_cause(error)})


def _trainer(config: dict[str, Any]) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from ambient_ray.training.ray_worker import train_worker

    shared = config["shared"]
    shape: TrialShape = shared["shape"]
    name = f"{config['number']:04d}-{shared['uid']}"
    own = {key: config[key] for key in ("number", "arm", "settings", "replica_of")}
    common = {key: shared[key] for key in ("training", "data", "judge", "needed", "cpus")}
    # TorchTrainer is this class with a torch.distributed group set up; importing it loads PyTorch into the driver and
    # the controller of every trial, 300 MB and 2 s each, one after the other. The workers set the group up themselves.
    return DataParallelTrainer(
        train_worker,
        train_loop_config={**common, **own, "folder": f"{shared['folder']}/{name}"},
        scaling_config=ScalingConfig(
            num_workers=shape.workers, use_gpu=shape.gpus > 0, resources_per_worker=shape.resources
        ),
        run_config=RunConfig(
            name=name,  # the same name finds its newest checkpoint again
            storage_path=shared["folder"],
            callbacks=[TuneReportCallback()],
            failure_config=FailureConfig(max_failures=shared["max_failures"]),
        ),
    )


def root_cause(error: BaseException) -> str:
    """The innermost message of an error that came through Ray's layers, as one sentence."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return root_cause(next(iter(failures.values())))
    for inner in (getattr(error, "cause", None), error.__cause__):
        if isinstance(inner, BaseException):
            return root_cause(inner)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
