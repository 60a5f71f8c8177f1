"""What went wrong with a trial: one of a few causes, in one sentence, and whether it is one too many."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Cause = Literal[
    "worker died",  # its process was killed or crashed
    "out of memory",  # the node's, a GPU's or Python's
    "hang",  # no sign of life for `trial.hang_minutes`
    "controller died",  # Ray Train's controller of its workers
    "host died",  # the process that holds its slot
    "driver died",  # its driver in Ray Tune
    "node died",  # the machine that it ran on
    "storage",  # checkpoints could not be written or read
    "diverged",  # loss, gradient or samples became non-finite
    "unjudgeable",  # a score that the search needs is missing
    "error",  # anything else that its code raised
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

# Nothing that a trial does to itself: they don't count as its failures. But no trial is taken up for ever.
BLAMELESS: frozenset[str] = frozenset({"controller died", "host died", "driver died", "node died"})
MOST_BLAMELESS = 10


@dataclass(frozen=True)
class Fault:
    """A failure that a trial survived.

    Attributes:
        cause: one of `CAUSES`.
        reason: one clause, "its worker died: ...".
        images_seen: of the checkpoint that the trial was taken up from; 0 for its beginning.
        key: tells this failure from another; the same one may be reported again.
        at: when the search heard of it, in seconds since 1970.
    """

    cause: str
    reason: str
    images_seen: int = 0
    key: str = ""
    at: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """What happened and where the trial goes on."""
        where = f"image {self.images_seen:,}" if self.images_seen else "its beginning"
        return f"{self.reason}; taken up from {where}"


def too_many(causes: Iterable[str], max_failures: int) -> bool:
    """Whether a trial that has failed for these causes is given up.

    Args:
        causes: of all its failures so far.
        max_failures: those of its own that it may survive; of those it cannot help, `MOST_BLAMELESS`.
    """
    counts = Counter(cause in BLAMELESS for cause in causes)
    return counts[False] > max_failures or counts[True] > MOST_BLAMELESS


def counted(failed: Sequence[str], survived: Iterable[Fault]) -> Mapping[str, tuple[int, int]]:
    """Cause -> (trials that failed for it, times that a trial survived it), in the order of `CAUSES`.

    Args:
        failed: the causes of failed trials; those of older studies are not known and are left out.
        survived: all failures that trials survived.
    """
    ends, lived = Counter(failed), Counter(fault.cause for fault in survived)
    return {cause: (ends[cause], lived[cause]) for cause in CAUSES if ends[cause] or lived[cause]}
