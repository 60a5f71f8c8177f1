"""Every way in which Ray says that workers have ended is one of the causes, and a clause that a person understands."""

import errno

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from ambient_ray.tuning.faults import CAUSES
from ambient_ray.tuning.running.causes import explained

# What Ray 2.60 says of an actor whose process got SIGKILL.
KILLED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: A\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker"
    " unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was"
    " killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed"
)


def died(text, preempted=False):
    error = ActorDiedError()
    error.error_msg, error._preempted = text, preempted
    return error


def in_worker(error, **others):
    return WorkerGroupError("x", {0: error, **{int(rank[1:]): other for rank, other in others.items()}})


def health(error):
    return WorkerHealthCheckFailedError("A worker health check failed.", error)


def chained(error):
    outer = RuntimeError("saving failed")
    outer.__cause__ = error
    return outer


class CudaError(RuntimeError):
    """Stands for torch.OutOfMemoryError."""


CudaError.__name__ = "OutOfMemoryError"

CASES = {
    "a killed worker": (in_worker(health(died(KILLED))), "worker died", "its worker died (killed, as by SIGKILL"),
    "a killed rank, for which the other failed": (
        in_worker(RuntimeError("[gloo] Connection closed by peer"), r1=health(died(KILLED))), "worker died", "SIGKILL",
    ),
    "a killed controller": (died(KILLED), "controller died", "the controller of its workers died"),
    "a dead node": (in_worker(health(died("The actor died because its node has died."))), "node died", "node is gone"),
    "a dead node, otherwise": (in_worker(health(NodeDiedError("gone"))), "node died", "node is gone"),
    "a spot node": (in_worker(health(died("x", preempted=True))), "node died", "its node is gone"),
    "Ray's memory monitor": (
        in_worker(health(OutOfMemoryError("Task was killed due to the node running low on memory.\nMore advice"))),
        "out of memory", "node running low on memory.); lower training.batch_size",
    ),
    "a GPU's memory": (
        in_worker(CudaError("CUDA out of memory. Tried to allocate 2 GiB")), "out of memory", "trial.gpus_per_worker",
    ),
    "a processor's memory": (
        in_worker(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")),
        "out of memory", "lower training.batch_size",
    ),
    "Python's memory": (in_worker(MemoryError("no")), "out of memory", "(MemoryError: no)"),
    "a stopped worker": (in_worker(WorkerHealthCheckTimeoutError("10 min")), "hang", "did not answer"),
    "a full disk": (
        in_worker(chained(OSError(errno.ENOSPC, "No space left on device"))), "storage", "No space left on device",
    ),
    "anything else": (in_worker(KeyError("weights")), "error", "KeyError: 'weights'"),
    "a controller's own error": (ControllerError(ValueError("no such node")), "error", "ValueError: no such node"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "cause", "words"), CASES.values(), ids=list(CASES))
def test_what_ray_raises_has_a_cause_and_a_clause(error, cause, words):
    found, said = explained(error)
    assert found == cause and found in CAUSES
    assert words in said and "\n" not in said


def test_an_error_that_is_its_own_cause_comes_to_an_end():
    error = RuntimeError("round and round")
    error.__cause__ = error
    assert explained(error) == ("error", "RuntimeError: round and round")
