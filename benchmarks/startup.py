"""How long a user waits: for `--help`, and for the first training step of a search's first trial.

    python benchmarks/startup.py [--quick]

Whole processes, as a user starts them, on the clock: the default search with an early first rung, interrupted when
that is there. The first step's time is taken from the rung's checkpoint: when it was kept, less what its training,
sampling and scoring took, plus a step. Runs share one output folder: the first has no MLflow database, no classifier
and perhaps no compiled kernels yet and is shown apart. The last line printed is one JSON object.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 128
RUNGS = [1280, 307200]  # as long as the default, so that it is compiled; the first rung is soon there


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
    command = ["-m", "ambient_ray.search", f"study={study}", f"output_dir={folder}", f"trial.rungs={RUNGS}"]
    command += ["evaluation.samples=20", "confirm.top=0"]
    began, rungs = time.time(), []
    search = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, env=environment, cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    while not rungs and search.poll() is None and time.time() < began + 600:
        time.sleep(0.2)
        rungs = list((folder / study / "trials").glob("*/rung-00-*/checkpoint.json"))
    search.send_signal(signal.SIGINT)
    search.wait(timeout=120)
    steps = []
    for path in rungs:
        rung = json.loads(path.read_text())["history"][0]
        step = BATCH / rung["scores"]["images_per_second"]
        steps.append(path.stat().st_mtime - rung["seconds"] + step)
    return min(steps) - began


if __name__ == "__main__":
    main()
