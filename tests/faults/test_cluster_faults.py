"""Kill, stop, starve and hang what a search runs on: its trials go on, and say why they were taken up again."""

import json
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from frail import Frail

from ambient_ray.tuning.faults import counted
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.study import Study

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def space(ambient):
    """DDPM, one that diverges at once, and so many ambient trials, all given: no trial depends on another's scores."""
    given = "".join(f"  - {{sigma_tn: 0.5, noisy_ratio: {0.2 + 0.6 * k / ambient:.4f}}}\n" for k in range(ambient))
    return (
        "parameters:\n  sigma_tn: {low: 0.1, high: 4.0, log: true}\n  noisy_ratio: {low: 0.1, high: 0.9}\n"
        "fixed: {mixing: set_split}\nbaselines:\n  - {sigma_tn: 0.0}\n  - {sigma_tn: 0.5, lr: 1.0e+12}\n" + given
    )


def study_of(folder):
    return Study("story", f"journal:{folder}/out/story/study.journal", Objectives("fd_pixels", "f_mem"))


def scores_of(folder):
    return {
        (trial.number, rung.rung): (rung.scores["fd_pixels"], rung.scores["f_mem"])
        for trial in study_of(folder).trials()
        for rung in trial.rungs
    }


KILLS = {
    "worker died": ("RayTrainWorker", r"its worker died \(killed.*taken up from"),
    "controller died": ("TrainController", "the controller of its workers died; taken up from"),
    "driver died": ("ImplicitFunc", "its driver in Ray Tune died; taken up from"),
    "host died": ("SlotHost", "the process that holds its slot died; taken up from"),
}


@pytest.fixture(scope="module")
def hurt(tmp_path_factory, long):
    """A search that was hurt in every way, one after the other, and came to its end."""
    dice, done = random.Random(7), []
    rounds, ambient, stopped, hang = (3, 24, 60.0, 2.0) if long else (1, 12, 5.0, 0.4)
    folder = tmp_path_factory.mktemp("hurt")
    overrides = f"trial.max_failures=50 trial.hang_minutes={hang} trial.rungs=[640,1920,3200]".split()
    search = Frail(folder, space(ambient), f"trials={ambient + 2}", *overrides)
    search.slowly(True)
    try:
        search.until("rung 1/3")
        for _ in range(rounds):
            for cause in dice.sample(sorted(KILLS), len(KILLS)):
                search.hurt(*KILLS[cause], which=dice.randrange(2))
                done.append(cause)
            before = len(search.lines)
            search.some("Judge")[0].kill()
            done.append("judge")
            before = search.until("rung [123]/3", after=before)
            search.plant("memory")
            search.until(r"out of memory \(MemoryError: planted.*batch_size.*taken up from", after=before)
            before = len(search.lines)
            search.stop("RayTrainWorker", stopped)
            done.append("stop")
            search.until("rung [123]/3", after=before)
            assert not any("hung" in line or "died" in line for line in search.lines[before:]), search.text
            search.plant("hang")
            search.until("it hung: no sign of life.*taken up from", after=before)
            done += ["out of memory", "hang"]
        search.slowly(False)
    finally:
        code = search.end(600)
    return {"folder": folder, "code": code, "text": search.text, "done": done, "ambient": ambient}


def test_every_trial_ends_and_only_the_one_that_diverges_has_failed(hurt):
    assert hurt["code"] == 0, hurt["text"]
    trials = study_of(hurt["folder"]).trials()
    assert len(trials) == hurt["ambient"] + 2
    assert [(t.number, t.cause) for t in trials if t.state != "finished"] == [(1, "diverged")], hurt["text"]
    assert all(len(t.rungs) == 3 for t in trials if t.number != 1)


def test_what_was_survived_is_in_the_study_by_cause(hurt, count):
    trials = study_of(hurt["folder"]).trials()
    faults = [fault for trial in trials for fault in trial.faults]
    survived = {cause: times for cause, (_, times) in counted([], faults).items()}
    for cause in set(hurt["done"]) - {"judge", "stop"}:
        assert survived.get(cause, 0) >= hurt["done"].count(cause), (survived, hurt["text"])
    assert survived["hang"] == hurt["done"].count("hang") and survived["out of memory"] == hurt["done"].count(
        "out of memory"
    )
    count(
        "cluster faults", trials=hurt["ambient"] + 2, lost=hurt["ambient"] + 2 - sum(t.ended for t in trials),
        injected={cause: hurt["done"].count(cause) for cause in sorted(set(hurt["done"]))}, survived=survived,
    )  # fmt: skip


def test_a_trial_is_taken_up_from_its_newest_checkpoint(hurt):
    for trial in study_of(hurt["folder"]).trials():
        seen = {0} | {rung.images_seen for rung in trial.rungs}
        assert all(fault.images_seen in seen for fault in trial.faults)
        for rung in trial.rungs:
            kept = json.loads((Path(rung.checkpoint) / "checkpoint.json").read_text())
            assert kept["images_seen"] == rung.images_seen and kept["scores"] == rung.scores


def test_scores_are_an_undisturbed_searchs(hurt, long, tmp_path, count):
    """Bit for bit, on processors."""
    ambient = hurt["ambient"]
    if not long:
        pytest.skip("the long form compares all scores with an undisturbed search's")
    calm = Frail(tmp_path, space(ambient), f"trials={ambient + 2}", "trial.rungs=[640,1920,3200]")
    assert calm.end(800) == 0, calm.text
    expected, found = scores_of(tmp_path), scores_of(hurt["folder"])
    assert found == expected
    count("cluster faults", scores_equal=len(found))


def test_a_rank_that_hangs_halts_the_other_and_both_are_replaced(long, tmp_path, count):
    """Whichever rank computes first takes the fault; the other waits for it in a collective, and gives no sign."""
    if not long:
        pytest.skip("the long form has a trial of two workers; the short one's hang is a single worker's")
    pair = Frail(
        tmp_path, space(1), "trials=1", "trial.workers=2", "trial.hang_minutes=1", "trial.rungs=[640,1920,3200]"
    )
    pair.slowly(True)
    try:
        before = pair.until("rung 1/3")
        pair.plant("hang")
        pair.until("it hung: no sign of life.*taken up from", after=before)
        pair.slowly(False)
    finally:
        code = pair.end(600)
    assert code == 0, pair.text
    (trial,) = study_of(tmp_path).trials()
    assert trial.state == "finished" and [fault.cause for fault in trial.faults] == ["hang"]
    count("cluster faults", ranks_replaced=2)
