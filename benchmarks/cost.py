"""What a trial costs by phase, and a search in GPU-hours and money: counted FLOPs, measured seconds, named assumptions.

    python benchmarks/cost.py [--quick] [--gpu a100] [--utilisation 0.2 0.35] [--price 4.0] [--start 2] [--kept 0.5]
    python benchmarks/cost.py --measure       seconds on one core here, into data/cost.json (a minute or two)

FLOPs are counted (a multiplication and an addition are two), by torch's counter on networks without memory; what runs
on the processor is measured on one core and fitted. For GPUs nothing was measured: their seconds are FLOPs over peak
times utilisation, both assumptions that the command line replaces. The last line is one JSON object.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from costs import MEASURED, Fit, fitted, measure
from torch.utils.flop_counter import FlopCounterMode

from ambient_ray.console.automatic import network
from ambient_ray.console.command import load
from ambient_ray.console.configuration import Configuration, validate
from ambient_ray.diffusion import EDMPrecond, build_backbone
from ambient_ray.evaluation.mechanism import SIGMAS
from ambient_ray.training.scoring import GAP_IMAGES

#: Resolution and channels of the images that a preset is meant for.
PRESETS = {
    "digits": (8, 1), "fashion": (16, 1), "cifar10": (32, 3), "tiny_imagenet": (32, 3), "ffhq64": (64, 3),
    "ffhq64_paper": (64, 3),
}  # fmt: skip


#: Presets of another's network at its resolution.
_ALIKE = {"tiny_imagenet": "cifar10", "ffhq64_paper": "ffhq64"}


@dataclass(frozen=True)
class Gpu:
    """Assumptions about a GPU, none of them measured here.

    Attributes:
        peak: dense TFLOP/s by precision, as the vendor's data sheet has it; V100 has no bf16 (fp16 is the figure).
        price: dollars an hour, on demand and spot: rounded list prices of large clouds in 2024 and 2025, from memory,
            an order of magnitude to be replaced by one's own.
    """

    peak: Mapping[str, float]
    price: tuple[float, float]


GPUS = {
    "v100": Gpu({"fp32": 15.7, "bf16": 125.0}, (3.0, 1.0)),
    "a100": Gpu({"fp32": 19.5, "bf16": 312.0}, (4.0, 1.5)),
    "h100": Gpu({"fp32": 67.0, "bf16": 989.0}, (7.0, 3.0)),
}
#: Assumed seconds of a training step that no GPU goes below without CUDA graphs: about a thousand kernels are launched.
STEP_FLOOR = 0.01
#: Assumed share of the peak that training reaches: low and high. Small U-Nets leave tensor cores waiting for memory and
#: launches; in plain fp32 the arithmetic is the bottleneck, so the share is higher.
UTILISATION = {"bf16": (0.20, 0.35), "fp32": (0.40, 0.70)}


@cache
def flops(preset: str) -> tuple[float, float, int]:
    """(FLOPs of a training step an image, of one evaluation of the denoiser an image, parameters)."""
    resolution, channels = PRESETS[preset]
    config = configuration(preset)
    with torch.device("meta"):
        net = EDMPrecond(build_backbone(network(config, resolution), channels=channels, resolution=resolution), 0.5)
        x, sigma = torch.randn(2, channels, resolution, resolution), torch.rand(2)
        with FlopCounterMode(display=False) as whole:
            net(x, sigma).square().mean().backward()
        with torch.no_grad(), FlopCounterMode(display=False) as forward:
            net(x, sigma)
    parameters = sum(p.numel() for p in net.parameters())
    return whole.get_total_flops() / 2, forward.get_total_flops() / 2, parameters


@cache
def configuration(preset: str) -> Configuration:
    """The preset's configuration."""
    path = [] if preset == "digits" else ["dataset.path=unread"]
    return validate(load("search", [f"+preset={preset}", *path]))


@dataclass(frozen=True)
class Trial:
    """Seconds of a trial that is trained to its last rung, by phase."""

    start: float
    training: float
    sampling: float
    features: float
    scores: float
    checkpoint: float
    reporting: float

    @property
    def seconds(self) -> float:
        """All phases."""
        return sum(vars(self).values())


def trial(
    preset: str, speed: float, fit: Fit, *, start: float, gpu: bool, workers: int = 1, n_train: int | None = None
) -> Trial:
    """A trial's seconds.

    Args:
        preset: its key.
        speed: FLOP/s that a worker reaches in training and sampling.
        fit: of what the processor does.
        start: seconds of process starts and imports.
        gpu: whether features are taken on a GPU, in a time that is none beside the rest.
        workers: of the trial; scoring and checkpoints are the first one's. DDP's exchange of gradients is left out.
        n_train: None: the preset's.
    """
    config, (step, forward, parameters) = configuration(preset), flops(preset)
    resolution, channels = PRESETS[preset]
    rungs, scored = config.trial.rungs, config.evaluation
    evaluations = scored.samples * (2 * scored.sample_steps - 1)
    gap = 2 * GAP_IMAGES * len(SIGMAS)
    batch = scored.samples if scored.sample_batch == "auto" else scored.sample_batch
    n = n_train or config.dataset.n_train
    pixels, mirrored = channels * resolution**2, bool(config.training.get("flip"))
    floor = STEP_FLOOR if gpu else 0.0
    features = 0.0 if gpu else scored.samples * fit.features[_extractor(preset)]
    once = Trial(
        start=0.0,
        training=0.0,
        sampling=max((evaluations / workers + gap) * forward / speed, floor / 3 * evaluations / batch),
        features=features,
        scores=fit.score_seconds(_extractor(preset), scored.samples, n, pixels * (2 if mirrored else 1)),
        checkpoint=fit.checkpoint_seconds(parameters),
        reporting=fit.reporting,
    )
    steps, batch = rungs[-1] / config.training["batch_size"], config.training["batch_size"]
    per_rung = {key: len(rungs) * value for key, value in vars(once).items()}
    return Trial(**{**per_rung, "start": start, "training": steps * max(batch * step / speed / workers, floor)})


def _extractor(preset: str) -> str:
    name = configuration(preset).evaluation.features
    if name != "auto":
        return str(name)
    return "classifier" if preset == "digits" else "efficientnet_lite0"


def precision(preset: str, paper: bool = True) -> str:
    """Of a preset on a GPU: the paper's recipe is fp32; all others are bf16 where there is any."""
    return "fp32" if paper and preset == "ffhq64_paper" else "bf16"


def gpu_hours(
    preset: str, gpu: Gpu, utilisation: tuple[float, float] | None, fit: Fit, start: float
) -> tuple[float, float]:
    """(low, high) GPU-hours of a whole trial."""
    kind = precision(preset)
    low, high = utilisation or UTILISATION[kind]
    hours = [trial(preset, 1e12 * gpu.peak[kind] * u, fit, start=start, gpu=True).seconds / 3600 for u in (high, low)]
    return hours[0], hours[1]


def networks() -> dict[str, tuple[dict[str, Any], int, int, int, float]]:
    """The presets' networks, as `measure` takes them, at batches that one core does in a second or two."""
    found = {}
    for preset, batch in (("digits", 128), ("fashion", 32), ("cifar10", 16), ("ffhq64", 2)):
        resolution, channels = PRESETS[preset]
        backbone = network(configuration(preset), resolution)
        found[preset] = (backbone, channels, resolution, batch, flops(preset)[0])
    return found


def phases(speeds: Mapping[str, float], fit: Fit, start: float, **options: Any) -> None:
    """Print the seconds of whole trials by phase."""
    print(f"{'preset':<14}{'M param':>8}{'GF/step':>9}", *(f"{name:>11}" for name in Trial.__annotations__), sep="")
    for preset in PRESETS:
        step, _, parameters = flops(preset)
        seconds = trial(preset, speeds[_ALIKE.get(preset, preset)], fit, start=start, **options)
        print(f"{preset:<14}{parameters / 1e6:>8.1f}{step / 1e9:>9.2f}", end="")
        print(*(f"{value:>11,.1f}" for value in vars(seconds).values()), sep="", flush=True)


def scoring(fit: Fit) -> None:
    """Print the seconds of a rung's scores, without features, against the size of the training set."""
    sizes = (300, 3_000, 10_000, 50_000)
    print(f"\nscores of a rung, 2,000 samples, 32 px colour, 1,280 features; largest error of the fit {fit.error:.0%}:")
    print(", ".join(f"{n:,}: {fit.score_seconds('efficientnet_lite0', 2_000, n, 3072):.1f} s" for n in sizes))


def searches(
    name: str, gpu: Gpu, utilisation: tuple[float, float] | None, fit: Fit, start: float, kept: Sequence[float]
) -> None:
    """Print GPU-hours and money of searches of several lengths, confirmation included, with and without stopping."""
    print(f"\n{name.upper()}: GPU-hours (dollars), confirmation's 12 replicas with them: of whole trials,", end=" ")
    print(f"and with {', '.join(f'{k:.0%}' for k in kept)} of their training, which is what stopping leaves")
    print(f"{'preset':<14}{'a trial':>16}", *(f"{f'{n} trials':>38}" for n in (12, 64, 256)), sep="")
    for preset in PRESETS:
        low, high = gpu_hours(preset, gpu, utilisation, fit, start)
        print(f"{preset:<14}{f'{low:.2g} to {high:.2g}':>16}", end="")
        for n, share in zip((12, 64, 256), kept, strict=True):
            middle = math.sqrt(low * high)
            whole, less = (n + 12) * middle, (n * share + 12) * middle
            print(f"{f'{whole:,.4g} (${whole * gpu.price[0]:,.0f})':>20}", end="")
            print(f"{f'{less:,.4g} (${less * gpu.price[0]:,.0f})':>18}", end="")
        print()


def crowd(preset: str, hours: float, start: float, kept: float, limits: Mapping[str, float]) -> None:
    """Print what 10, 100 and 1,000 GPUs do with a preset, and how busy driver and tracking are with it.

    Args:
        preset: its key.
        hours: of a whole trial on one GPU, without its start.
        start: seconds of process starts a trial.
        kept: share of the training that early stopping leaves.
        limits: trials an hour that each part can do; no more begin than the driver answers for.
    """
    mean = hours * kept + start / 3600
    for gpus in (10, 100, 1_000):
        rate = min(gpus / mean, limits["driver"])
        wall = max(hours, 256 / rate) + max(hours, 12 * hours / gpus) + 2 * start / 3600
        busy = "".join(f"{gpus / mean / limit:>12.1%}" for limit in limits.values())
        print(f"{preset:<14}{gpus:>7,}{rate:>12,.4g}{wall:>12,.3g}{busy}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: it is quick")
    parser.add_argument("--measure", action="store_true", help="measure the processor's part here and keep it")
    parser.add_argument("--gpu", choices=GPUS, default="a100")
    parser.add_argument("--utilisation", nargs=2, type=float, metavar=("LOW", "HIGH"))
    parser.add_argument("--price", type=float, help="dollars a GPU-hour")
    parser.add_argument("--start", type=float, default=10.0, help="seconds of process starts a trial")
    parser.add_argument(
        "--kept", nargs=3, type=float, default=[0.41, 0.47, 0.52],
        help="share of training that early stopping leaves of 12, 64 and 256 trials (SCALE.md)",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="GPUs of a trial, in the table by phase")
    parser.add_argument("--n-train", type=int, help="training images, in the tables by phase; default: the preset's")
    parser.add_argument("--reporting", type=float, default=0.05, help="seconds a rung, with --measure: see scale.py")
    parser.add_argument("--limits", nargs="+", default=["driver=34000", "tracking=15000"], help="PART=trials an hour")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if given.measure:
        MEASURED.write_text(json.dumps(measure(networks(), given.reporting), indent=1) + "\n")
    fit = fitted(json.loads(MEASURED.read_text()))
    gpu = GPUS[given.gpu] if given.price is None else Gpu(GPUS[given.gpu].peak, (given.price, given.price))
    utilisation = tuple(given.utilisation) if given.utilisation else None
    print("seconds of a whole trial on one core of this kind (fp32, at the FLOP/s measured for each network):")
    shape = {"workers": given.workers, "n_train": given.n_train}
    phases(fit.core_flops, fit, given.start, gpu=False, **shape)
    print(f"\nseconds of a whole trial on one {given.gpu.upper()} at 27 % of bf16's peak (assumed):")
    phases(dict.fromkeys(PRESETS, 0.27e12 * gpu.peak["bf16"]), fit, given.start, gpu=True, **shape)
    scoring(fit)
    searches(given.gpu, gpu, utilisation, fit, given.start, given.kept)
    low, high = gpu_hours("ffhq64_paper", GPUS["v100"], None, fit, given.start)
    print(
        f"\ncheck: ffhq64_paper on a V100 in fp32: {low / 24:.1f} to {high / 24:.1f} days a trial (the preset says 5)"
    )
    limits = {key: float(value) for key, _, value in (pair.partition("=") for pair in given.limits)}
    print(f"\n{'preset':<14}{'GPUs':>7}{'trials/h':>12}{'256: hours':>12}  busy:", end="")
    print("".join(f"{key:>9}" for key in limits))
    middle = {}
    for preset in PRESETS:
        low_high = gpu_hours(preset, gpu, utilisation, fit, 0.0)
        middle[preset] = math.sqrt(low_high[0] * low_high[1])
        crowd(preset, middle[preset], given.start, given.kept[2], limits)
    figures = {f"{preset}_gpu_hours": float(f"{hours:.3g}") for preset, hours in middle.items()}
    print(json.dumps({**figures, "paper_v100_days": [round(low / 24, 2), round(high / 24, 2)]}))


if __name__ == "__main__":
    main()
