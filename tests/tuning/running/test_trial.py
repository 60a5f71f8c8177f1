"""What fits a cluster, and whose fault a failure was."""

import pytest

from ambient_ray.tuning.running.causes import root_cause
from ambient_ray.tuning.running.run import ClusterError, check_cluster
from ambient_ray.tuning.running.shape import TrialShape, TrialShapeError


@pytest.mark.parametrize(
    ("shape", "nodes", "at_once"),
    [
        (TrialShape(), [{"CPU": 2}], 2),
        (TrialShape(cpus=0.5), [{"CPU": 2}], 4),
        (TrialShape(workers=2), [{"CPU": 2}], 1),
        (TrialShape(workers=2), [{"CPU": 1}, {"CPU": 1}], 1),
        (TrialShape(cpus=2, gpus=0.25), [{"CPU": 16, "GPU": 1}], 4),
        (TrialShape(cpus=0.1), [{"CPU": 1}], 10),
    ],
)
def test_concurrency_follows_from_the_nodes(shape, nodes, at_once):
    assert shape.concurrency(nodes) == at_once


def test_a_worker_is_never_split_over_nodes():
    with pytest.raises(TrialShapeError, match="no node can hold a worker with 2 CPUs"):
        TrialShape(cpus=2).concurrency([{"CPU": 1}, {"CPU": 1}])


def test_a_gpu_that_nobody_has_is_named():
    with pytest.raises(TrialShapeError, match=r"1 GPUs \(there are: 2 CPUs and 0 GPUs"):
        TrialShape(gpus=1).concurrency([{"CPU": 2}])


def test_too_many_workers_say_how_many_fit():
    with pytest.raises(TrialShapeError, match=r"hold 2 of them; lower trial.workers"):
        TrialShape(workers=3).concurrency([{"CPU": 2}])


def test_the_root_cause_is_the_innermost_message():
    class OuterError(Exception):
        worker_failures = {0: ValueError("the loss was not finite")}  # noqa: RUF012

    assert root_cause(OuterError("training failed")) == "ValueError: the loss was not finite"
    chained = RuntimeError("outer")
    chained.__cause__ = OSError("disk full")
    assert root_cause(chained) == "OSError: disk full"


def test_a_cluster_that_nobody_answers_for_is_one_sentence_at_once():
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at 127.0.0.1:9 "):
        check_cluster("127.0.0.1:9")
    check_cluster("auto")  # Ray's to find
