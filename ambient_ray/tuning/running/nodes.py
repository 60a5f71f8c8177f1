"""The nodes of the cluster: what they have, and which of them are going away."""

from dataclasses import dataclass, field


def staying() -> list[dict[str, float]]:
    """The resources of each living node that is not being drained."""
    import ray

    going = draining()
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


def draining() -> set[str]:
    """The ids of nodes that are going away: reclaimed by the cloud, scaled down, or by `ray drain-node`."""
    import ray

    return set(ray._private.state.state.get_draining_nodes())


@dataclass
class Placements:
    """On which nodes the workers of each slot are, and which slots must be told when nodes go away.

    Attributes:
        host: the node of the slots' own process, without which their workers cannot go on.
    """

    host: str
    _nodes: dict[int, tuple[int, set[str]]] = field(default_factory=dict)  # slot -> launch, nodes
    _told: dict[int, tuple[int, bool]] = field(default_factory=dict)  # slot -> launch told, whether for the host's node

    def arrived(self, slot: int, launch: int, node: str) -> None:
        """A worker of a launch runs on a node; those of earlier launches are forgotten."""
        known, nodes = self._nodes.get(slot, (launch, set()))
        if launch > known:
            known, nodes = launch, set()
        if launch == known:
            self._nodes[slot] = (launch, nodes | {node})

    def to_tell(self, going: set[str]) -> list[tuple[int, int]]:
        """Slots and launches that must leave, each once; for the host's own node every slot once in all.

        The latter, as workers that come after them would have to leave again and again: they train until it is gone.
        """
        found = []
        for slot, (launch, nodes) in self._nodes.items():
            told, for_host = self._told.get(slot, (-1, False))
            with_host = self.host in going and not for_host
            if (nodes & going and told != launch) or with_host:
                self._told[slot] = (launch, for_host or with_host)
                found.append((slot, launch))
        return found


def fair_size(places: int, slots: int, fewest: int, most: int) -> int:
    """How many workers a trial has where `places` of them fit and so many slots share those: from fewest to most."""
    return max(fewest, min(most, places // max(1, slots)))


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
