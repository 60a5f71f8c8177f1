"""What a trial asks of the cluster, and how many of it fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ambient_ray.errors import UserError


class TrialShapeError(UserError):
    """A trial that no node of the cluster can hold, or that makes no sense."""


@dataclass(frozen=True)
class TrialShape:
    """What a trial asks of the cluster.

    Attributes:
        workers: Ray Train workers, at least.
        cpus: cores of each worker.
        gpus: GPUs of each worker; fractions share one.
        most: workers at the most, where the cluster has room; None: as many as `workers`.

    Raises:
        TrialShapeError: on shapes that no cluster could run.
    """

    workers: int = 1
    cpus: float = 1
    gpus: float = 0
    most: int | None = None

    def __post_init__(self) -> None:
        if self.gpus > 1:
            raise TrialShapeError(
                f"trial.gpus_per_worker={self.gpus:g}: a worker trains on one GPU or on a fraction of it;"
                " trial.workers gives a trial more of them"
            )
        if 0 < self.gpus < 1 and self.most_workers > 1:
            raise TrialShapeError(
                f"trial.gpus_per_worker={self.gpus:g} with {self.most_workers} workers: the workers of one trial cannot"
                " share a GPU, as NCCL refuses that; give each a whole one, or the trial a single worker"
            )
        if self.most_workers < self.workers:
            raise TrialShapeError(f"trial.workers=[{self.workers},{self.most}]: the first is the fewest of them")

    @property
    def most_workers(self) -> int:
        """Workers at the most."""
        return self.workers if self.most is None else self.most

    @property
    def elastic(self) -> bool:
        """Whether the number of workers follows what the cluster has."""
        return self.most_workers > self.workers

    @property
    def resources(self) -> dict[str, float]:
        """One worker's resources, as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def concurrency(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many such trials run at once, at their smallest.

        Args:
            nodes: each node's resources, {"CPU": cores, "GPU": GPUs}.

        Raises:
            TrialShapeError: not even one fits.
        """
        places = self.places(nodes)
        if places < self.workers:
            have = (
                "; ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
                or "no nodes"
            )
            if not places:
                raise TrialShapeError(
                    f"no node can hold a worker with {self.cpus:g} CPUs and {self.gpus:g} GPUs (there are: {have});"
                    " lower trial.cpus_per_worker or trial.gpus_per_worker"
                )
            raise TrialShapeError(
                f"a trial of {self.workers} workers with {self.cpus:g} CPUs and {self.gpus:g} GPUs each does not fit:"
                f" the nodes ({have}) hold {places} of them; lower trial.workers"
            )
        return places // self.workers

    def fair_size(self, nodes: Sequence[Mapping[str, float]], slots: int) -> int:
        """How many workers a trial has where so many slots share these nodes: from the fewest to the most."""
        return max(self.workers, min(self.most_workers, self.places(nodes) // max(1, slots)))

    def places(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """How many workers the nodes hold; arguments as for `concurrency`."""
        return sum(self._workers_on(node) for node in nodes)

    def at_once(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """`concurrency`, and 0 where not even one fits."""
        return self.places(nodes) // self.workers

    def idle_gpus(self, nodes: Sequence[Mapping[str, float]]) -> str:
        """One sentence where the nodes have GPUs and trials ask for none, else ""."""
        gpus = sum(node.get("GPU", 0.0) for node in nodes)
        if self.gpus or not gpus:
            return ""
        return (
            f"note: trials train on processors, though there are {gpus:g} GPUs: trial.gpus_per_worker=1 gives each"
            " worker one, 0.25 a quarter of one"
        )

    def lack(self, nodes: Sequence[Mapping[str, float]]) -> str:
        """What a trial needs beside what there is, as one clause."""
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        places = "1 place" if self.workers == 1 else f"{self.workers} places"
        return f"a trial needs {places} of {self.cpus:g} CPUs{gpus}, and the cluster has {self.places(nodes) or 'none'}"

    def _workers_on(self, node: Mapping[str, float]) -> int:
        fits = node.get("CPU", 0.0) / self.cpus
        if self.gpus:  # a fraction is of one GPU, so the rests of several do not add up to a place
            on_one = int(1 / self.gpus + 1e-9)
            fits = min(fits, int(node.get("GPU", 0.0) + 1e-9) * on_one)
        return int(fits + 1e-9)
