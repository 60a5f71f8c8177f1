"""What scale.py records into MLflow: synthetic trials through the search's own recorder; a server for them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from synthetic import rung_of, wide_space

from ambient_ray.tracking import RungScores, StudyRecorder, resolve_store
from ambient_ray.tuning.points import uniform

T = TypeVar("T")
_BLOCKS, _RUNGS = 5, 2


def record(trials: int, folder: Path, uri: str | None = None) -> tuple[list[float], float, float]:
    """Record trials of two rungs each without pictures, as many at once as the queue holds.

    Returns:
        (milliseconds a trial on the clock in each fifth of them, seconds until the same study is taken up again,
        megabytes of the database, 0 for a server's).
    """
    space = wide_space()
    into = resolve_store(uri, folder)
    recorder = StudyRecorder(into)
    recorder.start("scale", {"seed": 0, "trials": trials})
    _written(recorder)
    blocks: list[float] = []
    for block in np.array_split(np.arange(trials), _BLOCKS):
        began = time.perf_counter()
        for number in map(int, block):
            settings = uniform(np.random.default_rng(number), space)
            recorder.trial_started(number, "ambient", settings)
            for index in range(_RUNGS):
                rung = rung_of(space, number, settings, index)
                recorder.rung_scored(number, RungScores(index, rung.images_seen, rung.scores, rung.facts))
            recorder.trial_ended(number, "stopped", f"dominated at rung {_RUNGS} of 4")
        _written(recorder)
        blocks.append(1e3 * (time.perf_counter() - began) / len(block))
    assert not recorder.close(60), recorder.problems
    began = time.perf_counter()
    again = StudyRecorder(into)
    again.start("scale", {"seed": 0, "trials": trials})
    _written(again)
    reopened = time.perf_counter() - began
    again.close(60)
    database = folder / "mlflow.db"
    return blocks, reopened, database.stat().st_size / 1e6 if uri is None else 0.0


def _written(recorder: StudyRecorder) -> None:
    if not recorder.flush(1800):
        raise SystemExit("MLflow is still writing after half an hour")
    recorder.check()


def server(measure: Callable[[str], T], folder: Path) -> T | dict[str, Any]:
    """Run `measure` against an MLflow server on this machine, started and ended here; {} where none starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = folder / "server"
    where.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--backend-store-uri", f"sqlite:///{where}/mlflow.db", "--artifacts-destination", str(where / "files")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    began = time.perf_counter()
    with (where / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > 120:
                print(f"\nserver: none started within {time.perf_counter() - began:.0f} s; left out")
                return {}
            time.sleep(0.25)
        print(f"\nserver: answers after {time.perf_counter() - began:.0f} s, two workers, SQLite behind it")
        return measure(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server's own session: its workers, and nobody else's
        process.wait(30)
        shutil.rmtree(where, ignore_errors=True)


def _answers(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
