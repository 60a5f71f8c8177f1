"""Trials that stop themselves leave nothing behind: no placement group, actor, process, open file or memory."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from frail import FRAIL, NETWORK
from search_process import start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

SPACE = """
parameters:
  sigma_tn: {low: 0.1, high: 4.0, log: true}
  noisy_ratio: {low: 0.1, high: 0.9}
fixed: {mixing: set_split}
baselines:
  - {sigma_tn: 0.0}
"""
# Each for as long as the search: growth of any of them is growth without end.
LASTING = ("search", "SlotHost", "Judge", "TrainController", "RayTrainWorker", "ImplicitFunc")


def slope(values):
    """Least squares growth a step, and its standard error."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    y = np.asarray(values, float) - np.mean(values)
    growth = float(x @ y / (x @ x))
    left = y - growth * x
    return growth, float(np.sqrt(left @ left / max(len(values) - 2, 1) / (x @ x)))


def test_a_slope_is_the_growth_and_its_error_is_the_noises():
    rng = np.random.default_rng(0)
    found = [slope(0.3 * np.arange(50) + rng.normal(0, 2, 50)) for _ in range(400)]
    growth, error = np.transpose(found)
    assert abs(growth.mean() - 0.3) < 0.01 and abs(growth.std() / error.mean() - 1) < 0.15


@pytest.fixture(scope="module")
def census(tmp_path_factory, long):
    """What is held at the end of each trial of a search whose judge stops most of them."""
    trials = 100 if long else 12
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "frail_network.py").write_text(NETWORK)
    overrides = ["trial.rungs=[64,96,128]", "evaluation.samples=32", "sampler=random", f"trials={trials}"]
    search = start(
        folder, *FRAIL, *overrides, "trial.reduction_factor=4", "+backbone.pause=0",
        space=SPACE, program=[str(Path(__file__).with_name("census.py")), str(folder / "census")],
    )  # fmt: skip
    try:
        out, _ = search.communicate(timeout=3000)
    finally:
        search.kill()
    assert search.returncode == 0, out
    rows = [json.loads(line) for line in (folder / "census").read_text().splitlines()]
    assert len(rows) == trials, out
    return rows


def test_most_trials_stopped_themselves(census):
    states = [row["state"] for row in census]
    assert set(states) <= {"finished", "stopped"} and states.count("stopped") >= len(states) / 3, states


def test_no_group_actor_or_process_is_left_behind(census, count):
    """Two slots have a group each for their workers, and so have their two drivers."""
    warm = census[len(census) // 3 :]
    assert max(row["groups"] for row in warm) <= 4
    for kind in ("actors", "processes"):
        first, last = warm[0][kind], warm[-1][kind]
        assert all(last.get(name, 0) <= max(first.get(name, 0), 2) for name in last), (first, last)
    numbers = {"groups": warm[-1]["groups"], "actors": sum(warm[-1]["actors"].values())}
    count("leaks", trials=len(census), stopped=sum(row["state"] == "stopped" for row in census), **numbers)


def test_no_open_file_is_left_behind(census, count):
    warm = census[len(census) // 3 :]
    growth = {name: slope([row["files"].get(name, 0) for row in warm]) for name in LASTING}
    count("leaks", files_a_trial={name: f"{value:+.3f} (se {error:.3f})" for name, (value, error) in growth.items()})
    # One a trial would be seen; connections between Ray's processes come and go by a few.
    assert all(value - 2 * error < 0.5 for value, error in growth.values()), growth


def test_memory_is_flat(census, long, count):
    warm, bound = census[len(census) // 3 :], 0.5 if long else 3.0  # megabytes a trial; few trials show no less
    growth = {name: slope([row["megabytes"].get(name, 0) for row in warm]) for name in LASTING}
    slopes = {name: f"{value:+.3f} (se {error:.3f})" for name, (value, error) in growth.items()}
    count("leaks", megabytes_a_trial=slopes, bound=bound)
    assert all(value - 2 * error < bound for value, error in growth.values()), slopes
