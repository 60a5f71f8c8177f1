"""Whom a trial under Ray Train reports to: its slot is told of each rung, then the judge is asked."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .notice import TERMINATION, Notice
from .slot import Slot

if TYPE_CHECKING:
    from .trial import RungResult, World

_log = logging.getLogger(__name__)


class UnjudgeableError(Exception):
    """A rung that the search cannot use: the trial has failed, with this reason.

    Attributes:
        cause: unjudgeable (a score that is needed is missing or not finite), or storage (its checkpoint is not kept).
    """

    def __init__(self, reason: str, cause: str = "unjudgeable") -> None:
        super().__init__(reason)
        self.cause = cause


class RayReporter:
    """Tells a slot of each rung, then asks the judge; every rank follows rank 0's answer.

    Args:
        job: what is trained: number, arm (ddpm, rival, ambient or replica; the judge protects some by it), replica_of,
            judge (its actor handle), needed (names of the scores without which a rung cannot be judged), folder (where
            the trial's checkpoints are, a path or URL).
        world: this worker's place.
        slot: who is told.
        notice: given when this worker is to leave.
    """

    def __init__(self, job: Mapping[str, Any], world: World, slot: Slot, notice: Notice = TERMINATION) -> None:
        self._number, self._arm, self._judge = job["number"], job["arm"], job["judge"]
        self._configuration = self._number if job["replica_of"] is None else job["replica_of"]
        self._needed, self._folder = tuple(job["needed"]), job["folder"]
        self._world, self._slot, self._notice = world, slot, notice
        self._told: list[dict[str, Any]] = []  # with the next rung: the judge's last answer
        self.earlier: tuple[RungResult, ...] = ()

    def progress(self, images_seen: int, loss: float) -> None:
        """A heartbeat to the judge that nobody waits for."""
        self._judge.beat.remote(self._number, images_seen, loss)

    def rung(self, result: RungResult, *, resumed: bool = False) -> bool:
        """Report, ask, and follow: True to go on.

        Raises:
            UnjudgeableError: on every rank, when a needed score is missing or not finite, or its checkpoint could
                not be kept.
        """
        answer: tuple[bool, str, str] | None = None
        if self._world.rank == 0:
            wanted, problem = self._report(result, resumed)
            goes_on, problem = self._ask(result, self.earlier if resumed else ()) if wanted else (False, problem)
            answer = goes_on, problem, "storage" if result.problem else "unjudgeable"
        if self._world.size > 1:
            from ray.train.collective import broadcast_from_rank_zero

            answer = broadcast_from_rank_zero(answer)
        assert answer is not None  # rank 0's, on every rank
        goes_on, problem, cause = answer
        if problem:
            raise UnjudgeableError(problem, cause)
        return bool(goes_on)

    def leaving(self) -> bool:
        """Whether this worker was told to leave."""
        return self._notice.given()

    def noted(self, text: str) -> None:
        """Pass on something worth a line to whoever watches the search."""
        _log.warning("trial %s %s", self._number, text)
        self.tell({"note": text})

    def tell(self, message: Mapping[str, Any]) -> bool:
        """Tell the slot something of this trial; False when nobody wants the trial any more."""
        return self._slot.tell(self._number, message)

    def _report(self, result: RungResult, resumed: bool) -> tuple[bool, str]:
        """Rank 0: hand the rung over; whether it is wanted, and why it cannot be judged, being then no candidate."""
        if result.problem:
            return False, result.problem
        bad = [name for name in self._needed if not math.isfinite(result.scores.get(name, math.nan))]
        if bad:
            return False, f"{bad[0]} is missing or not finite at rung {result.rung}, image {result.images_seen}"
        # On a resume, perhaps the search died before it heard of the earlier ones; telling it twice is harmless.
        rungs = (*self.earlier, result) if resumed else (result,)
        told, self._told = [*self._told, *([] if resumed else [kept(result)])], []
        return self.tell({"rungs": [self._record(rung) for rung in rungs], "told": told}), ""

    def _ask(self, result: RungResult, earlier: Sequence[RungResult] = ()) -> tuple[bool, str]:
        """Rank 0: the judge's answer, and why it gives none or ''. The judge hears of the earlier rungs before.

        It was made anew with the search, from a study that may not have heard of them.
        """
        import ray

        for rung in earlier:
            self._judge.record.remote(self._number, rung.rung, dict(rung.scores), self._configuration)
        asked = (self._number, self._arm, result.rung, dict(result.scores), self._configuration)
        began = time.monotonic()
        try:
            goes_on = bool(ray.get(self._judge.decide.remote(*asked)))
            self._told = [{"judged": {"rung": result.rung, "goes_on": goes_on, "seconds": time.monotonic() - began}}]
            return goes_on, ""
        except ValueError as error:  # Ray's error is of the judge's class, too, and holds the judge's own as its cause
            return False, str(getattr(error, "cause", error))

    def _record(self, result: RungResult) -> dict[str, Any]:
        from ambient_ray.storage import locate

        from .trial import checkpoint_name

        # A rung of before the checkpoint that the trial was taken up from is beside that.
        place = result.checkpoint or locate(self._folder) / checkpoint_name(result.rung, result.images_seen)
        return {**result.to_dict(), "checkpoint": str(place), "digest": result.digest}


class InPack:
    """A packed trial's reporter: its end is told when it comes, while the others go on, and an error is its own.

    Args:
        reporter: the trial's, as it would be alone.
    """

    def __init__(self, reporter: RayReporter) -> None:
        self._reporter = reporter

    def progress(self, images_seen: int, loss: float) -> None:
        """See `RayReporter.progress`."""
        self._reporter.progress(images_seen, loss)

    def leaving(self) -> bool:
        """See `RayReporter.leaving`."""
        return self._reporter.leaving()

    def noted(self, text: str) -> None:
        """See `RayReporter.noted`."""
        self._reporter.noted(text)

    def rung(self, result: RungResult, *, resumed: bool = False) -> bool:
        """See `RayReporter.rung`; False where that raises."""
        try:
            goes_on, end = self._reporter.rung(result, resumed=resumed), {"state": "stopped", "reason": ""}
        except UnjudgeableError as error:
            goes_on, end = False, {"state": "failed", "reason": str(error), "cause": error.cause}
        if not goes_on:
            self._reporter.tell(end)
        return goes_on


def kept(result: RungResult) -> dict[str, Any]:
    """How long a rung's checkpoint took to be kept, waiting included, and its bytes; null where that is elsewhere."""
    seconds, place = time.monotonic() - result.scored_at, result.checkpoint
    files = list(place.iterdir()) if isinstance(place, Path) and place.is_dir() else None
    size = None if files is None else sum(file.stat().st_size for file in files)
    return {"saved": {"seconds": seconds, "bytes": size}}
