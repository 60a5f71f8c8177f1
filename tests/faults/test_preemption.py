"""A node that is taken away with a notice: its trial goes on elsewhere, with the workers that there is room for.

Through a real cluster of three raylets on this machine. No trial may be counted as failed: `trial.max_failures=0`.
"""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from search_process import start, there, workers_under

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
OPEN = {"RAY_AUTH_MODE": "disabled"}
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100 * 2**20}
RUNGS = (640, 51_200, 102_400, 153_600)  # of about 40 s each: time for a node to go and another one to come


def processes_of(node):
    """The names of all that a node's raylet has started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [" ".join(child.cmdline()) for child in raylet.children() if child.status() != psutil.STATUS_ZOMBIE]


def drivers_on(node):
    """How many trials' drivers a node has: this machine's raylets have one address, so Ray may put one on any."""
    return sum("ImplicitFunc" in name for name in processes_of(node))


@pytest.fixture
def cluster(monkeypatch, long):
    """A head without CPUs and two nodes of one CPU each, so that a worker is on one or on the other."""
    if not long:
        pytest.skip("in make faults; the short form of a notice is SIGTERM to one of two workers, in tests/e2e")
    patient = {"RAY_raylet_start_wait_time_s": "300"}
    for key, value in (OPEN | patient | {"RAY_USAGE_STATS_ENABLED": "0", "AMBIENT_RAY_CPU_FOR_GPU": "1"}).items():
        monkeypatch.setenv(key, value)
    from ray.cluster_utils import Cluster

    cluster = Cluster(True, head_node_args=NODE | {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
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


def test_a_trial_goes_on_with_what_is_left_and_has_not_failed(cluster, tmp_path, count):
    """An elastic trial on both nodes; one is drained and removed, and another one comes.

    Each worker is given a GPU that is none: the processor stands for it.
    """
    raylets, nodes = cluster
    process = start(
        tmp_path, f"address={raylets.address}", "study=moved", "training.sigma_tn=0.5", "trial.max_failures=0",
        "trial.workers=[1,2]", "trial.gpus_per_worker=1", "training.compile=false",
        f"trial.rungs={list(RUNGS)}".replace(" ", ""), module="train", variables=OPEN,
    )  # fmt: skip
    folder = tmp_path / "out" / "moved" / "trials"
    sizes = []

    def group(size):
        """So many workers, once they are there and no others."""
        workers = there(lambda: len(found := workers_under(os.getpid())) == size and found)
        sizes.append(size)
        return workers

    try:
        first, second = group(2)
        both = [node_of(nodes, worker) for worker in (first, second)]
        assert both[0] is not both[1]
        here = min(both, key=drivers_on)
        there(lambda: list(folder.glob("*/rung-00-*")))
        drain(raylets.address, here)
        (pause,) = there(lambda: list(folder.glob("*/pause-*")))
        for worker in (first, second):
            worker.wait(120)
        raylets.remove_node(here)
        group(1)
        there(lambda: list(folder.glob("*/rung-01-*")))
        raylets.add_node(**NODE)
        group(2)
        out, _ = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0 and "finished" in out, out
    at = int(pause.name.split("-")[1])
    assert RUNGS[0] < at <= RUNGS[1]
    assert len(list(folder.glob("*/rung-*"))) == len(RUNGS) and not list(folder.glob("*/pause-*"))
    from ambient_ray.tuning.faults import BLAMELESS
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    objectives = Objectives("fd_classifier", "f_mem")
    (trial,) = Study("moved", f"journal:{tmp_path}/out/moved/study.journal", objectives).trials()
    counted = [fault.cause for fault in trial.faults if fault.cause not in BLAMELESS]
    assert trial.state == "finished" and counted == []
    count("preemption", groups=sizes, counted_as_failures=len(counted), paused_at_image=at)
