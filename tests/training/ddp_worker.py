"""One of two workers, in a module of its own: a spawned process imports it by name."""

from datetime import timedelta

import small_world as world
import torch
import torch.distributed as dist

from ambient_ray.training import World, run_trial

CHANGES = {"rungs": (160, 320), "flip": True, "samples": 5}


def run(rank, folder, diverge):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        changes = CHANGES | ({"lr": 1e30} if diverge else {})
        recorder = world.Recorder()
        outcome = run_trial(
            world.settings(**changes),
            world.data(),
            World(rank, 2),
            recorder,
            workdir=folder / "two",
            score=world.score if rank == 0 else None,
        )
        (folder / f"outcome-{rank}").write_text(f"{outcome.state} {len(recorder.results)}")
    finally:
        dist.destroy_process_group()
