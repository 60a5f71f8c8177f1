"""Does Ambient Diffusion copy less than DDPM at equal quality, and less than DDPM stopped early? On colour images.

    python benchmarks/copying.py train --path cifar10.zip/train [--hours 2]

DDPM and Ambient at three sigma_tn, two training seeds each, on 300 images of CIFAR-10 at 16 x 16, without flips. All
arms are trained to a rung before any goes on to the next, two at a time on one thread each, so that whenever time is
up they have seen equally many images; what has been trained is kept, and the same command goes on. At each rung 1,000
samples are kept, from the same latents in every arm.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing as mp
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ARMS = {"ddpm": 0.0, "ambient_0.5": 0.5, "ambient_1": 1.0, "ambient_2": 2.0}
SEEDS = (0, 1)
BATCH = 64
RUNGS = tuple(BATCH * steps for steps in (500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 6000))
RESOLUTION, N_TRAIN, N_HELDOUT, SAMPLES = 16, 300, 5000, 1000
# One patch, wider than its 768 values: of what was tried, all that copies within these hours (benchmarks/COPYING.md).
NETWORK = {
    "_target_": "ambient_ray.diffusion.backbones.DiT",
    "patch_size": 16, "layers": 2, "heads": 12, "head_dim": 64, "dropout": 0.0,
}  # fmt: skip


class Job(NamedTuple):
    """An arm, its training seed, and the rung that it is to reach."""

    arm: str
    seed: int
    rung: int


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("train",))
    parser.add_argument("--path", required=True, help="CIFAR-10: a folder or zip of images, or its binary version")
    parser.add_argument("--out", type=Path, default=Path("outputs/copying"))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="which to train on")
    parser.add_argument("--hours", type=float, default=2.0, help="no rung is begun that would end later")
    options = parser.parse_args()
    train(options.path, options.out.resolve(), options.hours, options.arms)


def train(path: str, out: Path, hours: float, arms: Sequence[str]) -> None:
    """These arms, rung by rung."""
    os.environ["OMP_NUM_THREADS"] = "1"
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with mp.get_context("spawn").Pool(2, _open, (path, out)) as pool:
        for rung in range(len(RUNGS)):
            jobs = [Job(arm, seed, rung) for arm in arms for seed in SEEDS]
            started = time.monotonic()
            for line in pool.imap_unordered(_train, jobs):
                print(line, flush=True)
            took = time.monotonic() - started
            if rung + 1 < len(RUNGS):
                images = [RUNGS[0], *(b - a for a, b in itertools.pairwise(RUNGS))]
                expected = took * images[rung + 1] / images[rung]
                if time.monotonic() - began + expected > hours * 3600:
                    print(f"the time is up after rung {rung}: {RUNGS[rung]:,} images seen", flush=True)
                    return


def subsets(path: str, out: Path) -> Any:
    """The 300 training images and some 5,000 held-out ones, drawn from all, at 16 px; kept as decoding takes long."""
    import numpy as np

    from ambient_ray.data import load_images, split

    kept = out / "images.npz"
    if not kept.exists():
        images = load_images(path, resolution=RESOLUTION)
        chosen = np.sort(np.random.default_rng(0).permutation(len(images))[: N_TRAIN + N_HELDOUT])
        unfinished = kept.with_name(f"{os.getpid()}-{kept.name}")
        np.savez(unfinished, images=images.images[chosen], labels=images.labels[chosen])
        unfinished.replace(kept)
    return split(load_images(kept), N_TRAIN, seed=0)


def folder_of(out: Path, arm: str, seed: int) -> Path:
    """Where an arm's checkpoints are."""
    return out / f"{arm}-seed{seed}"


_state: dict[str, Any] = {}


def _open(path: str, out: Path) -> None:
    import torch

    from ambient_ray.data import noise_bank
    from ambient_ray.training import TrainingData

    torch.set_num_threads(1)
    parts = subsets(path, out)
    bank = noise_bank(parts.train.ids, parts.train.shape, seed=0)
    _state.update(out=out, data=TrainingData(parts.train, parts.heldout, bank))


class _Mute:
    def progress(self, images_seen: int, loss: float) -> None:
        """Nothing to say."""

    def rung(self, result: Any, *, resumed: bool = False) -> bool:
        """Every arm goes on."""
        return True

    def noted(self, text: str) -> None:
        """Say it."""
        print(text)

    def leaving(self) -> bool:
        """Nobody has to leave."""
        return False


def _train(job: Job) -> str:
    from ambient_ray.data import to_float
    from ambient_ray.evaluation import copied_share, denoising_gap, two_nearest
    from ambient_ray.training import TrainSettings, World, run_trial
    from ambient_ray.training.scoring import Scored
    from ambient_ray.training.trial import checkpoint_name

    data, workdir = _state["data"], folder_of(_state["out"], job.arm, job.seed)
    if (workdir / checkpoint_name(job.rung, RUNGS[job.rung])).exists():
        return f"{job.arm} seed {job.seed}: {RUNGS[job.rung]:,} images are there"
    settings = TrainSettings(
        backbone=NETWORK, rungs=RUNGS[: job.rung + 1], batch_size=BATCH, lr=1e-3, warmup_images=200 * BATCH,
        ema_halflife_images=10000, precision="bf16", compile=True, sigma_tn=ARMS[job.arm], mixing="sigma_split",
        p_mean=-0.5, seed=job.seed, samples=SAMPLES,
    )  # fmt: skip

    def score(model: Any, samples: Any) -> Scored:
        few = data.heldout.images[:: len(data.heldout) // N_TRAIN][:N_TRAIN]  # of all classes
        gap = denoising_gap(model, to_float(data.train.images), to_float(few), sigmas=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0))
        ratio = two_nearest(samples, data.train.images).ratio
        values = {"gap": gap.value, "gap_low": gap.low, "gap_high": gap.high}
        return Scored(values | {"f_mem": copied_share(ratio).value, "f_mem_half": copied_share(ratio, 0.5).value}, {})

    began = time.process_time()
    before = workdir / checkpoint_name(job.rung - 1, RUNGS[job.rung - 1])
    outcome = run_trial(
        settings, data, World(), _Mute(), workdir=workdir, resume=before if job.rung else None, score=score
    )
    shown = {key: round(value, 4) for key, value in outcome.results[-1].scores.items()} if outcome.results else {}
    return f"{job.arm} seed {job.seed}: {outcome.reason}, {time.process_time() - began:.0f} s, {shown}"


if __name__ == "__main__":
    main()
