"""One call draws all there is to draw of a study, at any moment of its life, in any thread."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ambient_ray.reporting.figures.study_figures import FIGURES, draw_study
from ambient_ray.tuning.records import TrialRecord


def nothing(candidate):
    return None


def test_a_whole_study_is_drawn_whole(make_study, tmp_path):
    drawn = draw_study(make_study(40), tmp_path, thumbnail=nothing)
    assert tuple(drawn) == FIGURES and {path.name for path in tmp_path.iterdir()} == set(FIGURES)
    for name in FIGURES[1:]:
        picture = np.asarray(Image.open(drawn[name]).convert("L"))
        assert picture.shape[1] > 800 and picture.std() > 10
        for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
            assert (edge == 255).all()  # nothing is cut off


def test_at_first_there_is_little_to_draw(make_study, tmp_path):
    begun = TrialRecord(0, "ddpm", {"sigma_tn": 0.0})
    view = replace(make_study(3), trials=[begun], reference=None, champion=None, running=True)
    assert set(draw_study(view, tmp_path, thumbnail=nothing)) == {"survival.png"}
    scored = replace(view, trials=make_study(1).trials)
    assert set(draw_study(scored, tmp_path, thumbnail=nothing)) == {"front.html", "front.png", "survival.png"}
    assert draw_study(replace(view, trials=[]), tmp_path, thumbnail=nothing) == {}


def test_only_what_was_asked_for_is_drawn(make_study, tmp_path):
    assert list(draw_study(make_study(12), tmp_path, thumbnail=nothing, only=["survival.png"])) == ["survival.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["survival.png"]
    with pytest.raises(ValueError, match=r"no figure 'fronts\.png'; there are front\.html"):
        draw_study(make_study(12), tmp_path, thumbnail=nothing, only=["fronts.png"])


def test_scores_that_are_not_finite_or_missing_are_no_candidates(make_study, make_rung, tmp_path):
    view = make_study(20)
    lost = make_rung(1, 1.0, 0.0)
    lost = replace(lost, scores={"fd": 3.0})
    odd = TrialRecord(20, "ambient", {"sigma_tn": 0.3, "noisy_ratio": 0.5}, "failed", (make_rung(0, np.nan, 0.0), lost))
    found = replace(view, trials=[*view.trials, odd])
    assert len(found.candidates) == len(view.candidates)
    assert tuple(draw_study(found, tmp_path, thumbnail=nothing)) == FIGURES


def test_threads_draw_the_same_as_one_after_the_other(make_study, tmp_path):
    views = [make_study(20, seed=seed) for seed in range(3)]
    names = ["importance.png", "survival.png"]

    def draw(k, where):
        folder = tmp_path / f"{where}-{k}"
        folder.mkdir()
        return [path.read_bytes() for path in draw_study(views[k], folder, thumbnail=nothing, only=names).values()]

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda k: draw(k, "together"), range(3)))
    assert together == [draw(k, "alone") for k in range(3)]


def test_rivals_are_told_apart_from_ambient(make_study, tmp_path):
    """A study without sigma_tn: plain DDPM against DDPM with other settings."""
    view = make_study(30)
    trials = [
        t
        if t.arm == "ddpm"
        else replace(t, arm="rival", settings={"sigma_tn": 0.0, "dropout": t.settings["noisy_ratio"]})
        for t in view.trials
    ]
    drawn = draw_study(replace(view, trials=trials, searched=("dropout",)), tmp_path, thumbnail=nothing)
    assert tuple(drawn) == FIGURES
