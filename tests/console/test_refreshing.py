"""The study's pictures cost a bounded share of a search, however long one drawing takes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ambient_ray.console import refreshing
from ambient_ray.console.refreshing import LiveFigures
from ambient_ray.reporting.figures.study_figures import StudyView
from ambient_ray.tuning.records import Objectives, RungRecord, TrialRecord

RUNG = RungRecord(0, 100, {"fd": 2.0, "f_mem": 0.1}, {}, "nowhere", 1.0, 1.0)
TRIAL = TrialRecord(0, "ddpm", {"sigma_tn": 0.0}, "finished", (RUNG,))


class Recorder:
    """Draws at once, and says that it took so long."""

    def __init__(self, seconds: float) -> None:
        self.refreshed: float | None = 0.0
        self.seconds, self.drawn = seconds, 0

    def refresh(self, draw: Callable[[Path], Mapping[str, float]], images_seen: int) -> None:
        assert images_seen == 100
        self.refreshed, self.drawn = self.seconds, self.drawn + 1


@pytest.mark.parametrize("seconds", [0.01, 0.5, 3.0, 60.0])
def test_drawing_takes_its_share_and_no_more(seconds: float) -> None:
    now = 0.0
    recorder = Recorder(seconds)
    view = StudyView("s", [TRIAL], Objectives("fd", "f_mem"), None, (100,), ("sigma_tn",))
    figures = LiveFigures(recorder, lambda: view, clock=lambda: now)
    for second in range(36_000):
        now = float(second)
        figures.rung_scored(TRIAL, RUNG) if second % 7 else figures.trial_ended(TRIAL)
    assert recorder.drawn >= 1
    assert seconds * (recorder.drawn - 1) <= 0.005 * now
    assert recorder.drawn >= min(now / 30, 0.003 * now / seconds)


def test_nothing_is_drawn_before_a_trial_has_ended_nor_while_a_drawing_waits() -> None:
    now = 0.0
    recorder = Recorder(0.1)
    view = StudyView("s", [TRIAL], Objectives("fd", "f_mem"), None, (100,), ("sigma_tn",))
    figures = LiveFigures(recorder, lambda: view, clock=lambda: now)
    now = 1000.0
    figures.rung_scored(TRIAL, RUNG)
    assert recorder.drawn == 0
    recorder.refreshed = None
    figures.trial_ended(TRIAL)
    assert recorder.drawn == 0


def test_only_pictures_of_a_running_search_say_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool] = []
    monkeypatch.setattr(refreshing, "draw_study", lambda view, folder, **_: said.append(view.running) or {})
    now = 0.0
    view = StudyView("s", [TRIAL], Objectives("fd", "f_mem"), None, (100,), ("sigma_tn",), running=True)
    figures = LiveFigures(Drawing(tmp_path / "figures"), lambda: view, clock=lambda: now)
    now = 1000.0
    figures.trial_ended(TRIAL)
    figures.draw()
    assert said == [True, False]


def test_broken_samples_cost_a_picture_its_thumbnail_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "samples.npz").write_bytes(b"half a fi")
    rung = replace(RUNG, checkpoint=str(tmp_path))
    view = StudyView("s", [replace(TRIAL, rungs=(rung,))], Objectives("fd", "f_mem"), None, (100,), ("sigma_tn",))
    recorder = Drawing(tmp_path / "figures")
    LiveFigures(recorder, lambda: view).draw()
    assert {"front.html", "front.png", "survival.png"} <= {path.name for path in recorder.folder.iterdir()}


class Drawing:
    """Draws into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.refreshed = folder, 0.0
        folder.mkdir()

    def refresh(self, draw: Callable[[Path], Mapping[str, float]], images_seen: int) -> None:
        draw(self.folder)
