"""A node that is taken away with a notice, or SIGTERM to a worker: the trial goes on elsewhere, from where it was.

Through a real cluster of three raylets on this machine. No trial may be counted as failed: `trial.max_failures=0`.
"""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import start, there, workers_under

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
OPEN = {"RAY_AUTH_MODE": "disabled"}
RUNGS = (640, 25_600, 51_200)


@pytest.fixture
def cluster(monkeypatch):
    """A head without CPUs and two nodes of one CPU each, so that a worker is on one or on the other."""
    for key, value in (OPEN | {"RAY_USAGE_STATS_ENABLED": "0"}).items():
        monkeypatch.setenv(key, value)
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    nodes = [cluster.add_node(num_cpus=1, **memory) for _ in range(2)]
    yield cluster, nodes
    cluster.shutdown()


def drain(address, node):
    """What an autoscaler or a cloud's agent says of a node that is reclaimed in half a minute."""
    import ray
    from ray.core.generated import autoscaler_pb2

    client = ray._raylet.GcsClient(address=address)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, problem = client.drain_node(node.node_id, reason, "reclaimed", int(1000 * (time.time() + 30)))
    assert accepted, problem


def node_of(nodes, worker):
    """Which node's raylet started a worker."""
    ancestors = {parent.pid for parent in worker.parents()}
    return next(node for node in nodes if node.all_processes["raylet"][0].process.pid in ancestors)


def test_a_trial_goes_on_elsewhere_and_has_not_failed(cluster, tmp_path, long, count):
    """A node is drained and removed; in the long form the worker that has followed gets SIGTERM, too."""
    raylets, nodes = cluster
    rungs = RUNGS if long else RUNGS[:2]
    process = start(
        tmp_path, f"address={raylets.address}", "study=moved", "training.sigma_tn=0.5", "trial.max_failures=0",
        f"trial.rungs={list(rungs)}".replace(" ", ""), module="train", variables=OPEN,
    )  # fmt: skip
    folder = tmp_path / "out" / "moved" / "trials"

    def paused():
        """Images seen by the checkpoint of the pause, once it is there."""
        return int(there(lambda: list(folder.glob("*/pause-*")))[0].name.split("-")[1])

    try:
        (worker,) = there(lambda: workers_under(os.getpid()))
        here = node_of(nodes, worker)
        there(lambda: list(folder.glob("*/rung-00-*")))
        drain(raylets.address, here)
        at = [paused()]
        worker.wait(120)
        raylets.remove_node(here)
        there(lambda: list(folder.glob("*/rung-01-*")))
        if long:
            (second,) = workers_under(os.getpid())
            second.send_signal(signal.SIGTERM)
            at.append(paused())
            second.wait(120)
        out, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0 and "finished" in out, out
    assert all(rungs[k] < images < rungs[k + 1] for k, images in enumerate(at))
    assert len(list(folder.glob("*/rung-*"))) == len(rungs) and not list(folder.glob("*/pause-*"))
    count("preemption", moved=len(at), counted_as_failures=0, paused_at=at)
