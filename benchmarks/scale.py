"""Where a search saturates: driver, judge, store and tracking under 1,000 trials at once, 10,000 in a study.

    python benchmarks/scale.py [--quick] [--only driver judge store tracking server]

No trial trains: `synthetic.py` scores configurations by a formula and drives the real parts. Milliseconds of the
driver are processor time, which a busy machine does not change; those of the judge's actor and of what waits for a disk
are on the clock. The last line is one JSON object, of the largest study that was driven; max_trials_per_hour is what
the part would do if it did nothing else.

    driver     what a trial costs the driver in all (ask, rungs, end; study in memory), by sampler and size of the study
    judge      deciding at a rung; questions a second that the actor answers to 1,000 askers; its rebuilding
    store      the journal: appends, bytes and time a trial, and its reading when a search is continued
    tracking   the recorder into SQLite, and the start when a search is continued
    server     the same into an MLflow server on this machine (not with --quick: it takes 20 s to start)
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import OBJECTIVES, POLICY, Drive
from tracked import record, server

from ambient_ray.tuning.judge import Judge, start_judge
from ambient_ray.tuning.running.run import start_ray
from ambient_ray.tuning.study import Study

AT_ONCE, LARGEST = 1_000, 10_000
RUNGS_A_TRIAL = 1.8  # where about one in two of the dominated is stopped at each of four rungs; measured below


def driver(sizes: list[int], asks: int) -> dict[str, Any]:
    """Milliseconds a trial by sampler, with 1,000 at once, in studies of these sizes."""
    print(f"\ndriver: {AT_ONCE:,} trials at once, ten dimensions, ms of processor time")
    print(f"{'sampler':<9}{'trials':>8}{'first ask':>11}{'ask':>8}{'rung':>7}{'end':>7}{'a trial':>9}{'trials/h':>12}")
    found: dict[str, Any] = {}
    drive = Drive("draws", "memory:", AT_ONCE)
    for size in sizes:
        for sampler in ("tpe", "nsga2"):
            drive.until(size - 2 * asks if sampler == "tpe" else size - asks)
            drive.hand_over(sampler)
            before = drive.begun
            drive.until(before + 1)
            first = drive.ms("ask", before)
            drive.until(before + asks)
            ask, rung, end = (drive.ms(kind, before + 1) for kind in ("ask", "rung", "end"))
            trial = drive.per_trial(before + 1)
            shown = f"{first:>11.0f}{ask:>8.1f}{rung:>7.2f}{end:>7.2f}{trial:>9.1f}{3.6e6 / trial:>12,.0f}"
            print(f"{sampler:<9}{size:>8,}{shown}", flush=True)
            found[sampler] = trial
            drive.proposer = Drive("draws", "memory:", 1).proposer
    rungs = len(drive.seconds["rung"]) / max(1, len(drive.seconds["end"]))
    print(f"rungs a trial {rungs:.2f}; judge {drive.ms('judge', sizes[-1] - 2 * asks):.3f} ms a rung in process")
    return {
        "driver_ms_per_trial": round(found["tpe"], 1),
        "driver_ms_per_trial_nsga2": round(found["nsga2"], 1),
        "driver_max_trials_per_hour": round(3.6e6 / found["tpe"], -2),
        "rungs_per_trial": round(rungs, 2),
    }


def judge(seconds: float, trials: int, folder: Path) -> dict[str, Any]:
    """The judge's actor: rebuilt from a study of this size, then asked by 1,000 trials at once."""
    import ray

    drive = Drive("draws", f"journal:{folder}/study.journal", AT_ONCE)
    with _without_waiting_for_the_disk():
        drive.until(trials)
    rebuilt, clock = time.process_time(), time.perf_counter()
    Judge(drive.study.name, drive.study.storage_url, OBJECTIVES, POLICY)
    rebuilt, clock = time.process_time() - rebuilt, time.perf_counter() - clock
    print(f"\njudge: rebuilt from {trials:,} trials in {rebuilt:.1f} s of processor time, {clock:.1f} s on the clock")
    start_ray("local", 2)
    try:
        actor = start_judge(drive.study, POLICY)
        ray.get(actor.left_out.remote())
        askers = [ray.remote(num_cpus=0)(_Asker).remote(actor, trials + 250 * k) for k in range(4)]
        rates = {}
        for kind in ("decide", "beat"):
            counts = ray.get([asker.ask.remote(kind, 250, seconds) for asker in askers])
            rates[kind] = sum(counts) / seconds
            print(f"{kind}: {rates[kind]:,.0f} a second from 4 processes with 250 questions each under way")
    finally:
        ray.shutdown()
    return {
        "judge_ms_per_rung": round(1e3 / rates["decide"], 2),
        "judge_beats_per_second": round(rates["beat"]),
        "judge_rebuild_s": round(rebuilt, 1),
        "judge_max_trials_per_hour": round(3600 * rates["decide"] / RUNGS_A_TRIAL, -3),
    }


class _Asker:
    """Many trials that ask at once."""

    def __init__(self, judge: Any, first: int) -> None:
        self._judge, self._first, self._space = judge, first, None

    def ask(self, kind: str, at_once: int, seconds: float) -> int:
        import ray

        rng, answered, began = np.random.default_rng(self._first), 0, time.perf_counter()
        others = {f"other_{i}": 0.5 for i in range(40)}
        waiting: list[Any] = []
        while time.perf_counter() - began < seconds:
            while len(waiting) < at_once:
                number = self._first + len(waiting)
                scores = {"fd": 5 + 60 * float(rng.random()), "f_mem": float(rng.random()), **others}
                call = (number, "ambient", 2, scores) if kind == "decide" else (number, 1000, 0.5)
                waiting.append(getattr(self._judge, kind).remote(*call))
            done, waiting = ray.wait(waiting, num_returns=at_once // 5)
            ray.get(done)
            answered += len(done)
        ray.get(waiting)
        return answered


def store(trials: int, folder: Path) -> dict[str, Any]:
    """The journal at this many trials: what a trial appends, and what reading it takes."""
    path = folder / "store.journal"
    drive = Drive("draws", f"journal:{path}", AT_ONCE)
    with _without_waiting_for_the_disk():
        drive.until(trials - 50)
    lines, size, rungs = _lines(path), path.stat().st_size, len(drive.seconds["rung"])
    began, ended = time.perf_counter(), len(drive.seconds["end"])
    drive.until(trials)
    appends = (_lines(path) - lines) / 50
    disk = 1e3 * (time.perf_counter() - began) / (_lines(path) - lines)
    ended = len(drive.seconds["end"]) - ended
    cpu = time.process_time()
    kept = Study("scale", f"journal:{path}", OBJECTIVES)
    loaded = time.process_time() - cpu
    assert len(kept.trials()) == trials
    rung_ms = drive.ms("rung", trials - 50)
    print(
        f"\nstore: journal of {trials:,} trials, {rungs:,} rungs: {size / 1e6:.0f} MB;"
        f" {size / trials / 1e3:.1f} kB a trial, read in {loaded:.1f} s of processor time"
    )
    print(
        f"{appends:.1f} appends a trial, {disk:.2f} ms each on this disk (each waits for it: fsync),"
        f" {rung_ms:.2f} ms of processor time a rung ({ended} trials ended meanwhile)"
    )
    return {
        "store_ms_per_rung": round(disk, 2),
        "store_appends_per_trial": round(appends, 1),
        "store_load_s": round(loaded, 1),
        "store_mb": round(size / 1e6),
        "store_max_trials_per_hour": round(3.6e6 / (appends * disk), -2),
    }


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


@contextmanager
def _without_waiting_for_the_disk() -> Iterator[None]:
    """A study is filled faster when nothing must survive a power failure."""
    fsync = os.fsync
    os.fsync = lambda descriptor: None
    try:
        yield
    finally:
        os.fsync = fsync


def tracking(trials: int, folder: Path, uri: str | None = None) -> dict[str, Any]:
    """The recorder into SQLite (or a server), two rungs a trial."""
    name = "server" if uri else "tracking"
    blocks, reopened, megabytes = record(trials, folder, uri)
    first, last = blocks[0], blocks[-1]
    print(f"\n{name}: {trials:,} trials of 2 rungs; ms a trial on the clock, by fifths of them:", end=" ")
    print(", ".join(f"{block:.1f}" for block in blocks))
    kept = f"{megabytes / trials * 1e3:.0f} kB a trial; " if megabytes else ""
    print(f"{kept}taken up again in {reopened:.1f} s; last fifth over first {last / first:.2f}")
    return {
        f"{name}_ms_per_rung": round(last / 2, 1),
        f"{name}_max_trials_per_hour": round(3.6e6 / last, -2),
        f"{name}_reopen_s": round(reopened, 1),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller studies: under 60 s")
    parser.add_argument("--only", nargs="+", choices=["driver", "judge", "store", "tracking", "server"])
    given = parser.parse_args()
    quick, figures = given.quick, {"trials_at_once": AT_ONCE, "trials": LARGEST}
    with tempfile.TemporaryDirectory(prefix="ambient-scale-") as name:
        folder = Path(name)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "driver": lambda: driver([LARGEST] if quick else [2_000, 5_000, LARGEST], 6 if quick else 60),
            "judge": lambda: judge(2.0 if quick else 10.0, 2_000 if quick else LARGEST, folder),
            "store": lambda: store(2_000 if quick else LARGEST, folder),
            "tracking": lambda: tracking(30 if quick else 1_500, folder),
            "server": lambda: server(lambda uri: tracking(300, folder, uri), folder),
        }
        for part, measure in parts.items():
            if part in (given.only or [key for key in parts if key != "server" or not quick]):
                figures |= measure()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
