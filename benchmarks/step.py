"""Images per second of the training step against a plain eager fp32 loop over the same network.

    python benchmarks/step.py [--quick] [--network digits | unet_small]

The plain loop does what EDM's published one does, by its description: a DataLoader over uint8 images, the network as
diffusers has it, noise levels and noise drawn anew in each step, nan_to_num on each gradient, Adam as it comes, a
moving average parameter by parameter; nothing fused, nothing compiled. The step is the search's own with the precision
that `auto` is on this processor, compiled (which `auto` does for the DiT alone on a CPU); `parts` shows what each adds.
Blocks of both alternate in one process, timed by its CPU time; the ratio is the median over pairs. The warm compile is
that of a new process which finds the cache filled: from the state's construction to the end of its first step, after
an eager one in which diffusers was imported.
The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import ambient_ray
from ambient_ray.data import ImageSet, noise_bank
from ambient_ray.training import TrainingData, TrainSettings, World
from ambient_ray.training.state import TrainState, build_model

NETWORKS = {"digits": ("dit_digits", 8), "unet_small": ("unet_small", 16)}
BATCH, SIGMA_DATA = 128, 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s, once the cache is filled")
    parser.add_argument("--network", choices=NETWORKS, default="digits")
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    native = getattr(torch.cpu, "get_capabilities", dict)()
    precision = "bf16" if native.get("avx512_bf16") or native.get("amx_bf16") else "fp32"
    if options.warm:
        build(options.network, precision=precision).step()  # what an eager trial pays, too
        began = time.perf_counter(), time.process_time()
        build(options.network, precision=precision, compile=True).step()
        print(time.perf_counter() - began[0], time.process_time() - began[1])
        return
    cold = time.perf_counter()
    fast = build(options.network, precision=precision, compile=True)
    fast.step()
    cold = time.perf_counter() - cold
    variants: dict[str, Callable[[], object]] = {
        "plain": plain_loop(options.network),
        "step": fast.step,
        "eager fp32": build(options.network).step,
        "eager bf16": build(options.network, precision="bf16").step,
        "compiled fp32": build(options.network, compile=True).step,
    }
    times = alternate(variants, blocks=12 if options.quick else 40, steps=4)
    parts = {name: ratio(times["plain"], taken) for name, taken in times.items()}
    wall, cpu = min(warm_compile(options.network) for _ in range(2 if options.quick else 3))
    print(f"{options.network}, batch {BATCH}, {precision}, one thread; first step {cold:.1f} s (cache as it was found)")
    for name, taken in times.items():
        print(f"  {name:14} {1000 * statistics.median(taken):6.2f} ms a step, {parts[name]:.2f} times the plain loop")
    warm = {"warm_compile_s": round(wall, 2), "warm_compile_cpu_s": round(cpu, 2)}
    print(json.dumps({"vs_eager_loop": parts["step"], **warm, "parts": parts}))


def build(network: str, **changes: object) -> TrainState:
    """The search's own training state."""
    backbone, images = backbone_of(network), images_of(network)
    bank = noise_bank(images.ids, images.shape, seed=0)
    settings = TrainSettings(
        backbone=backbone, rungs=(BATCH,), batch_size=BATCH, lr=3e-3, warmup_images=6400, sigma_tn=0.5, **changes
    )  # fmt: skip
    return TrainState(settings, TrainingData(images, images, bank), World())


def backbone_of(network: str) -> dict[str, object]:
    """A backbone's configuration, as it ships."""
    folder = os.path.join(os.path.dirname(ambient_ray.__file__), "conf", "backbone")
    with open(os.path.join(folder, f"{NETWORKS[network][0]}.yaml")) as file:
        return dict(yaml.safe_load(file))


def images_of(network: str) -> ImageSet:
    """300 random images: speed does not depend on what they show."""
    size = NETWORKS[network][1]
    pixels = np.random.default_rng(0).integers(0, 256, (300, size, size, 1), dtype=np.uint8)
    return ImageSet(pixels, None, [str(i) for i in range(300)])


class Plain(nn.Module):
    """EDM's preconditioning around diffusers' own network, with all of its attention."""

    def __init__(self, network: str) -> None:
        super().__init__()
        settings = TrainSettings(backbone=backbone_of(network), rungs=(64,))
        facts = {"channels": 1, "resolution": NETWORKS[network][1], "num_classes": None}
        self.net = build_model(settings, facts, SIGMA_DATA).backbone.net.requires_grad_(True)
        if network == "digits":
            from diffusers.models.attention_processor import AttnProcessor2_0

            for block in self.net.transformer_blocks:
                block.attn1.set_processor(AttnProcessor2_0())
        self.classes = network == "digits"

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """x: [B,C,H,W]; sigma: [B]."""
        s = sigma.view(-1, 1, 1, 1)
        norm = (s**2 + SIGMA_DATA**2).sqrt()
        labels = {"class_labels": torch.zeros(len(x), dtype=torch.int64)} if self.classes else {}
        f = self.net(x / norm, 1000 * sigma.log() / 4, **labels, return_dict=False)[0]
        return SIGMA_DATA**2 / norm**2 * x + s * SIGMA_DATA / norm * f


def plain_loop(network: str) -> Callable[[], None]:
    """A step of the plain loop."""
    images = images_of(network)
    model, average = Plain(network), Plain(network).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    data = TensorDataset(torch.from_numpy(images.images.transpose(0, 3, 1, 2).copy()))
    batches = iter(DataLoader(data, BATCH, sampler=RandomSampler(data, replacement=True, num_samples=10**9)))
    seen = 0

    def step() -> None:
        nonlocal seen
        clean = next(batches)[0].to(torch.float32) / 127.5 - 1
        sigma = (torch.randn(BATCH) * 1.2 - 1.2).exp()
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        noisy = clean + sigma.view(-1, 1, 1, 1) * torch.randn_like(clean)
        loss = weight.view(-1, 1, 1, 1) * (model(noisy, sigma) - clean) ** 2
        optimizer.zero_grad(set_to_none=True)
        (loss.sum() / loss.numel()).backward()
        seen += BATCH
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(seen / 6400, 1)
        for p in model.parameters():
            if p.grad is not None:
                torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        optimizer.step()
        decay = 0.5 ** (BATCH / min(6400, 0.05 * seen))
        for mean, p in zip(average.parameters(), model.parameters(), strict=True):
            mean.copy_(p.detach().lerp(mean, decay))

    return step


def alternate(variants: dict[str, Callable[[], object]], *, blocks: int, steps: int) -> dict[str, list[float]]:
    """CPU seconds a call of each, in blocks that take turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for block in range(-2, blocks):  # the first two warm up
        order = list(variants) if block % 2 else list(variants)[::-1]
        for name in order:
            began = time.process_time()
            for _ in range(steps):
                variants[name]()
            if block >= 0:
                times[name].append((time.process_time() - began) / steps)
    return times


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median of the ratios of neighbouring blocks."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 3)


def warm_compile(network: str) -> tuple[float, float]:
    """Seconds by the clock, and of CPU time, until the first step is done, in a new process with a filled cache."""
    command = [sys.executable, os.path.abspath(__file__), "--warm", "--network", network]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir(), env=_env())
    wall, cpu = done.stdout.split()[-2:]
    return float(wall), float(cpu)


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(ambient_ray.__file__))}


if __name__ == "__main__":
    main()
