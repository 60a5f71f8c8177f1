"""The loop under Ray Train: the worker's function, and a reporter that reports to Train and asks the judge."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .settings import TrainSettings
from .trial import RungResult


class UnjudgeableError(Exception):
    """A score that the search needs is missing or not finite: the trial has failed, with this reason."""


class RayReporter:
    """Reports rungs to Ray Train with their checkpoints, then asks the judge; every rank follows rank 0's answer.

    Args:
        number: the trial's number in its study.
        arm: ddpm or ambient; the judge protects baselines by it.
        rank: this worker's.
        judge: the judge's actor handle.
        needed: names of the scores without which a rung cannot be judged.
        folder: where Train keeps this trial's checkpoints, each under its own folder's name.
    """

    def __init__(self, number: int, arm: str, rank: int, judge: Any, needed: Sequence[str], folder: str) -> None:
        self._number, self._arm, self._rank = number, arm, rank
        self._judge, self._needed, self._folder = judge, tuple(needed), folder
        self.earlier: tuple[RungResult, ...] = ()

    def progress(self, images_seen: int, loss: float) -> None:
        """A heartbeat to the judge that nobody waits for."""
        self._judge.beat.remote(self._number, images_seen, loss)

    def rung(self, result: RungResult, *, resumed: bool = False) -> bool:
        """Report, ask, and follow: True to go on.

        Raises:
            UnjudgeableError: on every rank, when a needed score is missing or not finite.
        """
        from ray.train.collective import broadcast_from_rank_zero

        problem = self._report(result, resumed) if self._rank == 0 else self._join(resumed)
        answer: tuple[bool, str] | None = None
        if self._rank == 0:
            answer = (False, problem) if problem else (self._ask(result), "")
        goes_on, problem = broadcast_from_rank_zero(answer)
        if problem:
            raise UnjudgeableError(problem)
        return bool(goes_on)

    def _report(self, result: RungResult, resumed: bool) -> str:
        """Rank 0: hand the rung over; gives the reason if it cannot be judged, in which case it is no candidate."""
        from ray import train

        bad = [name for name in self._needed if not math.isfinite(result.scores.get(name, math.nan))]
        if bad:
            train.report({"rungs": []})
            return f"{bad[0]} is missing or not finite at rung {result.rung}, image {result.images_seen}"
        if resumed:
            # Perhaps the search died before it heard of these; telling it twice is harmless.
            train.report({"rungs": [self._record(rung) for rung in (*self.earlier, result)]})
            return ""
        assert result.checkpoint is not None  # rank 0's results carry their checkpoint
        train.report(
            {"rungs": [self._record(result)]},
            checkpoint=train.Checkpoint.from_directory(str(result.checkpoint)),
            checkpoint_dir_name=result.checkpoint.name,
            delete_local_checkpoint_after_upload=True,
        )
        return ""

    def _join(self, resumed: bool) -> str:
        """Other ranks: report is a barrier for all."""
        from ray import train

        train.report({"rungs": []})
        return ""

    def _ask(self, result: RungResult) -> bool:
        import ray

        return bool(ray.get(self._judge.decide.remote(self._number, self._arm, result.rung, dict(result.scores))))

    def _record(self, result: RungResult) -> dict[str, Any]:
        name = f"rung-{result.rung:02d}-{result.images_seen:09d}"
        return {**result.to_dict(), "checkpoint": f"{self._folder}/{name}"}


def train_worker(config: Mapping[str, Any]) -> None:
    """What every Ray Train worker of a trial runs.

    Args:
        config: number, arm, settings (the trial's whole `TrainSettings` as a dict), folder, and of the shared part
            data (an object reference), judge, needed, cpus.
    """
    import ray
    import torch
    from ray import train

    from .checkpoint import CheckpointMismatchError, read_checkpoint
    from .loop import run_trial
    from .trial import World

    torch.set_num_threads(max(1, int(config["cpus"])))
    context = train.get_context()
    settings = TrainSettings.from_dict(config["settings"])
    world = World(context.get_world_rank(), context.get_world_size(), train.torch.get_device())
    reporter = RayReporter(
        config["number"], config["arm"], world.rank, config["judge"], config["needed"], config["folder"]
    )
    with tempfile.TemporaryDirectory(prefix="ambient-ray-") as scratch:
        resume = None
        if (kept := train.get_checkpoint()) is not None:
            resume = Path(kept.to_directory(os.path.join(scratch, f"resume-{world.rank}")))
            reporter.earlier = read_checkpoint(resume).history[:-1]
        try:
            outcome = run_trial(
                settings, ray.get(config["data"]), world, reporter, workdir=Path(scratch) / "rungs", resume=resume
            )
            end = {"state": outcome.state, "reason": outcome.reason if outcome.state != "finished" else ""}
        except (UnjudgeableError, CheckpointMismatchError) as error:
            end = {"state": "failed", "reason": str(error)}
    train.report(end)

