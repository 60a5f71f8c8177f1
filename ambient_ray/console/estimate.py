"""What a search will need, from a few steps that are really taken: trials at once, hours, gigabytes."""

import dataclasses
import os
import sys
import time

import torch
from rich.console import Console

from ambient_ray.diffusion import sample
from ambient_ray.training import TrainingData, World
from ambient_ray.training.scoring import samples_at_once
from ambient_ray.training.state import TrainState

from .configuration import Configuration
from .preparation import Prepared, bank_for, this_node

_SECONDS = 2.0
_PER_SAMPLE = 81  # bytes: nine numbers and nine tiles
_AROUND = 40_000  # of a checkpoint: its description, and the headers of its files


def print_estimate(prepared: Prepared) -> None:
    """Measure a training step and a sampling batch on this machine and print what follows; starts nothing."""
    config, settings = prepared.config, prepared.settings
    uncompiled = dataclasses.replace(settings, compile=False)  # compiling can take longer than all the rest here
    gpu = config.trial.gpus_per_worker > 0 and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(max(1, int(config.trial.cpus_per_worker)))
    data = TrainingData(prepared.subsets.train, prepared.subsets.heldout, bank_for(prepared))
    state = TrainState(uncompiled, data, World(device=device))
    step, evaluation = _step_seconds(state), _sampling_seconds(prepared, state, device)
    steps = settings.rungs[-1] / settings.batch_size
    trial = steps * step / config.trial.fewest_workers + len(settings.rungs) * evaluation
    say = Console(soft_wrap=True, highlight=False).print
    trials, replicas = config.trials or 0, replicas_planned(config)
    if config.address or os.environ.get("RAY_ADDRESS"):
        at_once = config.trial.max_concurrent or 1
        say(f"trials at once: known when the cluster is joined; {at_once} assumed here")
    else:
        at_once = min(
            prepared.shape.concurrency([this_node()]) * prepared.pack,
            config.trials or sys.maxsize,
            config.trial.max_concurrent or sys.maxsize,
        )
        if note := prepared.shape.idle_gpus([this_node()]):
            say(note)
        packed = f", packed {prepared.pack} to a worker" if prepared.pack > 1 else ""
        say(f"trials at once: {at_once}{packed}")
    parameters = sum(p.numel() for p in state.model.parameters())
    disk = Disk.of(
        _checkpoint_bytes(prepared, parameters),
        trials=trials + replicas,
        rungs=len(settings.rungs),
        at_once=at_once,
        collected=config.keep_checkpoints == "front",
    )
    step_ms = f"{1000 * step:.0f} ms on this {device.type}" + ", and less once it is compiled" * settings.compile
    say(f"network: {parameters:,} parameters; a step of {settings.batch_size} images takes {step_ms}")
    say(f"a trial that is never stopped takes {_duration(trial)}")
    if config.trials is not None:
        say(f"{trials} trials take at most {_duration(-(-trials // at_once) * trial)}, less what the judge stops")
    if config.hours is not None or config.gpu_hours is not None:
        bound = [f"{config.hours:g} hours"] if config.hours is not None else []
        bound += [f"{config.gpu_hours:g} GPU hours"] if config.gpu_hours is not None else []
        say(f"no trial is begun after {' or '.join(bound)}, what confirmation needs kept back")
    if replicas:
        say(f"confirmation: at most {replicas} replicas, {_duration(-(-replicas // at_once) * trial)}")
    most = "at most" if config.trials is not None else "of confirmation alone at most"
    say(
        f"checkpoints: {most} {disk.peak / 1e9:.2g} GB while it runs, {disk.end / 1e9:.2g} GB in the end,"
        f" in {config.checkpoint_folder}" + (" (keep_checkpoints=all)" if config.keep_checkpoints == "all" else "")
    )
    say("dry_run=true: nothing was started")


def replicas_planned(config: Configuration) -> int:
    """How many confirmation trains at the most: the candidates and DDPM."""
    return (config.confirm.top + 1) * config.confirm.seeds if config.confirm.top else 0


def _step_seconds(state: TrainState) -> float:
    state.step()
    _wait(state.world.device)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS or steps < 3:
        state.step()
        _wait(state.world.device)
        steps += 1
    return (time.perf_counter() - began) / steps


def _sampling_seconds(prepared: Prepared, state: TrainState, device: torch.device) -> float:
    """Seconds to sample at one rung, from one batch with few steps."""
    settings, steps = prepared.settings, 2
    n = min(settings.samples, samples_at_once(settings, state.ema.model, prepared.subsets.train, device))
    labels = None if prepared.subsets.train.labels is None else prepared.subsets.train.labels[:1].repeat(n)
    began = time.perf_counter()
    sample(
        state.sampled, n, prepared.images.shape, seed=0, batch_size=n, device=device, steps=steps,
        labels=labels if settings.conditional else None,
    )  # fmt: skip
    _wait(device)
    return (time.perf_counter() - began) * (2 * settings.sample_steps - 1) / (2 * steps - 1) * settings.samples / n


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Of one checkpoint's files: weights, what training goes on from, samples and description."""

    model: int
    train_state: int
    rest: int


@dataclasses.dataclass(frozen=True)
class Disk:
    """What a study's checkpoints take at the most, in bytes: while it runs, and in the end.

    The judge's stops, and rungs that another of their trial dominates, only make it less.
    """

    peak: int
    end: int

    @classmethod
    def of(cls, one: Bytes, *, trials: int, rungs: int, at_once: int, collected: bool) -> "Disk":
        """From the size of a checkpoint.

        Args:
            one: its size.
            trials: replicas included.
            rungs: of each.
            at_once: trials that run at the same time, of which nothing is deleted yet.
            collected: whether what nothing needs is deleted when a trial ends.
        """
        whole = one.model + one.train_state + one.rest
        ended = whole + (rungs - 1) * (whole - one.train_state) if collected else rungs * whole
        running = min(at_once, trials)
        return cls(running * rungs * whole + (trials - running) * ended, trials * ended)


def _checkpoint_bytes(prepared: Prepared, parameters: int) -> Bytes:
    """Average; weights and two moments; all in float32. The samples with their features and what was found on each."""
    c, h, w = prepared.images.shape
    width = prepared.extractor(prepared.images.images[:2]).shape[-1]
    sample = c * h * w + 2 * width + _PER_SAMPLE
    return Bytes(4 * parameters, 12 * parameters, prepared.settings.samples * sample + _AROUND)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
