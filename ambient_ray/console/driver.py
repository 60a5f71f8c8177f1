"""Whether the process that drives a search still lives, asked from another process or another machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ambient_ray.tuning.lease import Holder

Life = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """Whether a driver lives, and what that rests on.

    Attributes:
        life: alive | dead | unknown (it is on another machine, and its word is neither fresh nor stale for sure).
        why: one clause.
        seconds: since its last word, by the clocks of the two machines where it is on another.
    """

    life: Life
    why: str
    seconds: float | None


def judge_driver(state: Mapping[str, Any] | None, now: float, moved: bool | None = None) -> Verdict:
    """Whether the driver that wrote this live state still lives.

    On its own machine the process itself is looked for. From elsewhere only its word can tell: it writes every `every`
    seconds and counts (`count`), so a count that moves while it is watched is proof of life whatever the clocks say,
    one that stands still for longer is proof of the contrary, and without having watched there is its age, by two
    machines' clocks.

    Args:
        state: what the driver wrote; None: nothing.
        now: seconds since 1970, here.
        moved: whether the count moved while it was watched for long enough; None: it was not watched.
    """
    if state is None:
        return Verdict("unknown", "it has left no word of itself", None)
    driver, age, every = Holder(**state["driver"]), now - float(state["at"]), float(state["every"])
    named = f"process {driver.pid} on {driver.host}"
    if state.get("ended"):
        return Verdict("dead", f"{named} has ended: {state['ended']}", age)
    if driver.here:
        if driver.dead:
            return Verdict("dead", f"{named} is gone, without having said that it ended", age)
        return Verdict("alive", f"{named} runs", age)
    if moved is not None:
        words = "has written while this was watched" if moved else f"has not written for {2 * every:.0f} s and more"
        return Verdict("alive" if moved else "dead", f"{named}, another machine, {words}", age)
    clocks = f"{named}, another machine, last wrote {age:.0f} s ago by the clocks of the two"
    if -every <= age <= 2 * every:
        return Verdict("alive", clocks, age)
    return Verdict("unknown", clocks, age)


def wait_for_move(count: int, read: Callable[[], Mapping[str, Any] | None], seconds: float, step: float = 0.5) -> bool:
    """Watch a driver's count for so long; whether it moved.

    Args:
        count: as it was.
        read: gives the live state anew, or None.
        seconds: at the most.
        step: seconds between two looks.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(step)
        state = read()
        if state is not None and (int(state["count"]) != count or state.get("ended")):
            return True
    return False
