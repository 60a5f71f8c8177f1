"""The loop under Ray Train: the worker's function, and a reporter that reports to Train and asks the judge."""

from __future__ import annotations

import math
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trial import RungResult, World

# How long ranks wait for each other, e.g. while the first scores a rung.
_PATIENCE = timedelta(minutes=60)


class UnjudgeableError(Exception):
    """A score that the search needs is missing or not finite: the trial has failed, with this reason."""


class RayReporter:
    """Reports rungs to Ray Train with their checkpoints, then asks the judge; every rank follows rank 0's answer.

    Args:
        number: the trial's number in its study.
        arm: ddpm, rival, ambient or replica; the judge protects baselines and replicas by it.
        rank: this worker's.
        judge: the judge's actor handle.
        needed: names of the scores without which a rung cannot be judged.
        folder: where Train keeps this trial's checkpoints, each under its own folder's name.
        configuration: the number of the trial whose configuration this is: another's for a replica.
    """

    def __init__(
        self, number: int, arm: str, rank: int, judge: Any, needed: Sequence[str], folder: str, configuration: int
    ) -> None:
        self._number, self._arm, self._rank, self._configuration = number, arm, rank, configuration
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

        problem = self._report(result, resumed) if self._rank == 0 else self._join()
        answer: tuple[bool, str] | None = None
        if self._rank == 0:
            answer = (False, problem) if problem else self._ask(result)
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

    def _join(self) -> str:
        """Other ranks: report is a barrier for all."""
        from ray import train

        train.report({"rungs": []})
        return ""

    def _ask(self, result: RungResult) -> tuple[bool, str]:
        """Rank 0: the judge's answer, and why it gives none or ''."""
        import ray

        asked = (self._number, self._arm, result.rung, dict(result.scores), self._configuration)
        try:
            return bool(ray.get(self._judge.decide.remote(*asked))), ""
        except ValueError as error:  # Ray's error is of the judge's class, too, and holds the judge's own as its cause
            return False, str(getattr(error, "cause", error))

    def _record(self, result: RungResult) -> dict[str, Any]:
        from .trial import checkpoint_name

        name = checkpoint_name(result.rung, result.images_seen)
        return {**result.to_dict(), "checkpoint": f"{self._folder}/{name}"}


def train_worker(config: Mapping[str, Any]) -> None:
    """What every Ray Train worker of a trial runs.

    Args:
        config: number, arm, replica_of, training (the study's `TrainSettings` as a dict), settings (the trial's own
            over them), folder, data (an object reference to `TrainingData`), judge, needed, cpus.
    """
    import ray
    from ray import train

    context = train.get_context()
    if context.get_world_rank() == 0:  # before the seconds of imports
        config["judge"].beat.remote(config["number"], 0, math.nan)
    import torch

    from .checkpoint import CheckpointMismatchError, read_checkpoint
    from .loop import run_trial
    from .settings import TrainSettings
    from .trial import World

    torch.set_num_threads(max(1, int(config["cpus"])))
    # Ray shows each worker its own GPUs only, so the first one is ours.
    device = torch.device("cuda", 0) if ray.get_gpu_ids() and torch.cuda.is_available() else torch.device("cpu")
    world = World(context.get_world_rank(), context.get_world_size(), device)
    settings = TrainSettings.from_dict(config["training"]).overlaid(config["settings"])
    number, original = config["number"], config["replica_of"]
    reporter = RayReporter(
        number, config["arm"], world.rank, config["judge"], config["needed"], config["folder"],
        configuration=number if original is None else original,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ambient-ray-") as scratch, process_group(world):
        resume = None
        if (kept := train.get_checkpoint()) is not None:
            resume = Path(kept.to_directory(os.path.join(scratch, f"resume-{world.rank}")))
            reporter.earlier = read_checkpoint(resume).history[:-1]
        try:
            outcome = run_trial(
                settings,
                ray.get(config["data"]),
                world,
                reporter,
                workdir=Path(scratch) / "rungs",
                resume=resume,
            )
            end = {"state": outcome.state, "reason": outcome.reason if outcome.state != "finished" else ""}
        except (UnjudgeableError, CheckpointMismatchError) as error:
            end = {"state": "failed", "reason": str(error)}
    train.report(end)


@contextmanager
def process_group(world: World) -> Iterator[None]:
    """torch.distributed's default group over the workers, by nccl on GPUs and gloo elsewhere; none for one worker."""
    if world.size == 1:
        yield
        return
    import ray
    import torch.distributed as dist
    from ray.train.collective import broadcast_from_rank_zero

    meeting = None
    if world.rank == 0:
        with socket.socket() as free:
            free.bind(("", 0))
            meeting = f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"
    dist.init_process_group(
        "nccl" if world.device.type == "cuda" else "gloo",
        init_method=broadcast_from_rank_zero(meeting),
        rank=world.rank,
        world_size=world.size,
        timeout=_PATIENCE,
    )
    try:
        yield
        wait_for_all()
    finally:
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Return once every rank is here: in gloo, a rank that leaves early aborts one that still waits.

    With gloo without an asynchronous collective: DDP keeps its process group, so its threads, alive past
    destroy_process_group (torch 2.15), and one that is still dropping a collective's tensor while Python ends aborts
    the process ("terminate called without an active exception").
    """
    import torch.distributed as dist

    if dist.get_backend() == "gloo":
        dist.monitored_barrier(timeout=_PATIENCE)
    else:
        dist.barrier()
