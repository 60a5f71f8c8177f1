"""How many trials run at once follows the cluster's nodes as they come and go. Ray is behind what is given here."""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from .roster import Roster
from .shape import TrialShape

# Seconds between two looks at the cluster.
INTERVAL = 2.0

Nodes = Sequence[Mapping[str, float]]


class GrowingSlots(Protocol):
    """What is needed of `Slots`."""

    def more(self, seats: int) -> Sequence[Any]:
        """Start slots with at least so many seats; gives the new ones."""
        ...

    def served(self, slots: Sequence[Any]) -> Sequence[bool]:
        """Whether each slot has workers that are ready for a trial or have one."""
        ...

    def retire(self, slot: Any) -> None:
        """Send a slot's workers home and forget it."""
        ...


class Following:
    """Looks at the cluster every two seconds, starts slots where nodes have come, and says what it waits for.

    Where nodes have gone, a slot may hold a trial and find no room for its workers, while another has room and no
    trial, as workers stay for as long as the search: then the second makes way, before new trials are begun. Use as a
    context manager around a search.

    Args:
        shape: of a trial.
        pack: seats of a slot.
        bound: seats at the most.
        nodes: gives the resources of each living node.
        slots: started and retired.
        roster: the seats.
        say: where a line goes.
        ask: told each time how many trials the cluster has no room for yet, so that an autoscaler hears of them.
    """

    def __init__(
        self,
        shape: TrialShape,
        pack: int,
        bound: int,
        nodes: Callable[[], Nodes],
        slots: GrowingSlots,
        roster: Roster,
        say: Callable[[str], None],
        ask: Callable[[int], None] = lambda trials: None,
    ) -> None:
        self._shape, self._pack, self._bound = shape, pack, bound
        self._nodes, self._slots, self._roster, self._say, self._ask = nodes, slots, roster, say, ask
        self._last: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="following", daemon=True)

    def __enter__(self) -> "Following":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Look once."""
        nodes = self._nodes()
        room = self._shape.at_once(nodes) * self._pack
        if self._last is not None and min(room, self._bound) != min(self._last, self._bound):
            self._tell(nodes, room)
        self._last = room
        have = len(self._roster)
        if (wanted := min(room, self._bound)) > have:
            self._roster.add(self._slots.more(wanted - have))
        self._make_way(max(0, have - room))
        self._ask(max(0, -(-(self._bound - room) // self._pack)))

    def _tell(self, nodes: Nodes, room: int) -> None:
        if not room:
            self._say(f"no room for any trial: {self._shape.lack(nodes)}; waiting for nodes to come back")
        else:
            self._say(f"{len(nodes)} nodes are there now, with room for {min(room, self._bound)} trials at once")

    def _make_way(self, excess: int) -> None:
        """Of more slots than there is room for: one without a trial leaves for each that has one and no workers."""
        if not excess:
            self._roster.hold(False)
            return
        idle, taken = self._roster.slots()
        served = dict(zip([*idle, *taken], self._slots.served([*idle, *taken]), strict=True))
        homeless = sum(not served[slot] for slot in taken)
        self._roster.hold(homeless > 0)
        leaving: list[Hashable] = [slot for slot in idle if not served[slot]][: -(-excess // self._pack)]
        leaving += [slot for slot in idle if served[slot]][:homeless]
        for slot in leaving:
            if self._roster.remove_idle(slot):
                self._slots.retire(slot)

    def _keep_looking(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                self.look()
            except Exception as error:  # the cluster's own state service may be away; trials go on without us
                self._say(f"could not look at the cluster's nodes, trying again: {type(error).__name__}: {error}")
                if self._over.wait(10 * INTERVAL):
                    return
