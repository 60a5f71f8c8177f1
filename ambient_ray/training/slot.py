"""Where the workers of a trial get it from, and whom they tell how it goes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Slot(Protocol):
    """Where a worker gets its trials from, and whom it tells how they go; every rank has its own end of it."""

    def next(self, index: int) -> Sequence[Mapping[str, Any]]:
        """Wait for the index-th trials of this group of workers, the same for every rank; none: there are no more.

        One as a rule, several where they are to be packed.
        """
        ...

    def tell(self, number: int, message: Mapping[str, Any]) -> bool:
        """Pass on what the trial `number` reports, rank 0 only but for its place; False: nobody wants this trial."""
        ...

    def arrive(self, node: str, size: int) -> None:
        """Say on which node this one of `size` ranks is, for when the node goes away, and who it is, should it hang."""
        ...

    def leave(self) -> None:
        """Say that these workers have to leave: there is no next trial for them, and the one they have is paused."""
        ...

    def leaving(self) -> bool:
        """Wait until these workers have to leave, whoever says so; False when nobody has said so for some seconds."""
        ...

    def alive(self) -> None:
        """Say that this worker advances; waits for nobody."""
        ...
