"""The search's driver is killed at random moments, its clock jumps, MLflow is away: the search ends as it would have.

One trial runs at a time where scores are compared, so that a search is a function of its seed and of what its study
holds; the processor gives the same bits for the same training.
"""

import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import start, trials_of

from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.study import Study

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

OBJECTIVES = Objectives("fd_classifier", "f_mem")
MARK = "AMBIENT_FAULT_LIFE"
#: Seconds after which nothing of a killed search may be left on the machine; ten times what it takes on a quiet one.
GONE = 60.0
SEED = 5
#: What stands among a rung's scores and is none.
SPEED = "images_per_second"
#: Ray gives its own start 30 s, which a machine with ten times its load does not keep: the same command again.
STARVED = "timed out during startup"


def small(trials, *more):
    return [
        "study=killed", f"trials={trials}", "trial.max_concurrent=1", "trial.rungs=[320,640]", "confirm.top=0",
        "evaluation.samples=48", "evaluation.sample_steps=6", "sampler.n_startup_trials=2", *more,
    ]  # fmt: skip


class Life:
    """One process that searches: its lines as they come, and whatever Ray starts for it, by a mark of its own."""

    def __init__(self, folder, overrides, **variables):
        self.mark = uuid.uuid4().hex
        with pytest.MonkeyPatch.context() as patched:
            for name, value in {**variables, MARK: self.mark}.items():
                patched.setenv(name, value)
            self.process = start(folder, *overrides)
        self.lines: list[str] = []
        self.new = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.new:
                self.lines.append(line)
                self.new.notify_all()

    def after(self, text, count=1, seconds=400.0):
        """Wait for the count-th line with `text`; False where the search ends before."""
        deadline = time.monotonic() + seconds
        with self.new:
            while sum(text in line for line in self.lines) < count:
                if self.process.poll() is not None:
                    return False
                assert time.monotonic() < deadline, self.output
                self.new.wait(0.2)
        return True

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def end(self, seconds=600.0):
        """Wait for the end; the exit code."""
        try:
            code = self.process.wait(seconds)
        finally:
            self.process.kill()
        self.reader.join(30)
        return code

    @property
    def output(self):
        return "".join(self.lines)

    def left(self):
        """Processes of this life that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def until_gone(self):
        """Wait until none is left; how long that took."""
        began = time.monotonic()
        while left := self.left():
            waited = time.monotonic() - began
            assert waited < GONE, f"{waited:.0f} s after the kill: {[p.cmdline()[:3] for p in left]}"
            time.sleep(0.2)
        return time.monotonic() - began


def open_study(folder):
    return Study("killed", f"journal:{folder}/out/killed/study.journal", OBJECTIVES)


def outcome(folder):
    """All that a search found out: settings, ends and scores of its trials, to the last bit."""

    def rungs(trial):
        return [(r.images_seen, {k: v for k, v in r.scores.items() if k != SPEED}) for r in trial.rungs]

    trials = open_study(folder).trials()
    return [(t.number, t.arm, t.source, dict(t.settings), t.state, t.reason, rungs(t)) for t in trials]


def worst_difference(one, other):
    """The largest difference between two searches' scores of the same rungs."""
    worst = 0.0
    for a, b in zip(one, other, strict=False):
        for (_, left), (_, right) in zip(a[6], b[6], strict=False):
            worst = max([worst, *(abs(left[key] - right[key]) for key in left.keys() & right.keys())])
    return worst


def check_recorded(folder, uri=None):
    """What is wrong with MLflow's record of a study: (trials and rungs lost, things that are there twice, running)."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder}/out/mlflow.db")
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs, trials = trials_of(found), open_study(folder).trials()
    twice, running = len(found) - 1 - len(runs), sum(r.info.status == "RUNNING" for r in found)
    lost = sum(trial.number not in runs for trial in trials)
    for trial in trials:
        run = runs[trial.number]
        assert run.info.start_time <= run.info.end_time
        for key in ("rung", "fd_classifier"):
            steps = [m.step for m in client.get_metric_history(run.info.run_id, key)]
            lost += len({r.images_seen for r in trial.rungs} - set(steps))
            twice += len(steps) - len(set(steps))
    hashes = [v.tags["ambient_ray.weights_sha256"] for v in client.search_model_versions("name='killed'")]
    twice += len(hashes) - len(set(hashes))
    assert "champion" in client.get_registered_model("killed").aliases
    return lost, twice, running


#: (a line, which of its kind at the most, seconds after it at the most): drawn from for each kill.
EARLY = [
    ("study killed", 1, 6.0),  # before Ray and while it starts
    ("starting Ray", 1, 15.0),  # while Ray and MLflow start, and MLflow is told what it has missed
    ("features of", 1, 4.0),
    ("rung 1/2", 2, 0.4),  # while a rung goes into the study, and from there to MLflow
    ("rung 2/2", 2, 0.4),
    ("rung 2/2", 3, 3.0),
]
CLOSING = ("no more trials", 1, 6.0)  # figures, models, the answer
LATE = ("study killed", 1, 2.0)  # in place of a moment that did not come, as all was done before: soon after the start


def moments(rng, kills):
    """Where each kill comes: so many drawn from all that happens before the end, and the last ones near it."""
    closing = max(1, kills // 4)
    drawn = [rng.choice(EARLY) for _ in range(kills - closing)]
    return [
        (text, rng.randint(1, count), rng.uniform(0, delay)) for text, count, delay in [*drawn, *closing * [CLOSING]]
    ]


def finished(folder, overrides, **variables):
    """A life that ends by itself, well."""
    for _ in range(3):
        life = Life(folder, overrides, **variables)
        if life.end() == 0:
            return life
        assert STARVED in life.output, life.output
    pytest.fail(life.output)


def search_with_kills(folder, overrides, kills, seed=SEED):
    """A search that is killed so often and then let finish; what was counted on the way."""
    rng = random.Random(seed)
    slowest, done, starved, spent = 0.0, 0, 0, list[float]()
    planned = moments(rng, kills)
    while planned:
        number, (text, nth, delay) = kills - len(planned), planned.pop(0)
        life = Life(folder, overrides)
        try:
            came = life.after(text, nth)
            time.sleep(delay if came else 0)
            alive = life.process.poll() is None
            life.kill()
        finally:
            life.process.kill()
        if not alive and STARVED in life.output:
            starved += 1
            assert starved < 5, life.output
            planned.insert(0, (text, nth, delay))
            continue
        assert alive or "error:" not in life.output, life.output
        if not alive:
            planned.insert(0, (*LATE[:2], rng.uniform(0, LATE[2])))
            continue
        done += 1
        print(f"kill {number + 1}: {delay:.2f} s after line {nth} with {text!r}")
        if number % 2 == 0:  # else the next life begins beside what is left of this one
            slowest = max(slowest, life.until_gone())
        if (folder / "out/killed/study.journal").is_file():
            spent.append(open_study(folder).seconds)
    slowest = max(slowest, finished(folder, overrides).until_gone())
    spent.append(open_study(folder).seconds)
    assert spent == sorted(spent), "the hours that were searched count on over all lives"
    return {"kills": done, "slowest_to_go_s": round(slowest, 1), "seconds_searched": round(spent[-1], 1)}


#: What the driver's Python runs before all else: a wall clock that is set by up to six hours every two seconds, once
#: Ray runs (whose own start waits by the wall clock and gives up when that jumps).
JUMPING = """
import sys
if "ambient_ray.search" in sys.orig_argv:
    import random, time
    date, passed = time.time, time.monotonic
    def jumped():
        runs = getattr(sys.modules.get("ray"), "is_initialized", None)
        by = random.Random(int(passed() // 2)).uniform(-6 * 3600, 6 * 3600) if runs is not None and runs() else 0.0
        return date() + by
    time.time, time.time_ns = jumped, lambda: int(jumped() * 1e9)
"""


@dataclass
class Search:
    """A search that nobody killed: where, and between which dates."""

    folder: Path
    began: float
    ended: float


def searched(folder, overrides, **variables):
    began = time.time()
    finished(folder, overrides, **variables)
    return Search(folder, began, time.time())


def trials_and_kills(long):
    return (12, 10) if long else (4, 2)


@pytest.fixture(scope="module")
def jumped(tmp_path_factory, long):
    """A search under a wall clock that jumps, with an hour to spend."""
    folder = tmp_path_factory.mktemp("jumped")
    (folder / "sitecustomize.py").write_text(JUMPING)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return searched(folder, small(trials_and_kills(long)[0], "hours=1"), PYTHONPATH=path)


@pytest.fixture(scope="module")
def undisturbed(request, tmp_path_factory, long):
    """The search that nothing befell; in the short form the one whose clock jumps, which must not matter either."""
    if not long:
        return request.getfixturevalue("jumped")
    return searched(tmp_path_factory.mktemp("undisturbed"), small(trials_and_kills(long)[0]))


def killed_and_compared(folder, overrides, kills, wanted, count, name):
    """A search with kills ends with all its trials, once, as `wanted`."""
    counted = search_with_kills(folder, overrides, kills)
    found = outcome(folder)
    lost, twice, running = check_recorded(folder)
    running += sum(trial[4] == "running" for trial in found)
    lost += max(0, len(wanted) - len(found))
    count(
        name, **counted, trials=len(found), lost=lost, duplicated=twice, running=running,
        largest_difference_of_scores=worst_difference(found, wanted),
    )  # fmt: skip
    assert (len(found), lost, twice, running) == (len(wanted), 0, 0, 0)
    assert found == wanted


def test_a_search_whose_driver_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    tmp_path, undisturbed, long, count
):
    trials, kills = trials_and_kills(long)
    killed_and_compared(tmp_path, small(trials), kills, outcome(undisturbed.folder), count, "driver_killed")


def test_with_two_trials_at_once_too_where_no_choice_depends_on_who_is_first(tmp_path, long, count):
    """Random draws and no early stops: with a sampler that looks, two trials at once are a race in any search."""
    if not long:
        pytest.skip("in make faults")
    free = [override for override in small(12) if not override.startswith(("sampler.", "trial.max_concurrent"))]
    free += ["trial.max_concurrent=2", "sampler=random", "trial.reduction_factor=null"]
    for name in ("quiet", "killed"):
        (tmp_path / name).mkdir()
    wanted = outcome(searched(tmp_path / "quiet", free).folder)
    killed_and_compared(tmp_path / "killed", free, 5, wanted, count, "driver_killed_two_at_once")


def test_a_wall_clock_that_jumps_by_hours_spends_no_budget_and_gives_sane_dates(jumped, undisturbed, long, count):
    from mlflow import MlflowClient

    found, study = outcome(jumped.folder), open_study(jumped.folder)
    lost, twice, running = check_recorded(jumped.folder)
    client = MlflowClient(tracking_uri=f"sqlite:///{jumped.folder}/out/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    longest = max(run.info.end_time - run.info.start_time for run in runs) / 1000
    elapsed = jumped.ended - jumped.began
    dates = {trial.number: [rung.at for rung in trial.rungs] for trial in study.trials()}
    backwards = sum(b < a for at in dates.values() for a, b in pairwise(at))
    count(
        "clock_jumps", trials=len(found), lost=lost, duplicated=twice, running=running, dates_backwards=backwards,
        longest_run_s=round(longest, 1), search_s=round(elapsed, 1), seconds_spent=round(study.seconds, 1),
    )  # fmt: skip
    assert len(found) == trials_and_kills(long)[0] and (lost, twice, running, backwards) == (0, 0, 0, 0)
    assert all(trial[4] != "running" for trial in found)
    assert 0 <= longest <= elapsed + 1 and 0 < study.seconds <= elapsed
    assert found == outcome(undisturbed.folder)


class Server:
    """A real tracking server that can be killed and started again."""

    def __init__(self, folder):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        self.uri, self._folder = f"http://127.0.0.1:{self.port}", folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self):
        from ambient_ray.tracking import TrackingUnreachableError, check_tracking

        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self._folder}/server.db", "--serve-artifacts",
            "--artifacts-destination", f"file://{self._folder}/artifacts",
        ]  # fmt: skip
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_"))}
        with (self._folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=kept, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 300
        while True:
            try:
                check_tracking(self.uri, timeout=5)
                return
            except TrackingUnreachableError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)

    def kill(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # a session of its own
            self.process.wait(60)
            self.process = None


def test_a_tracking_server_that_is_away_for_a_minute_slows_no_trial_and_misses_nothing(tmp_path, long, count):
    """The recorder alone, its spool and PostgreSQL: tests/e2e/test_tracking_server.py, whose short form this has."""
    if not long:
        pytest.skip("a real search beside a real server: in make faults")
    away, server = 60.0, Server(tmp_path)
    server.start()
    # Few trials, each of some seconds: it goes on for longer than the server is away, and what waits is soon told.
    life = Life(tmp_path, [*small(16, f"tracking.uri={server.uri}"), "trial.rungs=[4000,8000]"])
    try:
        assert life.after("rung 1/2", 2), life.output
        server.kill()
        died = time.time()
        time.sleep(away)
        back = time.time()
        server.start()
        assert life.process.poll() is None, f"the search was over before its server was back:\n{life.output}"
        assert life.end() == 0, life.output
        at = sorted(rung.at for trial in open_study(tmp_path).trials() for rung in trial.rungs)
        gaps = [b - a for a, b in pairwise(at)]
        usual = statistics.median(gaps)
        meanwhile = sum(died < moment < back for moment in at)
        lost, twice, running = check_recorded(tmp_path, server.uri)
    finally:
        life.process.kill()
        server.kill()
    count(
        "mlflow_away", seconds=away, lost=lost, duplicated=twice, running=running, rungs_meanwhile=meanwhile,
        usual_gap_s=round(usual, 1), longest_gap_s=round(max(gaps), 1),
    )  # fmt: skip
    assert (lost, twice, running) == (0, 0, 0)
    assert meanwhile >= min(len(at) - 2, away / usual) / 4, "the search went on"
    assert max(gaps) < away or usual > away / 4
