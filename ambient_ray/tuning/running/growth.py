"""A cluster that grows: ask its autoscaler for the nodes of the trials that shall run at once, and wait for them.

A search counts its slots on the nodes that are there when it starts, and a new cluster is a head without CPUs. What is
asked for stays asked for while the search runs, so that a spot node that is taken away is replaced; Ray forgets it with
the job. Nodes that come later are used from the next start on, or when the candidates are confirmed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ambient_ray.errors import UserError

from .shape import TrialShape, TrialShapeError

PATIENCE = 1800.0  # seconds: until the first trial fits, an image of gigabytes and a queue for spot machines included
SETTLE = 300.0  # seconds since the last node came, after which the search begins with what is there


class NodesMissingError(UserError):
    """An autoscaler that brought no node in time that could hold a trial."""


class Growing(Protocol):
    """What is asked of a cluster. `RayCluster` is the real one."""

    def grows(self) -> bool:
        """Whether an autoscaler adds nodes."""
        ...

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """The resources of each living node."""
        ...

    def ask_for(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Have room for these, whatever runs."""
        ...

    def sleep(self, seconds: float) -> float:
        """Wait, and say on a clock that only goes forward how late it is."""
        ...


class RayCluster:
    """The cluster that this process has joined."""

    def grows(self) -> bool:
        """Autoscaler v2: KubeRay's, and the cluster launcher's."""
        from ray.autoscaler.v2.utils import is_autoscaler_v2

        return bool(is_autoscaler_v2(fetch_from_server=True))

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """The resources of each living node."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def ask_for(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Ray's own request; whole numbers of CPUs and GPUs alone can be asked for."""
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=[dict(bundle) for bundle in bundles])

    def sleep(self, seconds: float) -> float:
        """Wait; seconds of the monotonic clock."""
        time.sleep(seconds)
        return time.monotonic()


def await_nodes(
    shape: TrialShape, wanted: int | None, say: Callable[[str], None], cluster: Growing | None = None
) -> int:
    """Ask for the nodes of `wanted` trials at once, and return when they are there or no more come.

    Args:
        shape: of a trial.
        wanted: `trial.max_concurrent`; None: as many as the cluster holds, and one if it holds none.
        say: is told what is waited for.
        cluster: the one that this process has joined, unless another is given.

    Returns:
        How many trials fit now; 0 where the cluster does not grow, so that nothing was asked.

    Raises:
        NodesMissingError: not one trial fits after `PATIENCE`.
    """
    cluster = RayCluster() if cluster is None else cluster
    fits = _fits(shape, cluster.nodes())
    if fits >= (wanted or 1) or not cluster.grows():
        return fits
    wanted = wanted or 1
    cluster.ask_for([shape.resources] * (shape.workers * wanted))
    say(f"asking the cluster for the nodes of {wanted} trials at once; {fits} fit now")
    began = last = now = cluster.sleep(0.0)
    while fits < wanted:
        now = cluster.sleep(5.0)
        if (found := _fits(shape, cluster.nodes())) != fits:
            fits, last = found, now
            say(f"{fits} of {wanted} trials at once fit now")
        if fits and now - last >= SETTLE:
            say(f"no more nodes came in {SETTLE / 60:g} minutes: beginning with {fits} trials at once")
            break
        if not fits and now - began >= PATIENCE:
            raise NodesMissingError(
                f"the cluster's autoscaler brought no node in {PATIENCE / 60:g} minutes that holds a worker with"
                f" {shape.cpus:g} CPUs and {shape.gpus:g} GPUs; see `ray status` on the head, and whether any group of"
                " nodes is large enough"
            )
    return fits


def _fits(shape: TrialShape, nodes: Sequence[Mapping[str, float]]) -> int:
    try:
        return shape.concurrency(nodes)
    except TrialShapeError:
        return 0
