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
        packed = f", packed {prepared.pack} to a worker" if prepared.pack > 1 else ""
        say(f"trials at once: {at_once}{packed}")
    parameters = sum(p.numel() for p in state.model.parameters())
    gigabytes = (trials + replicas) * len(settings.rungs) * _checkpoint_bytes(prepared, parameters) / 1e9
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
    say(f"checkpoints: {most} {gigabytes:.2g} GB in {config.folder}")
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


def _checkpoint_bytes(prepared: Prepared, parameters: int) -> int:
    """Average, weights and two moments in float32, and the samples."""
    c, h, w = prepared.images.shape
    return 16 * parameters + prepared.settings.samples * c * h * w


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
