"""The picture of the gap along sigma says what the rung has kept, and is left out where it has kept nothing."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from ambient_ray.tracking.checkpoint import CheckpointUnreadableError
from ambient_ray.tracking.drawing.mechanism import Mechanism, mechanism_figure, read_mechanism
from ambient_ray.tracking.drawing.rung import draw_rung

SIGMAS = np.array([0.2, 0.5, 1.0, 2.0])
BANDS = np.array([[0.5, 0.4, 0.6], [0.3, 0.2, 0.4], [0.05, -0.05, 0.1], [0.0, -0.1, 0.1]])


def checkpoint(folder, **settings):
    losses = np.array([[0.5, 0.7, 0.95, 1.0], [1.0, 1.0, 1.0, 1.0]])
    samples = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", samples=samples, gap_sigmas=SIGMAS, gap_losses=losses, gap_bands=BANDS)
    (folder / "checkpoint.json").write_text(json.dumps({"settings": settings}))
    return folder


def test_a_rung_is_drawn_with_what_its_checkpoint_keeps(tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    drawn = draw_rung(checkpoint(tmp_path, sigma_tn=0.5), 64_000, None, folder)
    assert [(path.name, where) for path, where in drawn] == [
        ("0000064000.png", "samples"),
        ("0000064000.svg", "mechanism"),
    ]
    text = drawn[1][0].read_text()
    assert "64,000 images" in text and "sigma_tn 0.5" in text


def test_points_lie_where_the_numbers_say(tmp_path):
    found = read_mechanism(checkpoint(tmp_path, sigma_tn=0.0))
    assert found.sigma_tn == 0
    root = ElementTree.parse(mechanism_figure(found, tmp_path / "m.svg", title="a < b")).getroot()
    gap = root.findall("{*}g")[1]
    points = np.array([[float(c.get("cx")), float(c.get("cy"))] for c in gap.findall("{*}circle")])
    assert np.corrcoef(np.log(SIGMAS), points[:, 0])[0, 1] == pytest.approx(1, abs=1e-5)
    assert np.corrcoef(BANDS[:, 0], points[:, 1])[0, 1] == pytest.approx(-1, abs=1e-5)  # upwards
    bars = [line.get("points") for line in gap.findall("{*}polyline") if line.get("stroke") == "#0072B2"]
    x, y = points[0]
    bar = next(b for b in bars if re.match(rf"{x},[\d.]+ {x},", b) and len(b.split()) == 2)
    low, high = (float(p.split(",")[1]) for p in bar.split())
    assert low > y > high


@pytest.mark.parametrize(
    ("sigma_tn", "said"),
    [
        (0.0, "Plain DDPM"),
        (0.1, "0.1 lies below all"),
        (3.0, "3 lies above all"),
        (1.0, "Shaded"),
        (None, "A gap of 0"),
    ],
)
def test_it_says_where_sigma_tn_lies(tmp_path, sigma_tn, said):
    found = Mechanism(SIGMAS, np.ones(4), np.ones(4), BANDS, sigma_tn)
    text = mechanism_figure(found, tmp_path / "m.svg", title="t").read_text()
    assert said in text
    assert ("#F0F0F0" in text) == (sigma_tn == 1.0)


def test_without_what_it_needs_nothing_is_drawn(tmp_path):
    assert read_mechanism(tmp_path) is None
    np.savez(tmp_path / "samples.npz", samples=np.zeros((1, 8, 8, 1), dtype=np.uint8))
    assert read_mechanism(tmp_path) is None
    (tmp_path / "samples.npz").write_bytes(b"no archive")
    with pytest.raises(CheckpointUnreadableError, match=r"samples\.npz cannot be read"):
        read_mechanism(tmp_path)
