"""A bucket that answers 503, a disk that is full, a damaged checkpoint, a search whose checkpoints are in a bucket."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import small_world as world
from s3_server import CREDENTIALS, s3_store
from search_process import run, runs_of

from ambient_ray.storage import Patience, fetch, locate
from ambient_ray.training import World, read_checkpoint, run_trial
from ambient_ray.training.pulse import PULSE
from ambient_ray.training.ray_worker import run_jobs

RUNGS = (64, 128, 192)
QUICK = Patience(hours=1, first=0.1, longest=0.5)


@pytest.fixture
def store(tmp_path):
    with s3_store(tmp_path / "cache") as served:
        yield served


class Room(world.Recorder):
    """A reporter that calls `when_waiting` when the trial says that it waits."""

    def __init__(self, when_waiting=lambda: None):
        super().__init__()
        self.when_waiting = when_waiting

    def noted(self, text):
        super().noted(text)
        if text.startswith("waits"):
            self.when_waiting()


def train(place, reporter, patience=QUICK, **more):
    return run_trial(
        world.settings(rungs=RUNGS), world.data(), World(), reporter, workdir=place, score=world.score,
        patience=patience, **more,
    )  # fmt: skip


def weights(outcome):
    return [(fetch(r.checkpoint, check=True) / "model.safetensors").read_bytes() for r in outcome.results]


# -- S3 answers 503


@pytest.mark.timeout(300)
def test_a_bucket_that_answers_503_is_waited_for_and_no_rung_is_lost(store, tmp_path, long, count):
    whole = train(tmp_path / "whole", Room())
    seconds, reporter = (30.0 if long else 3.0), Room()
    rung = reporter.rung

    def away_after_the_first(result, *, resumed=False):
        if result.rung == 0:
            store.away(seconds)
        return rung(result, resumed=resumed)

    reporter.rung = away_after_the_first
    outcome = train(locate(f"{store.url}/faces/0000"), reporter)
    assert outcome.state == "finished" and [r.rung for r in reporter.results] == [0, 1, 2]
    assert store.refused > 0
    waits, goes_on = reporter.notes
    words = r"waits: s3://bucket is overloaded or away \((slow down|http status 503)\), it tries again every 0.5 s"
    assert re.fullmatch(words, waits)
    assert goes_on.startswith("goes on after")
    assert any(loss != loss for _, loss in reporter.losses), "a heartbeat while it waits, for the watchdog"
    assert weights(outcome) == weights(whole), "bit for bit what an undisturbed trial keeps"
    lost = len(whole.results) - len(outcome.results)
    count("S3 answers 503", seconds=seconds, refused=store.refused, rungs_lost=lost)


def test_a_bucket_that_stays_away_fails_the_trial_with_its_reason(store):
    reporter = Room()
    store.away(600)
    outcome = train(locate(f"{store.url}/faces/0001"), reporter, Patience(hours=1e-4, first=0.05, longest=0.1))
    store.away(0)
    assert outcome.state == "failed" and "s3://bucket is overloaded or away" in outcome.reason
    assert "given up after" in outcome.reason and reporter.results == []


# -- the disk is full at a checkpoint


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 1 MB, as root may mount one."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", where], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_a_full_disk_is_waited_for_and_no_rung_is_lost(small_disk, tmp_path, monkeypatch, count):
    whole = train(tmp_path / "whole", Room())
    filler = small_disk / "filler"
    reporter = Room(when_waiting=lambda: filler.unlink(missing_ok=True))
    rung = reporter.rung

    def full_after_the_first(result, *, resumed=False):
        if result.rung == 0:
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
        return rung(result, resumed=resumed)

    reporter.rung = full_after_the_first
    place = small_disk / "trials" / "0000"
    beats = []
    monkeypatch.setattr(PULSE, "beat", lambda: beats.append(len(reporter.notes)))
    outcome = train(place, reporter)
    assert outcome.state == "finished" and [r.rung for r in reporter.results] == [0, 1, 2]
    assert reporter.notes[0].startswith(f"waits: no space left on device at {place}/rung-01-000000128; free some")
    assert "it tries again every 0.5 s" in reporter.notes[0] and reporter.notes[1].startswith("goes on after")
    assert weights(outcome) == weights(whole)
    assert not list(place.glob(".*partial"))
    assert 1 in beats, "a sign of life while it waits: the watchdog must not take it for a hang"
    lost = len(whole.results) - len(outcome.results)
    count("disk full at a checkpoint", rungs_lost=lost, notes=len(reporter.notes))


# -- the newest checkpoint is damaged


def test_a_damaged_newest_checkpoint_costs_one_rung_and_is_told(tmp_path, monkeypatch, count):
    """Through the worker's own function, from its slot to what the slot is told."""
    monkeypatch.setattr("ambient_ray.training.life.study_scorer", lambda *given: world.score)
    whole = train(tmp_path / "whole", Room())
    folder = tmp_path / "trials" / "0003"
    cut = train(folder, world.Recorder(stop_at=(1,)))
    newest = cut.results[-1].checkpoint / "train_state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    told = []
    judge = SimpleNamespace(
        beat=SimpleNamespace(remote=lambda *beat: None), decide=SimpleNamespace(remote=lambda *asked: True)
    )
    monkeypatch.setattr("ray.get", lambda answer: answer)
    job = {
        "number": 3, "arm": "ambient", "replica_of": None, "training": world.settings(rungs=RUNGS).to_dict(),
        "settings": {}, "folder": str(folder), "judge": judge, "needed": ("brightness",),
    }  # fmt: skip
    ends = run_jobs([job], world.data(), World(), SimpleNamespace(tell=lambda n, m: told.append(m) or True))
    assert [(end["state"], end["reason"]) for end in ends] == [("finished", "")]
    notes = [message["note"] for message in told if "note" in message]
    assert len(notes) == 1 and notes[0].startswith("goes on from the one before, 64 images: ")
    assert "rung-01-000000128/train_state.safetensors is not what was written (another SHA-256)" in notes[0]
    rungs = [rung["rung"] for message in told for rung in message.get("rungs", ())]
    assert rungs == [0, 1, 2]
    last = read_checkpoint(folder / "rung-02-000000192")
    assert (last.folder / "model.safetensors").read_bytes() == weights(whole)[-1]
    again = len(cut.results) + len(rungs) - len(RUNGS)
    count("newest checkpoint damaged", told=len(notes), rungs_sent=len(rungs), rungs_trained_again=again)


# -- a whole search over a bucket


@pytest.mark.e2e
@pytest.mark.timeout(1500)
def test_a_search_keeps_its_checkpoints_in_a_bucket_and_its_report_and_models_come_from_there(store, tmp_path, count):
    from ambient_ray.report import main
    from ambient_ray.tracking import load_model
    from ambient_ray.tuning.kept import needless
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    objectives = Objectives("fd_classifier", "f_mem")
    search = ("trials=3", "trial.rungs=[640,1280,1920]", f"checkpoints={store.url}")
    _, planned = run(tmp_path, *search, "dry_run=true", seconds=300)
    said = re.search(r"checkpoints: at most ([\d.e-]+) GB while it runs, ([\d.e-]+) GB in the end, in s3://", planned)
    assert said, planned
    code, out = run(tmp_path, *search, seconds=1200)
    assert code == 0, out
    study = Study("story", f"journal:{tmp_path}/out/story/study.journal", objectives)
    rungs = [(trial, rung) for trial in study.trials() for rung in trial.rungs]
    assert [t.arm for t in study.trials()] == ["ddpm", "ambient", "ambient"] and len(rungs) >= 4
    keys, gone = store.keys(), 0
    for trial, rung in rungs:
        assert rung.checkpoint.startswith(f"{store.url}/story/") and len(rung.digest) == 64
        key = rung.checkpoint.removeprefix("s3://bucket/")
        kept = json.loads(store.client.get_object(Bucket="bucket", Key=f"{key}/checkpoint.json")["Body"].read())
        assert kept["scores"] == rung.scores and kept["images_seen"] == rung.images_seen
        names = needless(trial, objectives).get(rung.rung, frozenset())
        gone += len(names)
        there = {path.rpartition("/")[2] for path in keys if path.startswith(key)}
        assert there == {"checkpoint.json", "model.safetensors", "train_state.safetensors", "samples.npz"} - names
    assert gone >= 2 and f"checkpoints: {gone} files of" in out, "DDPM's first stops need no train_state any more"
    left, (peak, end) = sum(keys.values()), (1e9 * float(number) for number in said.groups())
    assert 0.3 * end <= left <= 1.05 * end <= 1.06 * peak, (left, end, "what dry_run said, and is left in truth")
    assert not (tmp_path / "out/story/trials").exists()
    assert not [p for p in (tmp_path / "out").rglob("*.p*kl")]
    client, runs = runs_of(tmp_path)
    ddpm = next(r for r in runs if r.data.tags.get("ambient_ray.trial") == "0")
    assert len(client.list_artifacts(ddpm.info.run_id, "samples")) == 3
    uri = f"sqlite:///{tmp_path}/out/mlflow.db"
    assert main(["story", "--tracking-uri", uri, "--to", str(tmp_path / "story.html")]) == 0
    model = load_model("models:/story@champion", tracking_uri=uri)
    assert model.sample(2, seed=1).shape == (2, 8, 8, 1)
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    assert secret not in out.encode()
    written = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    secrets = [p for p in written if secret in p.read_bytes()]
    assert secrets == []
    count(
        "search over S3",
        trials=len(study.trials()),
        rungs=len(rungs),
        objects=len(keys),
        files_collected=gone,
        secrets_in_files=len(secrets),
        bytes_left=left,
        bytes_said=int(end),
    )
