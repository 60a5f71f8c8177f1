"""Placement groups that outlive whoever asked for them, and who frees them.

Ray frees the placement group of an actor when the actor's *job* ends: workers' resources stay taken when Ray Train's
controller dies, and for a search that goes on they are lost. So each controller notes its groups in Ray's own key-value
store as it asks for them, and the slot frees what is noted before it starts the next workers.
"""

from typing import Any

from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.controller import TrainController
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup

_STORE = b"ambient_ray"


class NotesGroups(ControllerCallback):  # type: ignore[misc]  # Ray has no types
    """Has a controller note each placement group for a slot before it waits for it.

    Args:
        slot: the slot's name, the same in all lives of its host.
    """

    def __init__(self, slot: str) -> None:
        self._slot = slot

    def after_controller_start(self, train_run_context: Any) -> None:
        """In the controller's process, which has this one run: its workers' groups are noted from here on."""
        slot = self._slot

        class NotedWorkers(WorkerGroup):  # type: ignore[misc]
            """Workers whose placement group is noted."""

            def _create_placement_group(self, *args: Any, **others: Any) -> Any:
                handle = super()._create_placement_group(*args, **others)
                _note(slot, [*noted(slot), handle.placement_group.id.hex()])
                return handle

        TrainController.worker_group_cls = NotedWorkers


def noted(slot: str) -> list[str]:
    """Ids of the groups that were asked for by controllers of a slot and not freed by `free_groups` yet."""
    from ray.experimental.internal_kv import _internal_kv_get

    kept = _internal_kv_get(slot.encode(), namespace=_STORE)
    return kept.decode().split() if kept else []


def free_groups(slot: str) -> int:
    """Free what controllers of a slot that have ended left behind; how many groups that were.

    One that its controller has freed itself is among those noted, and not counted: freeing it again does nothing.
    """
    import ray
    from ray.experimental.internal_kv import _internal_kv_del
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    freed = 0
    for name in noted(slot):
        group = PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name)))
        if placement_group_table(group).get("state") in ("CREATED", "PENDING", "PREPARED", "RESCHEDULING"):
            remove_placement_group(group)
            freed += 1
    _internal_kv_del(slot.encode(), namespace=_STORE)
    return freed


def _note(slot: str, groups: list[str]) -> None:
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(slot.encode(), " ".join(groups).encode(), overwrite=True, namespace=_STORE)
