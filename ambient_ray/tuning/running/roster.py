"""Which of a search's seats are free, while slots come and go with the cluster's nodes. Without Ray."""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any


class Roster:
    """Seats for trials, free or taken; those of one slot come and go together.

    All methods may be called by any thread.

    Args:
        seats: free ones to begin with, in the order in which they are taken.
        slot: which slot a seat belongs to; by default each is a slot of its own.
    """

    def __init__(self, seats: Iterable[Any] = (), slot: Callable[[Any], Hashable] = lambda seat: seat) -> None:
        self._slot, self._free, self._taken = slot, list(seats), list[Any]()
        self._held = False
        self._lock = threading.Lock()

    def take(self) -> Any | None:
        """A free seat, taken from here on; None when there is none, or while they are held back."""
        with self._lock:
            if self._held or not self._free:
                return None
            self._taken.append(self._free.pop(0))
            return self._taken[-1]

    def give(self, seat: Any) -> None:
        """A seat is free again."""
        with self._lock:
            self._taken.remove(seat)
            self._free.append(seat)

    def add(self, seats: Sequence[Any]) -> None:
        """New seats, free."""
        with self._lock:
            self._free += seats

    def hold(self, held: bool) -> None:
        """Hold back free seats, or no more."""
        self._held = held

    def remove_idle(self, slot: Hashable) -> bool:
        """Take a slot off the roster; False when one of its seats has been taken meanwhile."""
        with self._lock:
            if slot in map(self._slot, self._taken):
                return False
            self._free = [seat for seat in self._free if self._slot(seat) != slot]
            return True

    def slots(self) -> tuple[list[Hashable], list[Hashable]]:
        """The slots without any trial, and those with one."""
        with self._lock:
            taken = dict.fromkeys(map(self._slot, self._taken))
            idle = dict.fromkeys(slot for slot in map(self._slot, self._free) if slot not in taken)
            return list(idle), list(taken)

    def __len__(self) -> int:
        """How many seats there are, free and taken."""
        with self._lock:
            return len(self._free) + len(self._taken)
