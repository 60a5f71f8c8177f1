"""What scoring costs: the Frechet distance against scipy's sqrtm, nearest neighbours against their bare product.

    python benchmarks/evaluation.py [--quick | --full]

`frechet_vs_sqrtm`: two covariance matrices of d = 2,048 (from 10,000 images each) are given; scipy's way is the trace
of `sqrtm(C1 @ C2)`, ours their factors and singular values. `frechet_small_n_vs_sqrtm`: 1,000 images of either set,
from features to distance on both sides, moments included. Both must agree to 1e-6. `neighbours_vs_matmul`:
`two_nearest` over `queries @ train.T` alone, in float32 and blocks of 1,000 queries; 1 is the floor, and the same is
printed of `nearest_cosine`, and of faiss's IndexFlatL2 where that is installed. --full adds 50,000 among 50,000, with
the peak of memory beside the inputs (Linux). On the clock, with all cores of the machine: run it on a quiet one.
`share_of_training`: seconds of sampling and scoring over those of the training before them, at the second rung of the
default search's DDPM (a first one compiles), in this process on one core. The last line printed is one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.console.preparation import prepare
from ambient_ray.evaluation import GaussianStatistics, References, frechet_distance, nearest_cosine, two_nearest
from ambient_ray.training import TrainingData, World
from ambient_ray.training.loop import run_trial


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="d = 512, fewer images: under 60 s")
    parser.add_argument("--full", action="store_true", help="and neighbours of 50,000 among 50,000: minutes more")
    options = parser.parse_args()
    d, many, few, size = (512, 2500, 250, 2000) if options.quick else (2048, 10000, 1000, 20000)
    result = {
        "frechet_vs_sqrtm": algebra(d, many, repeats=1 if options.quick else 3),
        "frechet_small_n_vs_sqrtm": small_sets(d, few, repeats=1 if options.quick else 3),
        "neighbours_vs_matmul": nearest(size, 1536, repeats=3),
        "share_of_training": share(),
    }
    if options.full:
        at_scale(50000, 1536)
    print(json.dumps(result))


def features(n, d, seed, shift=0.0):
    """Correlated, as a network's are: variances fall as 1 / rank, and half of the values are cut off at 0."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    values = (rng.normal(shift, 1, (n, d)) / np.sqrt(np.arange(1, d + 1))) @ mixing
    return np.maximum(values, 0).astype(np.float32)


def algebra(d, n, repeats):
    """sqrtm's seconds over ours, from moments to the distance."""
    moments = []
    for seed in (0, 1):
        values = features(n, d, seed, shift=0.3 * seed).astype(np.float64)
        moments.append((values.mean(axis=0), np.cov(values, rowvar=False)))
    ours, fast = timed(lambda: frechet_distance(*(GaussianStatistics.from_moments(*m) for m in moments)), repeats)
    theirs, slow = timed(lambda: by_sqrtm(*moments), 1)
    return compared(f"d = {d:,}, from moments", ours, fast, theirs, slow)


def small_sets(d, n, repeats):
    """sqrtm's seconds over ours, from features to the distance, for n < d."""
    a, b = (features(n, d, seed, shift=0.3 * seed) for seed in (0, 1))

    def plain():
        both = [x.astype(np.float64) for x in (a, b)]
        return by_sqrtm(*((x.mean(axis=0), np.cov(x, rowvar=False)) for x in both))

    ours, fast = timed(lambda: frechet_distance(a, b), repeats)
    theirs, slow = timed(plain, 1)
    return compared(f"d = {d:,}, {n:,} images each, from features", ours, fast, theirs, slow)


def by_sqrtm(first, second):
    """As published FID code has it: the covariances' product, its square root, the real part's trace."""
    (mu1, c1), (mu2, c2) = first, second
    root = scipy.linalg.sqrtm(c1 @ c2)
    return float(np.square(mu1 - mu2).sum() + np.trace(c1) + np.trace(c2) - 2 * np.trace(root).real)


def compared(what, ours, fast, theirs, slow):
    error = abs(ours - theirs) / abs(theirs)
    print(
        f"Frechet distance, {what}: {slow:.2f} s by sqrtm, {fast:.3f} s here; {theirs:.6f} and {ours:.6f}", flush=True
    )
    assert error < 1e-6, f"differs by {error:.1e}"
    return round(slow / fast, 1)


def nearest(n, d, repeats):
    """seconds of `two_nearest`, n queries among n, over those of the bare product."""
    train, queries = features(n, d, 2), features(n, d, 3)
    a, b = torch.from_numpy(queries), torch.from_numpy(train)

    def product():
        return sum(float((block @ b.T)[0, 0]) for block in a.split(1000))

    product()
    by_faiss = faiss_search(train, queries)
    ratios = []
    for _ in range(repeats):
        bare, ours = timed(product, 1)[1], timed(lambda: two_nearest(queries, train), 1)[1]
        ratios.append(ours / bare)
        angle = timed(lambda: nearest_cosine(queries, train), 1)[1]
        rival = f", faiss {timed(by_faiss, 1)[1]:.2f} s" if by_faiss else ""
        print(f"two nearest of {n:,} among {n:,}, d = {d:,}: {ours:.2f} s, the product alone {bare:.2f} s", end="")
        print(f", nearest in angle {angle:.2f} s{rival}", flush=True)
    return round(statistics.median(ratios), 2)


def faiss_search(train, queries):
    """The same search by faiss; None where it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError:
        return None
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatL2(train.shape[1])
    index.add(train)
    return lambda: index.search(queries, 2)


def at_scale(n, d):
    """Prints seconds and memory of one search in either way; float32 features are made in blocks."""
    rng = np.random.default_rng(4)
    train, queries = (np.empty((n, d), dtype=np.float32) for _ in range(2))
    for values in (train, queries):
        for start in range(0, n, 1000):
            rng.standard_normal(out=values[start : start + 1000], dtype=np.float32)
    for find in (two_nearest, nearest_cosine):
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        seconds = timed(lambda find=find: find(queries, train), 1)[1]
        grown = memory("VmHWM") - before
        print(f"{find.__name__} of {n:,} among {n:,}, d = {d:,}: {seconds:.0f} s, {grown:,.0f} MiB", flush=True)


def memory(name):
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


class Keep:
    """A reporter that lets a trial go on and keeps its rungs."""

    def __init__(self):
        self.rungs = []

    def progress(self, images_seen, loss):
        """Nobody asks."""

    def rung(self, result, *, resumed=False):
        """Go on."""
        self.rungs.append(result)
        return True

    def noted(self, text):
        """Say it."""
        print(text)

    def leaving(self):
        """Nobody has to leave."""
        return False


def share():
    """Sampling and scoring over training, in seconds, of a rung of the default search."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(validate(load("search", [f"output_dir={folder}"])))
        subsets, kept = prepared.subsets, Keep()
        references = References.build(prepared.extractor, subsets.train, subsets.heldout)
        data = TrainingData(subsets.train, subsets.heldout, None, prepared.extractor, references)
        settings = replace(prepared.settings, rungs=prepared.settings.rungs[:2])
        run_trial(settings, data, World(), kept, workdir=Path(folder))
    first, second = kept.rungs
    training = (second.images_seen - first.images_seen) / second.scores["images_per_second"]
    print(f"a rung: {training:.2f} s of training, {second.seconds - training:.2f} s of sampling and scoring")
    return round((second.seconds - training) / training, 3)


def timed(work, repeats):
    """(the result, the least seconds)."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return result, best


if __name__ == "__main__":
    main()
