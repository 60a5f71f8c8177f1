"""A search on a cluster that grows waits for nodes, begins with those that came, and says why when none did."""

import pytest

from ambient_ray.tuning.running.growth import PATIENCE, SETTLE, NodesMissingError, await_nodes
from ambient_ray.tuning.running.shape import TrialShape

HEAD, WORKER = {"CPU": 0.0}, {"CPU": 7.0, "GPU": 1.0}
SHAPE = TrialShape(workers=1, cpus=6, gpus=1)


class Cloud:
    """A cluster on a clock of its own: `arrivals` are the seconds at which workers of one GPU come."""

    def __init__(self, *arrivals, grows=True):
        self.now, self.arrivals, self.asked, self._grows = 0.0, arrivals, [], grows

    def grows(self):
        return self._grows

    def nodes(self):
        return [HEAD, *(WORKER for at in self.arrivals if at <= self.now)]

    def ask_for(self, bundles):
        self.asked.append(list(bundles))

    def sleep(self, seconds):
        self.now += seconds
        return self.now


def test_it_waits_for_all_that_were_asked_for():
    cloud, said = Cloud(100, 200, 230, 400), []
    assert await_nodes(SHAPE, 4, said.append, cloud) == 4
    assert 400 <= cloud.now < 410
    assert cloud.asked == [[{"CPU": 6, "GPU": 1}] * 4]
    assert said[0].startswith("asking the cluster for the nodes of 4 trials")


def test_it_begins_with_what_came_when_no_more_come():
    cloud, said = Cloud(100, 200), []
    assert await_nodes(SHAPE, 4, said.append, cloud) == 2
    assert 200 + SETTLE <= cloud.now <= 210 + SETTLE
    assert "beginning with 2 trials" in said[-1]


def test_a_slow_first_node_is_waited_for():
    cloud = Cloud(PATIENCE - 10)
    assert await_nodes(SHAPE, 1, lambda line: None, cloud) == 1


def test_where_none_comes_it_says_so():
    cloud = Cloud()
    with pytest.raises(NodesMissingError, match=r"no node in 30 minutes that holds a worker with 6 CPUs and 1 GPUs"):
        await_nodes(SHAPE, None, lambda line: None, cloud)
    assert cloud.now == pytest.approx(PATIENCE, abs=10)


@pytest.mark.parametrize("wanted", [None, 2])
def test_nothing_is_asked_where_enough_is_there(wanted):
    cloud = Cloud(0, 0)
    assert await_nodes(SHAPE, wanted, pytest.fail, cloud) == 2
    assert cloud.asked == []


def test_a_cluster_that_does_not_grow_is_not_waited_for():
    cloud = Cloud(grows=False)
    assert await_nodes(SHAPE, 4, pytest.fail, cloud) == 0
    assert cloud.now == 0 and cloud.asked == []


def test_a_trial_of_two_workers_asks_for_both():
    cloud = Cloud(10, 20, 30, 40)
    assert await_nodes(TrialShape(2, 6, 1), 2, lambda line: None, cloud) == 2
    assert len(cloud.asked[0]) == 4
