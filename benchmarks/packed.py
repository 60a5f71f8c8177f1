"""Where stepping several small trials as one batched network beats stepping them one after another.

    python benchmarks/packed.py [--quick] [--compile] [--only NAME,...] [--trials 4,8]

Separate: one `TrainState` makes the steps of all P trials, as trials that run to a rung one after another in a process
do (the same weights stay in the caches). Packed: `PackedState` makes as many. Both do all of a step: draws, gather,
loss, backward pass, clipping's norm, optimizer, average. They alternate in short blocks, in this process' CPU time, on
one thread (nothing is packed on a GPU); the ratio is the median over pairs of blocks. Not counted: sampling and
scoring, which packing leaves as they are. --compile: both sides compiled (minutes).
The last line printed is one JSON object; vs_separate is the ratio of CHOSEN, a size at which `when_packed` packs.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from loop import timed

from ambient_ray.data import ImageSet, noise_bank
from ambient_ray.training import TrainingData, TrainSettings, World
from ambient_ray.training.packed import PackedState, when_packed
from ambient_ray.training.state import TrainState


class Size(NamedTuple):
    """A network and a batch of images [B,1,resolution,resolution]."""

    backbone: dict[str, Any]
    batch: int
    resolution: int = 8


def dit(layers: int, heads: int, head_dim: int, patch_size: int = 8) -> dict[str, Any]:
    """A DiT's settings; its width is heads * head_dim."""
    target = "ambient_ray.diffusion.backbones.DiT"
    return {"_target_": target, "layers": layers, "heads": heads, "head_dim": head_dim, "patch_size": patch_size}


def unet(*widths: int) -> dict[str, Any]:
    """A U-Net's settings, one block a level."""
    target = "ambient_ray.diffusion.backbones.UNet"
    return {"_target_": target, "block_out_channels": list(widths), "layers_per_block": 1}


SIZES = {
    "dit_1x64_b32": Size(dit(1, 1, 64), 32),
    "dit_1x64_b128": Size(dit(1, 1, 64), 128),
    "dit_3x64_b32": Size(dit(3, 1, 64), 32),
    "dit_3x64_b128": Size(dit(3, 1, 64), 128),
    "dit_3x96_b32": Size(dit(3, 3, 32), 32),
    "dit_3x96_b128": Size(dit(3, 3, 32), 128),
    "dit_2x64_16tokens_b32": Size(dit(2, 2, 32, patch_size=2), 32),
    "dit_digits_b32": Size(dit(3, 2, 64), 32),
    "dit_digits_b128": Size(dit(3, 2, 64), 128),
    "unet_16_32_b16": Size(unet(16, 32), 16),
    "unet_16_32_b64": Size(unet(16, 32), 64),
    "unet_small_b16": Size(unet(32, 64), 16),
    "unet_small_b128": Size(unet(32, 64), 128),
    "unet_small_16px_b64": Size(unet(32, 64), 64, 16),
}
CHOSEN = "unet_16_32_b16"
QUICK = ("dit_3x64_b32", "dit_digits_b128", "unet_16_32_b16")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s")
    parser.add_argument("--compile", action="store_true", help="both sides compiled")
    parser.add_argument("--only", help=f"sizes by name: {', '.join(SIZES)}")
    parser.add_argument("--trials", help="how many are packed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.only.split(",") if options.only else QUICK if options.quick else SIZES
    numbers = [int(number) for number in (options.trials or ("8" if options.quick else "4,8")).split(",")]
    print(f"{'compiled' if options.compile else 'eager'}; ms a step and trial")
    print(f"{'size':22} {'precision':9} {'P':>2} {'separate':>9} {'packed':>9} {'ratio':>6}  when_packed")
    ratios = {}
    for name in names:
        for precision in ("fp32", "bf16"):
            for trials in numbers:
                settings = settings_of(SIZES[name], precision, options.compile)
                ratio = compare(name, settings, trials, seconds=2.0 if options.quick else 6.0)
                ratios[f"{name}_{precision}_{trials}"] = round(ratio, 2)
    chosen = {key: value for key, value in ratios.items() if key.startswith(f"{CHOSEN}_")}
    print(json.dumps({"vs_separate": min(chosen.values()) if chosen else None, "ratios": ratios}))


def settings_of(size: Size, precision: str, compiled: bool) -> TrainSettings:
    """One trial's settings."""
    return TrainSettings(
        backbone=size.backbone,
        rungs=(size.batch,),
        batch_size=size.batch,
        precision=precision,
        compile=compiled,
        warmup_images=6400,
        sigma_tn=0.5,
    )


def compare(name: str, settings: TrainSettings, trials: int, seconds: float) -> float:
    """Separate over packed time, median over pairs of blocks; prints a line."""
    resolution, device = SIZES[name].resolution, torch.device("cpu")
    world = World(device=device)
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(300)]
    images = ImageSet(rng.integers(0, 256, (300, resolution, resolution, 1), dtype=np.uint8), None, ids)
    data = TrainingData(images, images, noise_bank(ids, images.shape, seed=0))
    alone = TrainState(settings, data, world)
    own = [{"sigma_tn": (0.0, 0.3, 0.5, 0.8)[i % 4], "lr": 1e-3 * (1 + i / 10), "seed": i} for i in range(trials)]
    packed = PackedState([TrainState(settings.overlaid(changes), data, world) for changes in own])

    def separate() -> None:
        for _ in range(trials):
            alone.step()

    times: dict[str, list[float]] = {"separate": [], "packed": []}
    sides: list[tuple[str, Callable[[], object]]] = [("separate", separate), ("packed", packed.step)]
    for _, step in sides:
        for _ in range(3):
            step()
    once = timed(packed.step, 2, device)
    steps = max(1, round(0.1 / once))  # blocks of about .1 s
    pairs = min(60, max(8, round(seconds / (3 * steps * once))))
    for pair in range(pairs):
        for side, step in sides if pair % 2 else reversed(sides):
            times[side].append(timed(step, steps, device))
    # Neighbouring blocks saw the same load, so the ratio is taken pair by pair.
    ratio = statistics.median(a / b for a, b in zip(times["separate"], times["packed"], strict=True))
    each = {side: 1000 * statistics.median(values) / trials for side, values in times.items()}
    print(
        f"{name:22} {settings.precision:9} {trials:2} {each['separate']:9.2f} {each['packed']:9.2f} {ratio:6.2f}  "
        f"{when_packed(settings, alone.image)}",
        flush=True,
    )
    return ratio


if __name__ == "__main__":
    main()
