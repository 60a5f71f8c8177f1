"""One of two workers, in a module of its own: a spawned process imports it by name."""

from datetime import timedelta

import small_world as world
import torch
import torch.distributed as dist

from ambient_ray.training import World, run_trial
from ambient_ray.training.ray_worker import wait_for_all

CHANGES = {"rungs": (160, 320), "flip": True, "samples": 5}


def run(rank, folder):
    """Train through the rungs, then once more with a learning rate that diverges; leaves both outcomes."""
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        for name, changes in (("two", CHANGES), ("diverging", CHANGES | {"lr": 1e30})):
            recorder = world.Recorder()
            outcome = run_trial(
                world.settings(**changes),
                world.data(),
                World(rank, 2),
                recorder,
                workdir=folder / name,
                score=world.score if rank == 0 else None,
            )
            (folder / f"{name}-{rank}").write_text(f"{outcome.state} {len(recorder.results)}")
        wait_for_all()
    finally:
        dist.destroy_process_group()
