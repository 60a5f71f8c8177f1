"""Time to sample against a plain eager fp32 Heun loop over the same network, and graphs compiled after warm-up.

    python benchmarks/sampling.py [--quick] [--network digits | unet_small]

The plain loop is Algorithm 1 of Karras et al. 2022, over the network as diffusers has it, with one noise
level for each image of a batch. Ours is what a rung does (`draw_samples`) with the network that a trial samples, in the
precision that `auto` is on this processor, compiled; without either of them, too. All draw the same images from the
same latents, which is checked: in fp32 to a grey level, in bf16 to a mean difference that is printed. Blocks alternate
in one process, timed by its CPU time; the ratio is the median over pairs. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from step import NETWORKS, Plain, alternate, build, images_of, ratio
from torch._dynamo.utils import counters

from ambient_ray.diffusion import karras_schedule, latents
from ambient_ray.training import World
from ambient_ray.training.scoring import draw_samples
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
    native = getattr(torch.cpu, "get_capabilities", dict)()
    precision = "bf16" if native.get("avx512_bf16") or native.get("amx_bf16") else "fp32"
    n = 500 if options.network == "digits" else 60
    states = {
        "rung": build(options.network, compile=True, precision=precision, samples=n),
        "compiled fp32": build(options.network, compile=True, samples=n),
        "eager fp32": build(options.network, samples=n),
    }
    model, train = Plain(options.network).eval(), images_of(options.network)
    fill([model, *(state.ema.model for state in states.values())])

    def ours(state: TrainState) -> np.ndarray:
        return draw_samples(state.settings, state.sampled, train, World(), n)

    began = time.perf_counter()
    ours(states["rung"])
    print(f"{options.network}: first {n} samples, compiling if the cache is empty: {time.perf_counter() - began:.1f} s")
    expected = plain_samples(model, n, train.shape).astype(int)
    differences = {name: np.abs(ours(state) - expected) for name, state in states.items()}
    assert max(differences[name].max() for name in ("compiled fp32", "eager fp32")) <= 1, "not the same images"
    graphs = counters["stats"]["unique_graphs"]
    times = alternate(
        {
            "plain": lambda: plain_samples(model, n, train.shape),
            **{name: lambda state=state: ours(state) for name, state in states.items()},
        },
        blocks=5 if options.quick else 15,
        steps=1,
    )
    ours(build(options.network, compile=True, precision=precision, samples=n))  # the next trial of the same process
    recompiles = counters["stats"]["unique_graphs"] - graphs
    for name, taken in times.items():
        print(f"  {name:13} {statistics.median(taken):6.3f} s, {ratio(times['plain'], taken):.2f} times the plain loop")
    print(f"  {precision}: images differ by {differences['rung'].mean():.2f} of 255 grey levels on average")
    print(f"  graphs compiled after warm-up: {recompiles}")
    assert recompiles == 0
    parts = {name: ratio(times["plain"], taken) for name, taken in times.items()}
    print(json.dumps({"vs_eager": parts["rung"], "recompiles": recompiles, "parts": parts}))


def fill(models: Sequence[torch.nn.Module]) -> None:
    """The same weights for all, none zero, as after some training."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for first, *others in zip(*(model.parameters() for model in models), strict=True):
            if not first.any():
                first.normal_(std=0.02, generator=generator)
            for other in others:
                other.copy_(first)


@torch.no_grad()
def plain_samples(model: torch.nn.Module, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uint8 [n,H,W,C] by Heun's method."""
    levels = karras_schedule(18).tolist()
    x = latents(n, shape, seed=0) * levels[0]
    for now, then in pairwise(levels):
        first = (x - model(x, torch.full((n,), now))) / now
        ahead = x + (then - now) * first
        if then > 0:
            second = (ahead - model(ahead, torch.full((n,), then))) / then
            ahead = x + (then - now) * (first + second) / 2
        x = ahead
    return ((x + 1) * 127.5).round().clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
