"""A small search as its user starts it, in a process of its own: what it prints, leaves, and what is done to it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# A baseline that diverges at once is part of the space: its trial must fail with its reason and nothing else.
SPACE = """
parameters:
  sigma_tn: {low: 0.1, high: 4.0, log: true}
  noisy_ratio: {low: 0.1, high: 0.9}
fixed: {mixing: set_split}
baselines:
  - {sigma_tn: 0.0}
  - {sigma_tn: 0.5, lr: 1.0e+12}
"""
SMALL = [
    "study=story", "search_space=story", "dataset.n_train=200",
    "backbone=unet_small", "backbone.block_out_channels=[8,16]",
    "training.batch_size=32", "training.precision=fp32", "training.lr=2e-3", "training.warmup_images=320",
    "trial.rungs=[640,1280,2560]", "trial.rung_values=null", "evaluation.samples=64", "evaluation.sample_steps=8",
    "confirm.top=0", "trial.pack=1",
]  # fmt: skip


# What a user's environment holds and nothing may print or keep (test_main_job.py looks).
SECRET = "Zq7correcthorse"
CREDENTIALS = {
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}1", "MLFLOW_TRACKING_PASSWORD": f"{SECRET}2", "PGPASSWORD": f"{SECRET}3",
    "RAY_AUTH_TOKEN": f"{SECRET}{'0' * 40}",
}  # fmt: skip


def environment():
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    return {**kept, **CREDENTIALS, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def start(folder, *overrides, module="search", variables=None, space=SPACE, program=None):
    """`program`: what Python runs instead of the module."""
    (folder / "spaces").mkdir(exist_ok=True)
    (folder / "spaces" / "story.yaml").write_text(space)
    command = [
        sys.executable, "-u", *(program or ["-m", f"ambient_ray.{module}"]), *SMALL,
        f"search_spaces={folder}/spaces", f"output_dir={folder}/out", *overrides,
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment() | (variables or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=1,
        # A shell's background job ignores SIGINT, and so would all that it starts, these searches too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def until(process, text, seconds=240):
    """Read the output up to a line with `text`."""
    lines, deadline = [], time.monotonic() + seconds
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
        assert time.monotonic() < deadline, "".join(lines)
    pytest.fail(f"ended without {text!r}:\n{''.join(lines)}")


def there(find, seconds=400):
    """What `find` finds, once it is there."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


def run(folder, *overrides, module="search", seconds=400):
    process = start(folder, *overrides, module=module)
    try:
        out, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out


def workers_under(process):
    """The Ray Train workers that live among a process's descendants."""

    def works(descendant):
        try:
            return "RayTrainWorker" in "".join(descendant.cmdline())
        except psutil.NoSuchProcess:  # gone since it was listed, or a zombie
            return False

    return [child for child in psutil.Process(process).children(recursive=True) if works(child)]


def kill_workers(search):
    """SIGKILL to every Ray Train worker under a search's process; how many there were."""
    workers = workers_under(search)
    for worker in workers:
        worker.kill()
    return len(workers)


def runs_of(folder):
    """(kind or trial number, status) of every MLflow run of the story."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/out/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments() if e.name == "story"]
    return client, client.search_runs(experiments)


def trials_of(runs):
    return {int(r.data.tags["ambient_ray.trial"]): r for r in runs if "ambient_ray.trial" in r.data.tags}
