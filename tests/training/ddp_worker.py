"""One of several workers, in a module of its own: a spawned process imports it by name."""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import ray
import ray.train.collective
import small_world as world
import torch
import torch.distributed as dist

from ambient_ray.evaluation import PixelExtractor, References
from ambient_ray.training import TrainingData, World, run_trial
from ambient_ray.training.agreement import checksum
from ambient_ray.training.group import wait_for_all
from ambient_ray.training.loop import TrainState
from ambient_ray.training.newest import newest_checkpoint
from ambient_ray.training.ray_reporter import RayReporter
from ambient_ray.training.resident import ResidentImages

CHANGES = {"rungs": (160, 320), "flip": True, "samples": 5, "noise_draws": 2}


def data():
    """What every trial here is trained on: three noises an image, and all that scoring needs."""
    found = world.data(draws=3)
    references = References.build(PixelExtractor(), found.train, found.heldout)
    return TrainingData(found.train, found.heldout, found.noise_bank, PixelExtractor(), references)


class Watch:
    """Keeps what one rank is given and holds, step by step and rung by rung."""

    def __init__(self, monkeypatched):
        self.noises, self.held, self._undo = [], [], []
        step, batch = TrainState.step, ResidentImages.batch

        def stepped(state):
            result = step(state)
            gradient = result[1].item()  # of the reduced gradients
            self.held.append([gradient, *(int(value) for value in state.held().values())])
            return result

        def given(images, draws):
            found = batch(images, draws)
            self.noises.append(found.noise.clone())
            return found

        monkeypatched.update({(TrainState, "step"): stepped, (ResidentImages, "batch"): given})


class Patches:
    """setattr for a while, as pytest's, which a spawned process has not."""

    def __init__(self):
        self._changes, self._before = {}, {}

    def update(self, changes):
        self._changes.update(changes)

    def __enter__(self):
        for (owner, name), value in self._changes.items():
            self._before[owner, name] = getattr(owner, name)
            setattr(owner, name, value)

    def __exit__(self, *error):
        for (owner, name), value in self._before.items():
            setattr(owner, name, value)


def from_rank_zero(value):
    """Ray Train's broadcast, by torch.distributed."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def judged(rank, size, settings, folder):
    """A trial that the judge, whom rank 0 alone can ask, ends at its second rung."""
    job = {"number": 7, "arm": "ambient", "replica_of": None, "needed": ("fd_pixels",), "folder": str(folder)}
    answers = [True, False]
    asked = SimpleNamespace(remote=lambda number, arm, rung, scores, configuration: answers[rung])
    job["judge"] = SimpleNamespace(decide=asked, beat=SimpleNamespace(remote=lambda *told: None)) if rank == 0 else None
    slot = SimpleNamespace(tell=lambda number, message: True) if rank == 0 else None
    patches = Patches()
    patches.update({(ray.train.collective, "broadcast_from_rank_zero"): from_rank_zero, (ray, "get"): lambda x: x})
    with patches:
        place = World(rank, size)
        return run_trial(settings, data(), place, RayReporter(job, place, slot), workdir=folder)


def tampered(rank, what):
    """The data or the step of rank 1, changed in one bit or so; rank 0's as they are."""
    patches = Patches()
    if rank == 1 and what == "weights":
        step = TrainState.step

        def stepped(state):
            result = step(state)
            if state.images_seen == 160:
                with torch.no_grad():
                    state._parameters[0].view(-1)[0] += 1e-6
            return result

        patches.update({(TrainState, "step"): stepped})
    return patches


def run(rank, size, folder):
    """Every story, one after another, in this process; leaves each one's end in a file of its name and the rank."""
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=size, timeout=timedelta(seconds=60))
    place = World(rank, size)

    def told(name, outcome, **more):
        kept = {"state": outcome.state, "reason": outcome.reason, "images": outcome.images_seen, **more}
        (folder / f"{name}-{rank}").write_text(json.dumps(kept))

    def train(name, given=None, recorder=None, resume=None, score=None, **changes):
        recorder = recorder or world.Recorder()
        settings = world.settings(**CHANGES | changes)
        return run_trial(settings, given or data(), place, recorder, workdir=folder / name, resume=resume, score=score)

    try:
        patches = Patches()
        watch = Watch(patches)
        with patches:
            outcome = train("all")
        torch.save(watch.noises, folder / f"noises-{rank}.pt")
        told("all", outcome, held=watch.held)
        told("diverging", train("diverging", score=world.score, lr=1e30))
        told("judged", judged(rank, size, world.settings(**CHANGES | {"rungs": (160, 320, 480)}), folder / "judged"))
        with tampered(rank, "weights"):
            told("weights", train("weights", score=world.score))
        other = data()
        if rank == 1:
            bank = other.noise_bank.copy()
            bank[3, 1, 0, 2, 2] = np.nextafter(bank[3, 1, 0, 2, 2], 9)
            other = replace(other, noise_bank=bank)
        told("bank", train("bank", other, score=world.score))
        last = rank == size - 1
        paused = train("paused", recorder=world.Recorder(leave_after=0 if last else None), score=world.score)
        wait_for_all()
        again = train("paused", resume=newest_checkpoint(folder / "paused").folder, score=world.score)
        told("paused", paused, again=again.state)
        told("straight", train("straight", score=world.score))
        told("checksum", outcome, value=int(checksum([torch.arange(9.0)])))
        wait_for_all()
    finally:
        dist.destroy_process_group()
