"""Trials that stop themselves leave nothing behind: no placement group, actor, process, open file or memory."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import theilslopes

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


def growths(census, kind):
    """Growth a trial of what each lasting process holds, and the lower and upper end of its 95 % interval.

    Theil and Sen's: a library that is imported once, somewhere in the search, is no growth.
    """
    warm = census[len(census) // 2 :]
    found = {name: theilslopes([row[kind].get(name, 0) for row in warm]) for name in LASTING}
    return {name: (slope.slope, slope.low_slope, slope.high_slope) for name, slope in found.items()}


def told(growth):
    """The growths as they are printed."""
    return {name: f"{slope:+.3f} [{low:+.3f}, {high:+.3f}]" for name, (slope, low, high) in growth.items()}


def rows(held):
    return [{"files": dict.fromkeys(LASTING, value)} for value in held]


def test_growth_is_seen_and_one_step_is_none():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, 40)
    growing = growths(rows(0.7 * np.arange(40) + noise), "files")
    assert all(low < 0.7 < high and low > 0.3 for _, low, high in growing.values())
    leaping = growths(rows(50.0 * (np.arange(40) >= 30) + 0.1 * noise), "files")
    assert all(low < 0.1 for _, low, _ in leaping.values())
    every_other = growths(rows(np.arange(40) // 2 * 2.0), "files")
    assert all(low > 0.5 for _, low, _ in every_other.values())


@pytest.fixture(scope="module")
def census(tmp_path_factory, long):
    """What is held at the end of each trial of a search whose judge stops most of them."""
    trials = 100 if long else 40
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
    warm = census[len(census) // 2 :]
    assert max(row["groups"] for row in warm) <= 4
    for kind in ("actors", "processes"):
        names = {name for row in warm for name in row[kind]}
        # What is left behind stays: a process that draws a figure is there for one row.
        first, last = ({n: min(row[kind].get(n, 0) for row in part) for n in names} for part in (warm[:5], warm[-5:]))
        assert all(last[name] <= max(first[name], 2) for name in names), (first, last)
    numbers = {"groups": warm[-1]["groups"], "actors": sum(warm[-1]["actors"].values())}
    count("leaks", trials=len(census), stopped=sum(row["state"] == "stopped" for row in census), **numbers)


def test_no_open_file_is_left_behind(census, count):
    growth = growths(census, "files")
    count("leaks", files_a_trial=told(growth))
    # One a trial would be seen; connections between Ray's processes come and go by a few.
    assert all(low < 0.5 for _, low, _ in growth.values()), growth


def test_memory_is_flat(census, count):
    growth, bound = growths(census, "megabytes"), 0.5
    count("leaks", megabytes_a_trial=told(growth), bound=bound)
    assert all(low < bound for _, low, _ in growth.values()), growth
