"""The search's driver is killed at random moments, its clock jumps, MLflow is away: the search ends as it would have.

One trial runs at a time where scores are compared, so that a search is a function of its seed and of what its study
holds; the processor gives the same bits for the same training.
"""

import random
import signal
import sys
import threading
import time
import uuid
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
SEED = 7


def small(trials, *more):
    return [
        "study=killed", f"trials={trials}", "trial.max_concurrent=1", "trial.rungs=[320,640]", "confirm.top=0",
        "evaluation.samples=48", "evaluation.sample_steps=6", "sampler.n_startup_trials=2", *more,
    ]  # fmt: skip


class Life:
    """One process that searches: its lines as they come, and whatever Ray starts for it, by a mark of its own."""

    def __init__(self, folder, overrides, monkeypatch):
        self.mark = uuid.uuid4().hex
        monkeypatch.setenv(MARK, self.mark)
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
        return [(r.images_seen, dict(r.scores)) for r in trial.rungs]

    trials = open_study(folder).trials()
    return [(t.number, t.arm, t.source, dict(t.settings), t.state, t.reason, rungs(t)) for t in trials]


def worst_difference(one, other):
    """The largest difference between two searches' scores of the same rungs."""
    worst = 0.0
    for a, b in zip(one, other, strict=False):
        for (_, left), (_, right) in zip(a[6], b[6], strict=False):
            worst = max([worst, *(abs(left[key] - right[key]) for key in left.keys() & right.keys())])
    return worst


def recorded(folder):
    """MLflow's runs of a search, and what is wrong with them: (runs that are there twice, RUNNING ones)."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/out/mlflow.db")
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    twice = len(runs) - 1 - len(trials_of(runs))
    return client, trials_of(runs), twice, sum(r.info.status == "RUNNING" for r in runs)


def check_recorded(folder, count_of_trials):
    """Each trial of the study and each of its rungs is in MLflow once; (lost, twice, running)."""
    client, runs, twice, running = recorded(folder)
    lost = sum(n not in runs for n in range(count_of_trials))
    for trial in open_study(folder).trials():
        run_id = runs[trial.number].info.run_id
        for key in ("rung", "fd_classifier"):
            steps = [m.step for m in client.get_metric_history(run_id, key)]
            wanted = [r.images_seen for r in trial.rungs]
            lost += len(set(wanted) - set(steps))
            twice += len(steps) - len(set(steps))
        start_time, end_time = runs[trial.number].info.start_time, runs[trial.number].info.end_time
        assert end_time is not None and start_time <= end_time
    models = client.search_model_versions("name='killed'")
    hashes = [m.tags["ambient_ray.weights_sha256"] for m in models]
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


def moments(rng, kills):
    """Where each kill comes: so many drawn from all that happens before the end, and the last ones near it."""
    closing = max(1, kills // 4)
    drawn = [rng.choice(EARLY) for _ in range(kills - closing)]
    return [
        (text, rng.randint(1, count), rng.uniform(0, delay)) for text, count, delay in [*drawn, *closing * [CLOSING]]
    ]


def search_with_kills(folder, overrides, kills, monkeypatch, seed=SEED):
    """A search that is killed so often and then let finish; what was counted on the way."""
    rng = random.Random(seed)
    slowest, done, spent = 0.0, 0, []
    for number, (text, nth, delay) in enumerate(moments(rng, kills)):
        life = Life(folder, overrides, monkeypatch)
        try:
            came = life.after(text, nth)
            time.sleep(delay if came else 0)
            alive = life.process.poll() is None
            life.kill()
        finally:
            life.process.kill()
        assert alive or "error:" not in life.output, life.output
        done += alive
        print(f"kill {number + 1}: {delay:.2f} s after line {nth} with {text!r}{'' if alive else ' (had ended)'}")
        if number % 2 == 0:  # else the next life begins beside what is left of this one
            slowest = max(slowest, life.until_gone())
        if (folder / "out/killed/study.journal").is_file():
            spent.append(open_study(folder).seconds)
    last = Life(folder, overrides, monkeypatch)
    code = last.end()
    assert code == 0, last.output
    slowest = max(slowest, last.until_gone())
    spent.append(open_study(folder).seconds)
    assert spent == sorted(spent), "the hours that were searched count on over all lives"
    return {"kills": done, "slowest_to_go_s": round(slowest, 1), "seconds_searched": round(spent[-1], 1)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, long):
    """The search that nothing befell, and its folder."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        life = Life(folder, small(12 if long else 5), monkeypatch)
        assert life.end() == 0, life.output
    return folder


def test_a_search_whose_driver_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    tmp_path, undisturbed, monkeypatch, long, count
):
    trials, kills = (12, 10) if long else (5, 3)
    counted = search_with_kills(tmp_path, small(trials), kills, monkeypatch)
    found, wanted = outcome(tmp_path), outcome(undisturbed)
    lost, twice, running = check_recorded(tmp_path, trials)
    running += sum(state == "running" for *_, state, _, _ in found)
    count(
        "driver_killed", **counted, trials=len(found), lost=lost + trials - len(found), duplicated=twice,
        running=running, largest_difference_of_scores=worst_difference(found, wanted),
    )  # fmt: skip
    assert (len(found), lost, twice, running) == (trials, 0, 0, 0)
    assert found == wanted
