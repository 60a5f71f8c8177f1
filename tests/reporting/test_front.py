"""The front's picture can be drawn of few and of odd points, and of every study that has a candidate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ambient_ray.reporting.figures.front import FrontPoint, draw_front, front_figure, heldout_null, short_count

POINTS = [
    FrontPoint(90.0, 0.0, 0.0, 0.01, 64_000, 0, "ddpm", on_front=True),
    FrontPoint(60.0, 0.8, 0.75, 0.85, 512_000, 0, "ddpm"),
    FrontPoint(58.0, 0.3, 0.25, 0.36, 512_000, 1, on_front=True, champion=True),
    FrontPoint(float("nan"), 0.3, images_seen=64_000, trial=2),
]


@pytest.mark.parametrize(
    "points",
    [
        POINTS,
        POINTS[:1],
        POINTS[2:],
        [replace(POINTS[0], fidelity=900.0), *POINTS[1:]],
        [replace(POINTS[1], arm="rival")],
    ],
    ids=["all", "one", "no ddpm", "log axis", "rival"],
)
def test_a_front_is_drawn_for_few_and_for_odd_points(points: list[FrontPoint], tmp_path: Path) -> None:
    picture = np.asarray(Image.open(front_figure(points, tmp_path / "front.png", null=0.002)))
    assert picture.shape[1] > 1000 and picture.std() > 10


def test_no_finite_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite"):
        front_figure(POINTS[3:], tmp_path / "front.png")


def test_training_lengths_are_short() -> None:
    assert [short_count(n) for n in (512, 64_000, 1_500_000)] == ["512", "64k", "1.5M"]


def test_a_study_is_drawn_once_it_has_a_candidate(make_study, tmp_path):
    view = make_study(6)
    path = draw_front(view, tmp_path / "front.png")
    assert path is not None and np.asarray(Image.open(path)).std() > 10
    assert heldout_null(view) == 0.002
    assert draw_front(replace(view, trials=[]), tmp_path / "none.png") is None
