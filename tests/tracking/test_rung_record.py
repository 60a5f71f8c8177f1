"""A rung's record comes back as it was written, and a broken file is named."""

import math
from pathlib import Path

import pytest

from ambient_ray.tracking import RungScores
from ambient_ray.tracking.recording.events import TrialStarted
from ambient_ray.tracking.recording.rung_record import RungRecordError, read_rung, write_rung


def test_what_is_written_comes_back_with_its_types(tmp_path: Path) -> None:
    started = TrialStarted(7, "ambient", {"sigma_tn": 0.5, "rungs": [100, 200], "noise_draws": "inf"}, parent=3)
    scored = RungScores(1, 200, {"fd": 1 / 3, "kid": float("nan")}, {"n": 20}, None, 12.5, 1_700_000_000.25)
    found = read_rung(write_rung(tmp_path, started, scored))
    assert found.started == started
    assert found.scored.scores["fd"] == 1 / 3 and math.isnan(found.scored.scores["kid"])
    assert (found.scored.rung, found.scored.images_seen, found.scored.facts) == (1, 200, {"n": 20})
    assert (found.scored.seconds, found.scored.at) == (12.5, 1_700_000_000.25)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "trial": 3}'])
def test_a_file_that_is_no_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RungRecordError, match=r"x\.json"):
        read_rung(tmp_path / "x.json")
