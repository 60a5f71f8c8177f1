"""Asking an actor across a network that may be cut for a while."""

import time
from collections.abc import Callable
from typing import Any

# Seconds for which a call is made again: Ray gives up a node that is cut off after one or two minutes, and whoever asks
# from there ends with it.
_CUT_OFF = 300.0


def reached(ask: Callable[[], Any], seconds: float = _CUT_OFF, pause: float = 1.0) -> Any:
    """The answer of a call to an actor, asked again for so many seconds while the network there is cut.

    Only for calls that may be heard twice: of one whose answer was lost nobody knows whether it was.

    Args:
        ask: makes the call and gives its reference.
        seconds: from the first failure.
        pause: seconds between two tries.

    Raises:
        ActorUnavailableError: the actor was out of reach for all that time.
    """
    import ray
    from ray.exceptions import ActorUnavailableError

    deadline: float | None = None
    while True:
        try:
            return ray.get(ask())
        except ActorUnavailableError:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now >= deadline:
                raise
            time.sleep(pause)
