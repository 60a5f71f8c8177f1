"""The notice that this process will be ended soon, and what gives it: SIGTERM, or whoever knows of its node."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .slot import Slot

_log = logging.getLogger(__name__)


class Notice:
    """A word that is given once and stays given. All methods may be called by any thread."""

    def __init__(self) -> None:
        """Not given yet."""
        self._event = threading.Event()

    def give(self) -> None:
        """Give it; again is harmless."""
        self._event.set()

    def given(self) -> bool:
        """Whether it was given; does not block."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until it is given, at most so long: whether it was."""
        return self._event.wait(seconds)


#: SIGTERM to this process, where `note_termination` was called.
TERMINATION = Notice()


def note_termination() -> None:
    """Take the first SIGTERM as a notice; the next one does what the first would have done.

    Kubernetes and Slurm send it some time, 30 s as a rule, before SIGKILL. Call it in the main thread.
    """
    before = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: FrameType | None) -> Any:
        signal.signal(signal.SIGTERM, before)
        TERMINATION.give()

    signal.signal(signal.SIGTERM, handler)


def watch(slot: Slot, rank: int, notice: Notice) -> None:
    """Pass the notice to leave on, for as long as this process lives: to the slot, and on rank 0 from it, too."""

    def pass_on() -> None:
        notice.wait()
        slot.leave()

    def listen() -> None:
        while not notice.given():
            if slot.leaving():
                notice.give()

    for work in (pass_on, listen) if rank == 0 else (pass_on,):
        threading.Thread(target=_until_gone, args=(work,), name=f"notice-{work.__name__}", daemon=True).start()


def _until_gone(work: Callable[[], None]) -> None:
    """Without the slot's host there is nobody to hear or to tell; what became of it, the trial's own calls say."""
    from ray.exceptions import RayError

    try:
        work()
    except RayError as error:
        _log.warning("no word of a node that goes away from here on: %s", error)
