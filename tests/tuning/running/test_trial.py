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
        (TrialShape(cpus=1, gpus=0.3), [{"CPU": 64, "GPU": 4}], 12),  # three on each, and .1 of each is left
        (TrialShape(gpus=1), [{"CPU": 64, "GPU": 4}, {"CPU": 64}], 4),
        (TrialShape(workers=1, gpus=1, most=4), [{"CPU": 64, "GPU": 4}], 4),
        (TrialShape(workers=2, most=8), [{"CPU": 4}, {"CPU": 3}], 3),
    ],
)
def test_concurrency_follows_from_the_nodes(shape, nodes, at_once):
    assert shape.concurrency(nodes) == at_once


def test_a_worker_is_never_split_over_nodes():
    with pytest.raises(TrialShapeError, match="no node can hold a worker with 2 CPUs"):
        TrialShape(cpus=2).concurrency([{"CPU": 1}, {"CPU": 1}])


def test_gpus_that_no_trial_would_use_are_told():
    nodes = [{"CPU": 8}, {"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 1}]
    assert "though there are 3 GPUs: trial.gpus_per_worker=1" in TrialShape().idle_gpus(nodes)
    assert TrialShape(gpus=0.5).idle_gpus(nodes) == TrialShape().idle_gpus(nodes[:1]) == ""


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


@pytest.mark.parametrize(
    ("shape", "nodes", "clause"),
    [
        (TrialShape(workers=2, cpus=2), [{"CPU": 2}], "a trial needs 2 places of 2 CPUs, and the cluster has 1"),
        (TrialShape(gpus=1), [{"CPU": 2}], "a trial needs 1 place of 1 CPUs and 1 GPUs, and the cluster has none"),
    ],
)
def test_what_is_waited_for_is_said_in_numbers(shape, nodes, clause):
    assert shape.lack(nodes) == clause and shape.at_once(nodes) == 0


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"gpus": 1.5}, r"trial.gpus_per_worker=1.5: a worker trains on one GPU or on a fraction of it"),
        ({"gpus": 2}, r"trial.gpus_per_worker=2: a worker trains on one GPU"),
        ({"gpus": 0.5, "workers": 2}, r"trial.gpus_per_worker=0.5 with 2 workers: .* cannot share a GPU"),
        ({"gpus": 0.5, "most": 2}, r"trial.gpus_per_worker=0.5 with 2 workers"),
        ({"workers": 4, "most": 2}, r"trial.workers=\[4,2\]: the first is the fewest"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(shape, message):
    with pytest.raises(TrialShapeError, match=message):
        TrialShape(**shape)


def test_a_fraction_of_a_gpu_reaches_ray_as_it_is():
    assert TrialShape(cpus=2, gpus=0.25).resources == {"CPU": 2, "GPU": 0.25}


@pytest.mark.parametrize(
    ("cores", "slots", "size"), [(8, 8, 1), (8, 2, 4), (8, 3, 2), (9, 2, 4), (0, 2, 1), (3, 1, 3), (100, 1, 4)]
)
def test_slots_share_the_room_evenly_between_the_fewest_and_the_most(cores, slots, size):
    assert TrialShape(most=4).fair_size([{"CPU": cores}], slots) == size


def test_an_elastic_group_starts_with_its_share_of_what_the_cluster_has_by_then(monkeypatch):
    """A node that has died since the last try is no longer waited for, and one that is drained is not counted."""
    from ray.train import ScalingConfig

    from ambient_ray.tuning.running import trainer

    nodes = [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 2.0}]
    monkeypatch.setattr(trainer, "staying", lambda: nodes)
    shape = TrialShape(most=4)
    policy = trainer.FairScaling(ScalingConfig(num_workers=1, resources_per_worker=shape.resources), shape, slots=1)
    sizes = []
    while nodes:
        decision = policy.make_decision_for_non_running_worker_group()
        sizes.append(decision.num_workers)
        assert decision.resources_per_worker == {"CPU": 1}
        nodes.pop()
    assert sizes == [4, 2, 1]
