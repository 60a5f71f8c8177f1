"""Which checkpoint a trial goes on from: its newest whole one, the same for every rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ambient_ray.storage import Location, Patience

    from .checkpoint import Checkpoint
    from .trial import Reporter, RungResult, World


def same_checkpoint(
    folder: Location, known: Sequence[Location], world: World, reporter: Reporter, patience: Patience
) -> tuple[Location | None, tuple[RungResult, ...]]:
    """The newest checkpoint that the first rank finds whole, for every rank, and there its rungs before the last.

    A shared folder may not show all nodes the newest at once, and a rank that took up another would train apart.
    """
    from ambient_ray.storage import patiently

    from .pulse import PULSE

    found: Checkpoint | None = None
    if world.rank == 0:
        found = patiently(
            lambda: newest_checkpoint(folder, known, reporter.noted),
            folder,
            patience=patience,
            say=reporter.noted,
            alive=PULSE.beat,
        )
    place = None if found is None else found.place
    if world.size > 1:
        from ray.train.collective import broadcast_from_rank_zero

        place = broadcast_from_rank_zero(place)
    return place, () if found is None else found.history[:-1]  # the last one is reported again by the loop


def newest_checkpoint(
    folder: Location, known: Sequence[Location] = (), say: Callable[[str], None] = lambda text: None
) -> Checkpoint | None:
    """The furthest whole checkpoint among a trial's; one that is damaged is passed over for the one before it.

    Args:
        folder: where the trial keeps its checkpoints.
        known: some that the study knows of; they lie elsewhere where that place was changed since.
        say: told of what was passed over, and what the trial goes on with instead.

    Raises:
        OSError: the store does not answer, so that nobody knows.
    """
    from ambient_ray.storage import DamagedCheckpointError, children

    from .checkpoint import read_checkpoint
    from .trial import progress_of

    places = {place.name: place for place in [*known, *children(folder)]}  # the folder's own before the study's
    far = [(progress, place) for name, place in places.items() if (progress := progress_of(name)) is not None]
    damaged = []
    found: Checkpoint | None = None
    for _, place in sorted(far, key=lambda pair: pair[0], reverse=True):
        try:
            found = read_checkpoint(place)
            break
        except DamagedCheckpointError as error:
            damaged.append(str(error).removesuffix("; use an older checkpoint"))
    for problem in damaged:
        instead = "starts anew" if found is None else f"goes on from the one before, {found.images_seen:,} images"
        say(f"{instead}: {problem}")
    return found
