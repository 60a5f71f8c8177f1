"""Waiting for a joined cluster's nodes, and how an autoscaler hears what is wanted."""

import math
import time
from collections.abc import Callable
from typing import Any

from .nodes import staying
from .shape import TrialShape

# Seconds between two looks while a search waits for its first nodes.
_INTERVAL = 2.0
# Trials that an autoscaler is told of at once at the most; there are more once these have their nodes.
_MOST_ASKED = 64


class Demand:
    """Tells an autoscaler of trials that there is no room for yet, by placement groups that nobody uses.

    They cost no process and end with this one, however it ends, where an explicit request to the autoscaler would stand
    until somebody takes it back, and hold its nodes. One that gets its room is removed at once: a slot is to have it.

    Args:
        shape: of a trial.
    """

    def __init__(self, shape: TrialShape) -> None:
        self._shape, self._pending = shape, list[Any]()

    def want(self, trials: int) -> None:
        """Have so many trials waiting for room from here on."""
        from ray.util.placement_group import placement_group, remove_placement_group

        trials = min(trials, _MOST_ASKED)
        satisfied = [group for group in self._pending if group.wait(timeout_seconds=0)]
        for group in satisfied:
            remove_placement_group(group)
        self._pending = [group for group in self._pending if group not in satisfied]
        for group in self._pending[trials:]:
            remove_placement_group(group)
        self._pending = self._pending[:trials]
        for _ in range(trials - len(self._pending)):
            bundles = [dict(self._shape.resources) for _ in range(self._shape.workers)]
            self._pending.append(placement_group(bundles, strategy="PACK"))


def wait_for_nodes(shape: TrialShape, minutes: float, say: Callable[[str], None]) -> None:
    """Return once the cluster has room for a trial. Ray must have been started.

    Args:
        shape: of a trial.
        minutes: how long at the most; math.inf: until they come.
        say: told what is waited for, at first and when it changes.

    Raises:
        TrialShapeError: there was none in that time.
    """
    deadline, said = time.monotonic() + 60 * minutes, ""
    limit = f"; for {minutes:g} minutes at most (trial.wait_for_nodes_minutes)" if minutes < math.inf else ""
    demand = Demand(shape)
    try:
        while not shape.at_once(nodes := staying()):
            if time.monotonic() >= deadline:
                shape.concurrency(nodes)  # raises, and says what there is
            if (lack := shape.lack(nodes)) != said:
                said = lack
                say(f"waiting for nodes: {lack}{limit}")
            demand.want(1)
            time.sleep(_INTERVAL)
        if said:
            say("the cluster has room for a trial now")
    finally:
        demand.want(0)
