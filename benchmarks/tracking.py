"""What MLflow costs: a share of a real search's time, milliseconds a rung, and seconds for a study's pictures.

    python benchmarks/tracking.py [--quick]

share_of_search: of a default search (12 trials on the digits, confirmed; minutes). Counted against MLflow are the
processor time of its writer's thread, over the processor time that there is (wall time x cores), and all wall time in
which the search waits for it before the first trial and after the last. ms_per_rung: processor time of the writer's
thread for a rung with its scores and pictures, in a study of 1,000 trials. refresh_s: all pictures of such a study's
page, in a thread that has drawn them before, as a search's has.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import OBJECTIVES, RUNGS, rung_of, wide_space
from tracked import record

from ambient_ray.evaluation import partial_copies
from ambient_ray.reporting.figures.study_figures import StudyView, draw_study, samples_thumbnail
from ambient_ray.tracking import StudyRecorder, resolve_store
from ambient_ray.tracking.recording.events import RungScored, StudyStarted, TrialStarted
from ambient_ray.tracking.recording.rung_record import RungScores
from ambient_ray.tracking.recording.runs import StudyRuns
from ambient_ray.tuning.points import uniform
from ambient_ray.tuning.records import TrialRecord, settled_reference

CORES = len(os.sched_getaffinity(0))


def share_of_search(trials: int, folder: Path, *arguments: str) -> dict[str, float]:
    """Run a default search with its stopwatches on."""
    from ambient_ray.console import session
    from ambient_ray.console.command import load
    from ambient_ray.console.configuration import validate

    config = validate(load("search", [f"trials={trials}", f"output_dir={folder}", *arguments]))
    waited: dict[str, float] = {}
    spent: dict[str, float] = {}
    with (
        _by_event(spent),
        _stopwatch(session, "start_recording", waited),
        _stopwatch(session, "record_conclusion", waited),
    ):
        recorders: list[StudyRecorder] = []
        made = session.StudyRecorder
        session.StudyRecorder = lambda *given, **named: recorders.append(made(*given, **named)) or recorders[-1]  # type: ignore[misc,assignment,func-returns-value]
        try:
            with _stopwatch(made, "close", waited):
                began = time.perf_counter()
                session.conduct(config)
                wall = time.perf_counter() - began
        finally:
            session.StudyRecorder = made  # type: ignore[misc]
    writer = recorders[0].cpu_seconds
    at_end = waited["record_conclusion"] + waited["close"]
    share = (writer / CORES + waited["start_recording"] + at_end) / wall
    print(
        f"search of {trials} trials: {wall:.0f} s; writer's thread {writer:.1f} s on {CORES} cores, of which pictures"
        f" of the study {recorders[0].refreshed or 0:.2f} s the last time; waited at the start"
        f" {waited['start_recording']:.2f} s, at the end {at_end:.2f} s: {share:.2%}"
    )
    parts = sorted(spent.items(), key=lambda part: -part[1])
    print("the writer's thread, by what it wrote: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts))
    return {"share_of_search": round(share, 4)}


@contextmanager
def _by_event(seconds: dict[str, float]) -> Iterator[None]:
    """Count the thread time of each kind of event, and of opening the store, into `seconds`."""
    written, opened = StudyRuns.__dict__["write"], StudyRuns.__init__

    def write(self: StudyRuns, event: Any) -> Any:
        began = time.thread_time()
        try:
            return written.__get__(self, StudyRuns)(event)
        finally:
            name = type(event).__name__
            seconds[name] = seconds.get(name, 0.0) + time.thread_time() - began

    def open_store(self: StudyRuns, *given: Any, **named: Any) -> None:
        began = time.thread_time()
        opened(self, *given, **named)
        seconds["opening"] = time.thread_time() - began

    StudyRuns.write, StudyRuns.__init__ = write, open_store  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        StudyRuns.write, StudyRuns.__init__ = written, opened  # type: ignore[method-assign]


@contextmanager
def _stopwatch(owner: Any, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Count the wall time of all calls of `owner.name` into `seconds[name]`."""
    called = getattr(owner, name)
    seconds[name] = 0.0

    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return called(*given, **named)
        finally:
            seconds[name] += time.perf_counter() - began

    setattr(owner, name, timed)
    try:
        yield
    finally:
        setattr(owner, name, called)


def ms_per_rung(trials: int, measured: int, folder: Path) -> dict[str, float]:
    """The writer's own time for a rung of 8x8 images, 500 samples and 90 scores, in a study of so many trials."""
    record(trials, folder)
    runs, space = StudyRuns(resolve_store(None, folder)), wide_space()
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    runs.write(StudyStarted("scale", {}, {}, None, train))
    scores = {f"score_{i}": float(v) for i, v in enumerate(rng.random(90))}
    checkpoint = _checkpoint(train, folder / "checkpoint")
    plain, drawn = [], []
    for number in range(trials, trials + measured):
        settings = uniform(np.random.default_rng(number), space)
        runs.write(TrialStarted(number, "ambient", settings))
        for index, (where, into) in enumerate([(None, plain), (checkpoint, drawn)]):
            began = time.thread_time()
            runs.write(RungScored(number, RungScores(index, RUNGS[index], scores, {"extractor": "pixels"}, where)))
            into.append(time.thread_time() - began)
    bare, whole = (1e3 * statistics.median(times) for times in (plain, drawn))
    print(f"a rung at {trials:,} trials: {whole:.1f} ms, without its pictures {bare:.1f} ms")
    return {"ms_per_rung": round(whole, 1)}


def _checkpoint(train: Any, folder: Path) -> Path:
    """A checkpoint's samples of which every fourth is a copy, with what the scoring keeps."""
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 256, (500, 8, 8, 1), dtype=np.uint8)
    samples[::4] = train[rng.integers(0, len(train), 125)]
    partial = partial_copies(samples, train)
    folder.mkdir()
    np.savez(
        folder / "samples.npz", samples=samples, nearest_index=rng.integers(0, 300, 500), ratio=rng.random(500),
        similarity=rng.random(500), most_similar_first=rng.permutation(500),
        features=rng.random((500, 64)).astype(np.float16), partial_area=partial.area, partial_index=partial.index,
        partial_tiles=partial.tiles,
    )  # fmt: skip
    return folder


def refresh(trials: int, folder: Path) -> dict[str, float]:
    """All pictures of a study of so many trials in ten dimensions, two to four rungs each."""
    space, found = wide_space(), []
    for number in range(trials):
        settings = {"sigma_tn": 0.0} if number == 0 else uniform(np.random.default_rng(number), space)
        length = 4 if number == 0 else 2 + number % 3
        rungs = tuple(rung_of(space, number, settings, index) for index in range(length))
        state = "finished" if length == 4 else "stopped"
        found.append(TrialRecord(number, "ddpm" if number == 0 else "ambient", settings, state, rungs))
    reference = settled_reference(found, OBJECTIVES, 1.0)
    view = StudyView("scale", found, OBJECTIVES, reference, RUNGS, tuple(space.parameters))
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    picture = samples_thumbnail(images)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        drawn = draw_study(view, folder, thumbnail=lambda candidate: picture)
        times.append(time.perf_counter() - began)
    megabytes = sum(path.stat().st_size for path in drawn.values()) / 1e6
    least = min(times[1:])
    print(f"{len(drawn)} pictures of {trials:,} trials: {least:.2f} s (at first {times[0]:.2f} s), {megabytes:.1f} MB")
    return {"refresh_s": round(least, 2)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller studies, no search: under 60 s")
    parser.add_argument("--only", action="append", choices=["search", "rung", "refresh"])
    parser.add_argument("search", nargs="*", help="more settings of the search")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ambient-tracking-") as name:
        folder = Path(name)
        for part in ("rung", "refresh", "search"):
            (folder / part).mkdir()
        parts = {
            "rung": lambda: ms_per_rung(100 if given.quick else 1_000, 20, folder / "rung"),
            "refresh": lambda: refresh(1_000, folder / "refresh"),
            "search": lambda: share_of_search(12, folder / "search", *given.search),
        }
        for part in given.only or (["rung", "refresh"] if given.quick else list(parts)):
            figures |= parts[part]()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
