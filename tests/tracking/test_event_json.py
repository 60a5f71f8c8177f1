"""An event comes back from the disk as it was, with its files, and nothing else is made of what lies there."""

import json
import shutil
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from ambient_ray.interval import Interval
from ambient_ray.tracking import (
    DatasetFacts,
    Evidence,
    RungScores,
    TrackingStore,
)
from ambient_ray.tracking.recording import events as ev
from ambient_ray.tracking.recording.event_json import SpooledEventError, decode, encode
from ambient_ray.tracking.recording.spool import Spool, read_entry

DATASET = DatasetFacts("digits", "ab" * 32, "built-in", (1, 8, 8), {"n_train": 300})
EVIDENCE = Evidence(("fd", "f_mem"), Interval(1.0, 0.5, 1.5), Interval(0.1), confirmed=True, seeds=(3, 4))


@pytest.mark.parametrize(
    "event",
    [
        ev.StudyStarted("s", {"a": {"b": (1, None, True)}}, {}, DATASET, np.zeros((2, 2, 2, 1), dtype=np.uint8)),
        ev.RungScored(3, RungScores(0, 9, {"fd": float("nan"), "kid": float("-inf")}, {"seeds": [1, 2]}, None, 1.5)),
        ev.TrialReplayed(ev.TrialStarted(1, "ddpm", {}), (RungScores(0, 1, {}),), ev.TrialEnded(1, "failed", "so")),
        ev.TextLogged("ä\n", "a/b.txt"),
        ev.StudyFinished({"hypervolume": float("inf")}, "killed", ""),
        ev.Measured(1, 2, {1: 2.0, "$class": 3.0}),
    ],
    ids=lambda event: type(event).__name__,
)  # fmt: skip
def test_an_event_comes_back_as_it_was(event, tmp_path: Path) -> None:
    stored = json.loads(json.dumps(encode(event, tmp_path), allow_nan=False))
    again = decode(stored, tmp_path)
    assert type(again) is type(event) and repr(again) == repr(event)


def test_files_of_an_event_outlive_their_originals(tmp_path: Path, write_checkpoint) -> None:
    checkpoint, held = write_checkpoint(), tmp_path / "held"
    (checkpoint / "train_state.safetensors").write_bytes(b"large")
    spool = Spool(held, TrackingStore("sqlite:///x.db", None))
    rung = spool.add(ev.RungScored(0, RungScores(0, 100, {}, {}, checkpoint)), 0.0)
    model = ev.FoundModel(0, RungScores(0, 100, {}, {}, checkpoint), EVIDENCE, ("champion",))
    found = spool.add(ev.ModelsFound("m", (model,), "ambient-search", Future()), 0.0)
    note = tmp_path / "note.txt"
    note.write_text("first")
    file = spool.add(ev.FileLogged(note, "", None), 0.0)
    note.write_text("second")
    shutil.rmtree(checkpoint)
    spool.close()
    pictures = read_entry(rung).event.scored.checkpoint
    weights = read_entry(found).event.models[0].scored.checkpoint
    assert {path.name for path in pictures.iterdir()} == {"samples.npz", "checkpoint.json"}
    assert {path.name for path in weights.iterdir()} == {"samples.npz", "checkpoint.json", "model.safetensors"}
    assert read_entry(file).event.path.read_text() == "first"
    assert not read_entry(found).event.registration.done()


def test_a_spool_makes_only_events_and_reads_only_its_own_files(tmp_path: Path) -> None:
    for bad in (
        {"$class": "os:system", "fields": {}},
        {"$class": "ambient_ray.tracking.recording.spool:shutil", "fields": {}},
        {"$class": "ambient_ray.tracking.recording.spool:Spool", "fields": {}},
        {"$file": "../../etc/passwd"},
        {"$what": 1},
    ):
        with pytest.raises(SpooledEventError, match="no event that can be read"):
            decode(bad, tmp_path)
