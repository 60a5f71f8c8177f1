"""How long a user waits: for `--help`, and for the first training step of a search's first trial.

    python benchmarks/startup.py [--quick]

Whole processes, as a user starts them, on the clock: the default search with two trials of one step each, so that both
slots start as they do in a real one. The first step's time is taken from its checkpoint: when the rung was kept, less
what sampling and scoring took. Runs share one output folder: the first has no MLflow database, no classifier and
perhaps no compiled kernels yet and is shown apart. The last line printed is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP = 128  # images: one batch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s on a quiet machine")
    options = parser.parse_args()
    helps = [seconds(["-m", "ambient_ray.search", "--help"]) for _ in range(3 if options.quick else 9)]
    print(f"--help: {statistics.median(helps):.2f} s, median of {len(helps)}")
    with tempfile.TemporaryDirectory() as folder:
        firsts = [first_step(Path(folder), f"run{i}") for i in range(2 if options.quick else 6)]
    print(f"first training step: {firsts[0]:.1f} s after the command in a new output folder, then")
    print("  " + ", ".join(f"{s:.1f}" for s in firsts[1:]) + " s")
    print(
        json.dumps(
            {
                "help_s": round(statistics.median(helps), 2),
                "first_step_s": round(statistics.median(firsts[1:]), 1),
                "first_step_new_folder_s": round(firsts[0], 1),
            }
        )
    )


def seconds(arguments):
    began = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=300)
    return time.monotonic() - began


def first_step(folder, study):
    """Seconds from the start of the command to the end of the first step of whichever trial is first."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = ["-m", "ambient_ray.search", f"study={study}", f"output_dir={folder}", "trials=2"]
    command += [f"trial.rungs=[{STEP}]", "evaluation.samples=20", "confirm.top=0"]
    began = time.time()
    subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, timeout=600, env=environment, cwd=folder
    )
    steps = []
    for path in (folder / study / "trials").glob("*/rung-*/checkpoint.json"):
        rung = json.loads(path.read_text())["history"][0]
        training = STEP / rung["scores"]["images_per_second"]
        steps.append(path.stat().st_mtime - rung["seconds"] + training)
    return min(steps) - began


if __name__ == "__main__":
    main()
