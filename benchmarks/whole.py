"""The whole `make search`, now and at an earlier commit: time to the same hypervolume, runs taking turns.

    python benchmarks/whole.py [--before COMMIT] [--repeats 3] [--quick] [OVERRIDE ...]

Both are run as their users run them, from checkouts of their commits, with output folders of their own; each pair has a
seed of its own. Compiled kernels are kept between runs, as they are on a user's machine. Each run is timed from its
command to its last word, and to the moment when the candidates scored so far dominate what both runs of the pair do in
the end. What they dominate is counted below one point for both, the larger of the two bounds that the searches print:
each is twice its own DDPM run's best distance, and a search is no better for a worse DDPM. `vs_before` is the median
over pairs of the first, `to_hypervolume` of the second. The last line is one JSON object.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ambient_ray.tuning.pareto import hypervolume

HERE = Path(__file__).resolve().parents[1]
BEFORE = "9d40cf4"  # the last commit before trials ran in warm slots
QUICK = ["trials=2", "trial.rungs=[1280,2560]", "evaluation.samples=100", "confirm.top=0"]
TRIALS = 12  # of the default search
_BOUND = re.compile(r"^Hypervolume [0-9.e+-]+, bounded by fd_classifier ([0-9.e+-]+)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first pair; each has the next one")
    parser.add_argument("--quick", action="store_true", help="two tiny trials, one repeat: does it run at all?")
    parser.add_argument("overrides", nargs="*", help="for both searches, as on the command line")
    options = parser.parse_args()
    overrides = (QUICK if options.quick else []) + options.overrides
    pairs = []
    with tempfile.TemporaryDirectory() as folder, worktree(options.before) as earlier:
        for repeat in range(1 if options.quick else options.repeats):
            runs = {}
            order = [("before", earlier), ("now", HERE)]
            for name, checkout in order if repeat % 2 == 0 else reversed(order):
                runs[name] = run(
                    checkout, Path(folder) / f"{name}{repeat}", [f"seed={options.seed + repeat}", *overrides]
                )
                print(f"{repeat} {name}: {runs[name]['seconds']:.0f} s", flush=True)
            bound = max(run["bound"] for run in runs.values())
            dominated = {name: so_far(run["rungs"], bound) for name, run in runs.items()}
            finals = {name: values[-1][1] for name, values in dominated.items()}
            reached = {name: when(values, min(finals.values())) for name, values in dominated.items()}
            print(
                f"{repeat} below {bound:.4g}: {finals['before']:.3f} before, {finals['now']:.3f} now; as much as both:"
                f" {reached['before']:.0f} s before, {reached['now']:.0f} s now",
                flush=True,
            )
            pairs.append((runs, reached))
    whole = statistics.median(runs["before"]["seconds"] / runs["now"]["seconds"] for runs, _ in pairs)
    same = statistics.median(reached["before"] / reached["now"] for _, reached in pairs)
    print(json.dumps({"vs_before": round(whole, 2), "to_hypervolume": round(same, 2), "pairs": len(pairs)}))


@contextlib.contextmanager
def worktree(commit):
    """A checkout of a commit in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "before")
        subprocess.run(["git", "-C", HERE, "worktree", "add", "--quiet", "--detach", path, commit], check=True)
        try:
            yield Path(path)
        finally:
            subprocess.run(["git", "-C", HERE, "worktree", "remove", "--force", path], check=True)


def run(checkout, folder, overrides):
    """One search: its seconds, its bound of the fidelity, and (seconds, fidelity, memorization) of its rungs."""
    command = [sys.executable, "-u", "-m", "ambient_ray.search", f"output_dir={folder}", *overrides]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    environment["PYTHONPATH"] = str(checkout)  # before the installed one
    began = time.time()
    done = subprocess.run(
        command, cwd=checkout, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=7200,
    )  # fmt: skip
    seconds = time.time() - began
    bound = next((float(found[1]) for line in done.stdout.splitlines() if (found := _BOUND.search(line))), None)
    if done.returncode or bound is None:
        raise SystemExit(done.stdout)
    rungs = []
    for path in folder.glob("*/trials/*/rung-*/checkpoint.json"):
        if int(path.parents[1].name.partition("-")[0]) >= TRIALS:
            continue  # a replica: confirmation measures again what was found
        scores = json.loads(path.read_text())["history"][-1]["scores"]
        rungs.append((path.stat().st_mtime - began, scores["fd_classifier"], scores["f_mem"]))
    return {"seconds": seconds, "bound": bound, "rungs": sorted(rungs)}


def so_far(rungs, bound):
    """(seconds, hypervolume) after each scored rung, below `bound` and all images copied."""
    points = np.array([rung[1:] for rung in rungs])
    return [(at, hypervolume(points[: i + 1], [bound, 1.0])) for i, (at, *_) in enumerate(rungs)]


def when(values, target):
    """Seconds until so much was dominated."""
    return next(at for at, value in values if value >= target - 1e-12)


if __name__ == "__main__":
    main()
