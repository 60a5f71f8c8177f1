"""Ray Train's trainer without the processes that a slot has no use for."""

from typing import Any

from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


class SlotTrainer(DataParallelTrainer):  # type: ignore[misc]  # Ray has no types
    """Ray Train's trainer for workers that read no Ray Datasets and set up torch.distributed themselves.

    `TorchTrainer` is its base class with that set up; importing it loads PyTorch into every controller, 300 MB and 2 s
    each. Two of the base class's callbacks start a process each, 1.5 s of processor time: one hands out Datasets, and
    one frees the workers' resources when the controller dies, which it learns from the dashboard and so never where
    none runs. They are left out by name; should Ray rename them, they are back, and cost what they cost.
    """

    def __init__(self, *args: Any, dashboard: bool, **others: Any) -> None:
        """dashboard: whether the cluster runs one; the rest as for the base class."""
        self._unused = {"DatasetsCallback"} | (set() if dashboard else {"PlacementGroupCleanerCallback"})
        super().__init__(*args, **others)

    def _create_default_callbacks(self) -> list[Any]:
        unused = self._unused
        return [kept for kept in super()._create_default_callbacks() if type(kept).__name__ not in unused]
