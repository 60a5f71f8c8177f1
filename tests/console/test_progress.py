"""What a person sees: a line an event in a file, a table on a terminal, and lines of Python that load the champion."""

import io
import time

import numpy as np
import pytest
from rich.console import Console

from ambient_ray.console.closing import Registered, load_lines, print_closing
from ambient_ray.console.progress import Progress
from ambient_ray.reporting.figures.front import draw_front
from ambient_ray.reporting.figures.study_view import StudyView, key_of
from ambient_ray.reporting.verdict import decide
from ambient_ray.tracking import Registration
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
SPACE = Space("s", {"sigma_tn": Range(0.1, 1.0)}, {}, ({"sigma_tn": 0.0},))


def rung(index, fd, f_mem):
    scores = {"fd": fd, "f_mem": f_mem, "f_mem_low": f_mem / 2, "f_mem_high": f_mem * 2, "f_mem_heldout": 0.0}
    return RungRecord(index, 1000 * 2**index, scores, {}, "c")


@pytest.fixture
def study(tmp_path):
    study = Study("faces", f"journal:{tmp_path}/study.journal", OBJECTIVES)
    for number in range(2):
        study.ask(SPACE)
        study.record_rung(number, rung(0, 90.0 - number, 0.01))
    study.record_rung(0, rung(1, 50.0, 0.4))
    study.finish(0, "finished")
    return study


def test_elsewhere_than_a_terminal_every_event_is_a_line(study):
    page = io.StringIO()
    with Progress(study, 3, (1000, 2000), OBJECTIVES, Console(file=page, width=60)) as progress:
        progress.watch(lambda: {1: (1500, 0.25)})
        trial = study.trial(1)
        progress.trial_started(trial, True)
        progress.rung_scored(trial, trial.rungs[0])
        progress.trial_ended(study.trial(0))
        time.sleep(1.5)
    lines = page.getvalue().splitlines()
    assert "taken up after 1,000 images" in lines[0]
    assert "rung 1/2 · 1,000 images · fd 89 · f_mem 0.01 [0.005, 0.02]" in lines[1]
    assert "trial 0 · DDPM · finished · 1/3 trials ended" in lines[2]
    assert "training: 1,500 images, loss 0.250" in lines[3]


def test_a_judge_that_is_gone_ends_the_heartbeats_and_nothing_else(study):
    page = io.StringIO()

    def gone():
        raise ConnectionError("the judge is gone")

    with Progress(study, 3, (1000, 2000), OBJECTIVES, Console(file=page, width=100)) as progress:
        progress.watch(gone)
        time.sleep(1.5)
        progress.say("still here")
    assert "no more heartbeats: the judge is gone" in page.getvalue() and "still here" in page.getvalue()


def test_on_a_terminal_the_table_names_trials_scores_and_time(study):
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=140)
    with Progress(study, 3, (1000, 2000), OBJECTIVES, console) as progress:
        console.print(progress._render())
    for text in (
        "DDPM",
        "2/2",
        "fd 50",
        "running",
        "front of",
        "hypervolume",
        "left",
        "Ctrl-C keeps all finished work",
    ):
        assert text in page.getvalue()


def test_the_closing_names_the_answer_the_front_and_the_model(study, tmp_path):
    land = study.landscape()
    verdict = decide(land, OBJECTIVES, Rule())
    where = key_of(verdict.champion)
    view = StudyView("s", study.trials(), OBJECTIVES, study.reference, (1, 2), ("sigma_tn",), champion=where)
    figure = draw_front(view, tmp_path / "front.png")
    page = io.StringIO()
    print_closing(
        Console(file=page, width=140), land, OBJECTIVES, verdict, tolerance=0.05, delta=1.0,
        tracking_uri="sqlite:////data/mlflow.db", model="faces",
        registration=Registered(Registration(3, 3, True, "first")),
        figure=figure, output_dir=tmp_path,
    )  # fmt: skip
    text = page.getvalue()
    assert verdict.sentence in text and "champion" in text and str(figure) in text
    assert "mlflow ui --backend-store-uri sqlite:////data/mlflow.db" in text
    assert load_lines("sqlite:////data/mlflow.db", "faces") in text
    assert figure is not None and figure.read_bytes().startswith(b"\x89PNG")


def test_a_replica_that_was_only_begun_is_not_said_to_be_taken_up_again(study):
    replica = study.replicate(0, seed=1, rungs=(1000, 2000))
    page = io.StringIO()
    with Progress(study, 3, (1000, 2000), OBJECTIVES, Console(file=page, width=80)) as progress:
        progress.trial_started(study.trial(1), True)
        progress.trial_started(replica, True)
    lines = page.getvalue().splitlines()
    assert "taken up after 1,000 images: starting" in lines[0]
    assert lines[1].endswith("seed 1: starting")


def test_the_foot_says_of_front_and_hypervolume_what_the_whole_study_says(tmp_path):
    study = Study("faces", "memory:", OBJECTIVES)
    rng = np.random.default_rng(0)
    with Progress(study, 30, (1000, 2000), OBJECTIVES, Console(file=io.StringIO(), width=140)) as progress:
        for _ in range(30):
            trial = study.ask(SPACE)
            progress.trial_started(trial, False)
            for index in range(2):
                record = rung(index, float(rng.integers(10, 60)), float(rng.integers(0, 10)) / 10)  # with ties
                study.record_rung(trial.number, record)
                progress.rung_scored(study.trial(trial.number), record)
                land = study.landscape()
                assert f"front of {len(land.front)}, " in progress._summary
            study.finish(trial.number, "finished")
            progress.trial_ended(study.trial(trial.number))
        replica = study.replicate(3, seed=7, rungs=(1000,))
        study.record_rung(replica.number, rung(0, 1.0, 0.0))  # better than all, and no candidate
        progress.rung_scored(study.trial(replica.number), rung(0, 1.0, 0.0))
    land = study.landscape()
    assert progress._summary.startswith(f"30/30 trials ended, front of {len(land.front)}, ")
    assert float(progress._summary.rpartition(" ")[2]) == pytest.approx(land.hypervolume, rel=0.01)
