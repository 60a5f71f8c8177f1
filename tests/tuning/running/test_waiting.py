"""A search waits for a cluster's first nodes as long as it is to, says for what, and an autoscaler hears of it."""

import importlib
import math

import pytest

from ambient_ray.tuning.running import waiting
from ambient_ray.tuning.running.shape import TrialShape, TrialShapeError
from ambient_ray.tuning.running.waiting import Demand, wait_for_nodes

groups = importlib.import_module("ray.util.placement_group")  # ray.util has a function of that name
PAIR = TrialShape(workers=2, cpus=2)


class Group:
    def __init__(self, bundles, strategy):
        self.bundles, self.strategy, self.there = bundles, strategy, False

    def wait(self, timeout_seconds):
        assert timeout_seconds == 0, "nobody has time for that"
        return self.there


@pytest.fixture
def asked(monkeypatch):
    """The placement groups that stand."""
    standing = []

    def make(bundles, strategy):
        standing.append(Group(bundles, strategy))
        return standing[-1]

    monkeypatch.setattr(groups, "placement_group", make)
    monkeypatch.setattr(groups, "remove_placement_group", standing.remove)
    return standing


def test_an_autoscaler_hears_of_as_many_trials_as_wait(asked):
    demand = Demand(PAIR)
    demand.want(3)
    assert [group.bundles for group in asked] == [[{"CPU": 2}, {"CPU": 2}]] * 3
    demand.want(1)
    assert len(asked) == 1
    demand.want(0)
    assert asked == []


def test_room_that_has_come_is_given_back_at_once(asked):
    demand = Demand(PAIR)
    demand.want(2)
    came = asked[0]
    came.there = True
    demand.want(1)
    assert len(asked) == 1 and came not in asked


def test_nobody_is_asked_for_more_than_a_screenful_at_once(asked):
    Demand(PAIR).want(1_000_000)
    assert len(asked) == 64


def test_it_waits_says_so_once_and_leaves_no_demand(asked, monkeypatch):
    seen = iter([[], [], [{"CPU": 2}], [{"CPU": 2}, {"CPU": 2}]])
    during, lines = [], []
    monkeypatch.setattr(waiting, "staying", lambda: next(seen))
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: during.append(len(asked)))
    wait_for_nodes(PAIR, 10, lines.append)
    assert lines == [
        "waiting for nodes: a trial needs 2 places of 2 CPUs, and the cluster has none; for 10 minutes at most"
        " (trial.wait_for_nodes_minutes)",
        "waiting for nodes: a trial needs 2 places of 2 CPUs, and the cluster has 1; for 10 minutes at most"
        " (trial.wait_for_nodes_minutes)",
        "the cluster has room for a trial now",
    ]
    assert during == [1, 1, 1] and asked == []


def test_what_was_begun_is_waited_for_without_end(asked, monkeypatch):
    seen, lines = iter([[], [{"CPU": 4}]]), []
    monkeypatch.setattr(waiting, "staying", lambda: next(seen))
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: None)
    wait_for_nodes(PAIR, math.inf, lines.append)
    assert lines[0] == "waiting for nodes: a trial needs 2 places of 2 CPUs, and the cluster has none"


def test_room_that_is_there_costs_no_word(asked, monkeypatch):
    lines = []
    monkeypatch.setattr(waiting, "staying", lambda: [{"CPU": 4}])
    wait_for_nodes(PAIR, 10, lines.append)
    assert lines == [] and asked == []


def test_what_never_comes_is_refused_in_the_end_by_what_there_is(asked, monkeypatch):
    monkeypatch.setattr(waiting, "staying", lambda: [{"CPU": 2}])
    with pytest.raises(TrialShapeError, match=r"hold 1 of them; lower trial.workers"):
        wait_for_nodes(PAIR, 0, lambda line: None)
    assert asked == []
