"""The whole `make search`, now and at an earlier commit: time to the same hypervolume, runs taking turns.

    python benchmarks/whole.py [--before COMMIT] [--repeats 3] [--quick] [OVERRIDE ...]

Both are run as their users run them, from checkouts of their commits, with output folders of their own; each pair has a
seed of its own. Compiled kernels are kept between runs, as they are on a user's machine. Each run is timed from its
command to its last word, confirmation included, and to the moment when its hypervolume has reached what both runs of a
pair reach in the end. `vs_before` is the median over pairs of the first, `to_hypervolume` of the second. The last line
is one JSON object.
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

HERE = Path(__file__).resolve().parents[1]
BEFORE = "9d40cf4"  # the last commit before trials ran in warm slots
QUICK = ["trials=2", "trial.rungs=[1280,2560]", "evaluation.samples=100", "confirm.top=0"]
_SO_FAR = re.compile(r"hypervolume ([0-9.e+-]+)$")
_FINAL = re.compile(r"^Hypervolume ([0-9.e+-]+),")


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
                print(
                    f"{repeat} {name}: {runs[name]['seconds']:.0f} s, hypervolume {runs[name]['final']:.4g}", flush=True
                )
            target = min(run["final"] for run in runs.values())
            reached = {name: when(run, target) for name, run in runs.items()}
            print(
                f"{repeat} hypervolume {target:.4g}: {reached['before']:.0f} s before, {reached['now']:.0f} s now",
                flush=True,
            )
            pairs.append((runs, reached))
    whole = statistics.median(runs["before"]["seconds"] / runs["now"]["seconds"] for runs, _ in pairs)
    same = statistics.median(reached["before"] / reached["now"] for _, reached in pairs)
    finals = {name: [runs[name]["final"] for runs, _ in pairs] for name in ("before", "now")}
    print(f"hypervolumes before {finals['before']}, now {finals['now']}")
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
    """One search: its seconds, its final hypervolume, and (seconds, hypervolume so far) as trials ended."""
    command = [sys.executable, "-u", "-m", "ambient_ray.search", f"output_dir={folder}", *overrides]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    environment["PYTHONPATH"] = str(checkout)  # before the installed one
    began, progress, final = time.monotonic(), [], None
    process = subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, bufsize=1, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := _SO_FAR.search(line.strip()):
            progress.append((time.monotonic() - began, float(found[1])))
        if found := _FINAL.search(line):
            final = float(found[1])
    if process.wait(timeout=120) or final is None:
        raise SystemExit("".join(lines))
    return {"seconds": time.monotonic() - began, "final": final, "progress": progress}


def when(run, target):
    """Seconds until the hypervolume was there; what is printed has three digits, so within half of the last."""
    return next((at for at, value in run["progress"] if value >= target * (1 - 5e-3)), run["seconds"])


if __name__ == "__main__":
    main()
