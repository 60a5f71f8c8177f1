"""Time to sample against a plain eager fp32 Heun loop over the same network, and graphs compiled after warm-up.

    python benchmarks/sampling.py [--quick] [--network digits | unet_small]

The plain loop is Algorithm 1 of Karras et al. 2022, over the network as diffusers has it, with one noise
level for each image of a batch. Ours is what a rung does (`draw_samples`): its sampler with the network that a trial
samples, compiled or not. Both draw the same images from the same latents, which is checked. Blocks alternate in one
process, timed by its CPU time; the ratio is the median over pairs. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from itertools import pairwise

import numpy as np
import torch
from step import NETWORKS, Plain, alternate, build, images_of, ratio
from torch._dynamo.utils import counters

from ambient_ray.diffusion import karras_schedule, latents, sample
from ambient_ray.training.state import TrainState


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s, once the cache is filled")
    parser.add_argument("--network", choices=NETWORKS, default="digits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    n, batch = (500, 250) if options.network == "digits" else (60, 60)
    compiled, eager = build(options.network, compile=True), build(options.network)
    model = Plain(options.network).eval()
    fill(compiled, eager, model)
    shape = images_of(options.network).shape

    def ours(state: TrainState) -> np.ndarray:
        return sample(state.sampled, n, shape, seed=0, batch_size=batch)

    began = time.perf_counter()
    ours(compiled)
    print(f"{options.network}: first {n} samples, compiling if the cache is empty: {time.perf_counter() - began:.1f} s")
    graphs = counters["stats"]["unique_graphs"]
    expected = plain_samples(model, n, shape, batch)
    for state in (compiled, eager):
        assert np.abs(ours(state).astype(int) - expected).max() <= 1, "not the same images"
    times = alternate(
        {
            "plain": lambda: plain_samples(model, n, shape, batch),
            "compiled": lambda: ours(compiled),
            "eager": lambda: ours(eager),
        },
        blocks=5 if options.quick else 15,
        steps=1,
    )
    ours(build(options.network, compile=True))  # the next trial of the same process
    recompiles = counters["stats"]["unique_graphs"] - graphs
    for name, taken in times.items():
        print(f"  {name:9} {statistics.median(taken):6.3f} s, {ratio(times['plain'], taken):.2f} times the plain loop")
    print(f"  graphs compiled after warm-up: {recompiles}")
    assert recompiles == 0
    result = {
        "vs_eager": ratio(times["plain"], times["compiled"]),
        "uncompiled_vs_eager": ratio(times["plain"], times["eager"]),
        "recompiles": recompiles,
    }
    print(json.dumps(result))


def fill(compiled: TrainState, eager: TrainState, plain: torch.nn.Module) -> None:
    """The same weights for all, none zero, as after some training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for a, b, c in zip(
            compiled.ema.model.parameters(), eager.ema.model.parameters(), plain.parameters(), strict=True
        ):
            if not a.any():
                a.normal_(std=0.02, generator=generator)
            b.copy_(a)
            c.copy_(a)


@torch.no_grad()
def plain_samples(model: torch.nn.Module, n: int, shape: tuple[int, ...], batch: int) -> np.ndarray:
    """Uint8 [n,H,W,C] by Heun's method."""
    images = []
    levels = karras_schedule(18).tolist()
    for start in range(0, n, batch):
        size = min(batch, n - start)
        x = latents(size, shape, seed=0, start=start) * levels[0]
        for now, then in pairwise(levels):
            first = (x - model(x, torch.full((size,), now))) / now
            ahead = x + (then - now) * first
            if then > 0:
                second = (ahead - model(ahead, torch.full((size,), then))) / then
                ahead = x + (then - now) * (first + second) / 2
            x = ahead
        images.append(((x + 1) * 127.5).round().clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(images)


if __name__ == "__main__":
    main()
