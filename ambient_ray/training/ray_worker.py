"""The loop under Ray Train: the function of a slot's workers."""

from __future__ import annotations

import gc
import importlib
import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ambient_ray.logs import about, log_as_json

from .notice import TERMINATION, watch
from .ray_reporter import InPack, RayReporter, UnjudgeableError
from .slot import Slot

if TYPE_CHECKING:
    from .trial import World

_log = logging.getLogger(__name__)


def serve(config: Mapping[str, Any]) -> None:
    """What every Ray Train worker of a slot runs: one trial after another, until the slot has no more.

    The seconds of starting a process and of importing PyTorch and diffusers are paid once, before the first trial is
    there, and not by every trial.

    Args:
        config: slot (a `Slot`), cpus and gpus (of this worker), imports (names of modules that trials will need),
            signs (seconds between its signs of life).
    """
    import ray
    import torch
    from ray import train

    from .device import own_device
    from .group import process_group
    from .loop import run_trial  # noqa: F401  # and all that it imports, while nobody waits
    from .pulse import PULSE, reported
    from .trial import World

    torch.set_num_threads(max(1, int(config["cpus"])))
    device = own_device(bool(ray.get_gpu_ids()), float(config["gpus"]))
    context = train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), device)
    slot: Slot = config["slot"]
    log_as_json()
    here = {"rank": world.rank, **whereabouts()}
    for name in config["imports"]:
        importlib.import_module(name)
    watch(slot, world.rank, TERMINATION)
    slot.arrive(ray.get_runtime_context().get_node_id(), world.size)
    with process_group(world), reported(PULSE, slot.alive, float(config["signs"])):
        data: tuple[Any, Any] = (None, None)  # a reference, and what it stands for
        index = 0
        while jobs := slot.next(index):
            if data[0] != jobs[0]["data"]:
                with PULSE.unseen():
                    data = jobs[0]["data"], ray.get(jobs[0]["data"])
            began = time.time()
            for job in jobs:
                slot.tell(job["number"], {"told": [{"place": here}]})
            with named(jobs):
                ends = run_jobs(jobs, data[1], world, slot)
            for job, end in zip(jobs, ends, strict=True) if world.rank == 0 else ():
                if end["state"] != "paused":
                    slot.tell(job["number"], {**end, "began": began, "ended": time.time()})
            if any(end["state"] == "paused" for end in ends):
                slot.leave()  # before the group ends, so that the slot knows why
                break
            index += 1
            gc.collect()  # the trial's network, before the next one's is made
            if device.type == "cuda":
                torch.cuda.empty_cache()


def whereabouts() -> dict[str, Any]:
    """Where this worker runs: host, address of its node, pid, and the ids of its GPUs."""
    import ray

    return {
        "host": socket.gethostname(), "address": ray.util.get_node_ip_address(), "pid": os.getpid(),
        "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
    }  # fmt: skip


@contextmanager
def named(jobs: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """What is logged within says which trials of which study it is about; so does an error that ends them."""
    numbers = [job["number"] for job in jobs]
    with about(study=jobs[0].get("study", ""), trial=numbers[0] if len(numbers) == 1 else numbers):
        _log.info("this worker takes trial %s", ", ".join(map(str, numbers)))
        try:
            yield
        except Exception:
            _log.exception("the worker of trial %s raised", ", ".join(map(str, numbers)))
            raise


def run_jobs(jobs: Sequence[Mapping[str, Any]], data: Any, world: World, slot: Slot) -> list[dict[str, str]]:
    """Train configurations, from their newest checkpoints where there are any; how each ended: state and reason.

    Args:
        jobs: of each: number, arm, replica_of, training (the study's `TrainSettings` as a dict), settings (the trial's
            own over them), folder (where its checkpoints are, a path or URL), kept (those that the study knows of,
            which may lie elsewhere), patience (hours to wait for that place), judge, needed. Several are trained as one
            batched network (`run_packed`).
        data: `TrainingData`.
        world: this worker's place.
        slot: who is told of rungs.
    """
    from ambient_ray.storage import Patience, StorageGivenUpError, locate

    from .checkpoint import CheckpointMismatchError
    from .loop import PackedTrial, run_packed, run_trial
    from .newest import same_checkpoint
    from .settings import TrainSettings

    patience = Patience(hours=float(jobs[0].get("patience", Patience.hours)))
    trials, reporters = [], []
    try:
        for job in jobs:
            if world.rank == 0:
                job["judge"].beat.remote(job["number"], 0, math.nan)
            settings = TrainSettings.from_dict(job["training"]).overlaid(job["settings"])
            reporter, folder = RayReporter(job, world, slot), locate(job["folder"])
            known = [locate(place) for place in job.get("kept", ())]
            resume, reporter.earlier = same_checkpoint(folder, known, world, reporter, patience)
            reporters.append(reporter)
            trials.append(PackedTrial(settings, reporter, folder, resume))
        if len(trials) == 1:
            settings, _, folder, resume = trials[0]
            outcomes = [
                run_trial(settings, data, world, reporters[0], workdir=folder, resume=resume, patience=patience)
            ]
        else:
            alone = [
                trial._replace(reporter=InPack(reporter)) for trial, reporter in zip(trials, reporters, strict=True)
            ]
            outcomes = run_packed(alone, data, world, patience=patience)
    except (UnjudgeableError, CheckpointMismatchError) as error:
        cause = error.cause if isinstance(error, UnjudgeableError) else "storage"
        return [{"state": "failed", "reason": str(error), "cause": cause}]
    except StorageGivenUpError as error:
        if world.size > 1:
            raise  # the other ranks wait for this one: all are started anew
        return [{"state": "failed", "reason": str(error), "cause": "storage"} for _ in jobs]
    return [{"state": o.state, "reason": o.reason if o.state != "finished" else "", "cause": o.cause} for o in outcomes]
