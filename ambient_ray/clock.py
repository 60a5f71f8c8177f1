"""The date for records, which does not jump while a process lives."""

import time
from collections.abc import Callable


def _ticks() -> float:
    """Seconds that passed, those in which the machine slept among them where the system counts them."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class SteadyClock:
    """Seconds since 1970 as the wall clock had them when this was made, and then as they passed.

    A wall clock that is set while a search runs would give runs that end before they begin, and waits that are over
    at once or never. Here a clock that was wrong at the start stays as wrong, and order and durations are right.

    Args:
        wall: the date, in seconds since 1970.
        ticks: seconds that passed, from anywhere.
    """

    def __init__(self, wall: Callable[[], float] = time.time, ticks: Callable[[], float] = _ticks) -> None:
        self._ticks = ticks
        self._zero = wall() - ticks()

    def __call__(self) -> float:
        """Now."""
        return self._zero + self._ticks()


#: The date in this process, in seconds since 1970.
now = SteadyClock()
