"""How much the training loop adds to the network's bare forward, backward and optimizer step.

    python benchmarks/loop.py [--quick]

The two alternate in short blocks, so that a busy machine slows both; the ratio is the median over pairs.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ambient_ray.data import ImageSet, noise_bank
from ambient_ray.training import TrainingData, TrainSettings, World
from ambient_ray.training.meter import Meter, Progress
from ambient_ray.training.state import TrainState

BACKBONE = {
    "_target_": "ambient_ray.diffusion.backbones.UNet",
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    blocks, steps = (40, 4) if options.quick else (200, 8)
    loop, bare = build(options.batch_size, device)
    times: dict[str, list[float]] = {"loop": [], "bare": []}
    for block in range(-2, blocks):  # the first two warm up
        pair = [("loop", loop), ("bare", bare)]
        for name, step in pair if block % 2 else reversed(pair):
            seconds = timed(step, steps, device)
            if block >= 0:
                times[name].append(seconds)
    loop_ms, bare_ms = (1000 * statistics.median(times[name]) for name in ("loop", "bare"))
    # Neighbouring blocks saw the same load, so the ratio is taken pair by pair.
    ratio = statistics.median(a / b for a, b in zip(times["loop"], times["bare"], strict=True))
    print(f"{device}: loop {loop_ms:.2f} ms a step, bare {bare_ms:.2f} ms, batch {options.batch_size}")
    print(json.dumps({"loop_vs_bare": round(ratio, 4)}))


def build(batch_size: int, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of the loop, as `run_trial` makes it, and one of the same network alone."""
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(300)]
    images = ImageSet(rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8), None, ids)
    data = TrainingData(images, images, noise_bank(ids, images.shape, seed=0))
    settings = TrainSettings(backbone=BACKBONE, rungs=(batch_size,), batch_size=batch_size, sigma_tn=0.5)
    world = World(device=device)
    state, meter = TrainState(settings, data, world), Meter(device)
    progress = Progress(lambda seen, loss: None, device, 2.0)

    def loop() -> None:
        loss, norm = state.step()
        meter.add(loss, norm)
        progress.add(loss, state.images_seen)

    alone = TrainState(settings, data, world)
    model, optimizer = alone.model, alone.optimizer
    x = torch.randn(batch_size, 1, 8, 8, device=device)
    sigma = torch.rand(batch_size, device=device) + 0.1

    def bare() -> None:
        loss = (model(x, sigma) - x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return loop, bare


def timed(step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds a step: CPU time of this process on a CPU, where others do not count; else by the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    began = clock()
    for _ in range(steps):
        step()
    wait(device)
    return (clock() - began) / steps


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
