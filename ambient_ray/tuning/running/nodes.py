"""The nodes of the cluster: what they have, and which of them are going away."""

from dataclasses import dataclass, field
from typing import NamedTuple


def staying() -> list[dict[str, float]]:
    """The resources of each living node that is not being drained."""
    import ray

    going = draining()
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


def draining() -> set[str]:
    """The ids of nodes that are going away: reclaimed by the cloud, scaled down, or by `ray drain-node`."""
    import ray

    return set(ray._private.state.state.get_draining_nodes())


class Group(NamedTuple):
    """The workers of a slot's launch: on which nodes those are that have arrived, and how many there are in all."""

    launch: int
    nodes: frozenset[str]
    size: int


@dataclass
class Placements:
    """On which nodes the workers of each slot are, and which slots must be told when nodes go away.

    Attributes:
        host: the node of the slots' own process, without which their workers cannot go on.
    """

    host: str
    _groups: dict[int, Group] = field(default_factory=dict)  # by slot
    _told: dict[int, tuple[int, bool]] = field(default_factory=dict)  # slot -> launch told, whether for the host's node

    def arrived(self, slot: int, launch: int, node: str, size: int) -> None:
        """One of `size` workers of a launch runs on a node; earlier launches are forgotten."""
        known = self._groups.get(slot, Group(launch, frozenset(), size))
        if launch >= known.launch:
            others = known.nodes if launch == known.launch else frozenset()
            self._groups[slot] = Group(launch, others | {node}, size)

    def size(self, slot: int) -> int | None:
        """How many workers a slot's newest launch has; None before any has arrived."""
        return self._groups[slot].size if slot in self._groups else None

    def to_tell(self, going: set[str]) -> list[tuple[int, int]]:
        """Slots and launches that must leave, each once; for the host's own node every slot once in all.

        The latter, as workers that come after them would have to leave again and again: they train until it is gone.
        """
        found = []
        for slot, group in list(self._groups.items()):
            told, for_host = self._told.get(slot, (-1, False))
            with_host = self.host in going and not for_host
            if (group.nodes & going and told != group.launch) or with_host:
                self._told[slot] = (group.launch, for_host or with_host)
                found.append((slot, group.launch))
        return found


def was_preempted(error: BaseException) -> bool:
    """Whether Ray says that a training run ended because a node was taken away after a notice."""
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import PreemptionError

    if isinstance(error, PreemptionError) or (isinstance(error, RayActorError) and error.preempted):
        return True
    inner = [
        *(getattr(error, "worker_failures", None) or {}).values(),
        getattr(error, "health_check_failure", None),
        error.__cause__,
    ]
    return any(was_preempted(cause) for cause in inner if isinstance(cause, BaseException))
