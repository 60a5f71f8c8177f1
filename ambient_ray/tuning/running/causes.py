"""Why a group of workers ended, from the errors that Ray hands on: one of a few causes, and one clause."""

import errno
import re
from collections.abc import Iterator

from ..faults import Cause

_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
_STORAGE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.ENOENT}
)
_LESS_MEMORY = (
    "lower training.batch_size, evaluation.sample_batch or the network's width, or run fewer trials at once"
    " (trial.max_concurrent, trial.pack, more of a GPU with trial.gpus_per_worker)"
)


def explained(error: BaseException) -> tuple[Cause, str]:
    """The cause of an error that ended a slot's Ray Train run, and what to tell of it.

    Ray wraps what happened in a worker in several layers, so all of them are looked at. An actor's death that comes
    from the workers is theirs; otherwise it is their controller's.
    """
    chain = list(_layers(error))
    names = [type(layer).__name__ for layer in chain]
    said = root_cause(error)
    for layer in chain:
        if _is_memory(layer):
            first = next((line.strip() for line in str(layer).splitlines() if line.strip()), "")
            return "out of memory", f"out of memory ({type(layer).__name__}: {first[:160]}); {_LESS_MEMORY}"
    if {"WorkerHealthCheckTimeoutError", "NCCLHangError"} & set(names):
        return "hang", "its worker did not answer Ray Train"
    deaths = [layer for layer in chain if _is_death(layer)]
    if deaths:
        text = str(deaths[-1])
        if "NodeDiedError" in names or _node_died(deaths[-1], text):
            return "node died", "its node is gone"
        if "WorkerGroupError" not in names and "WorkerGroupStartupFailedError" not in names:
            return "controller died", "the controller of its workers died"
        return "worker died", f"its worker died ({_exit(text)})"
    if any(isinstance(layer, OSError) and layer.errno in _STORAGE for layer in chain):
        return "storage", f"storage: {said}"
    return "error", said


def root_cause(error: BaseException) -> str:
    """The innermost message of an error that came through Ray's layers, as one sentence."""
    innermost = list(_layers(error))[-1]
    lines = [line.strip() for line in str(innermost).splitlines() if line.strip()]
    return f"{type(innermost).__name__}: {lines[-1] if lines else 'no message'}"


def _layers(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps, what that wraps, ...: of several workers' errors the one that says most."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        failures = getattr(error, "worker_failures", None)
        inner: object = None
        if failures:  # where one rank fails, the others fail for it: a death or lack of memory explains them
            inner = max(failures.values(), key=lambda e: any(_is_memory(x) or _is_death(x) for x in _layers(e)))
        for name in ("health_check_failure", "controller_failure", "cause", "__cause__"):
            inner = inner if isinstance(inner, BaseException) else getattr(error, name, None)
        if not isinstance(inner, BaseException):
            return
        error = inner


def _is_memory(error: BaseException) -> bool:
    """Ray's memory monitor, Python's, CUDA's or PyTorch's allocator."""
    if isinstance(error, MemoryError) or type(error).__name__.startswith("OutOfMemoryError"):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY)


def _is_death(error: BaseException) -> bool:
    from ray.exceptions import NodeDiedError, RayActorError, WorkerCrashedError

    return isinstance(error, RayActorError | NodeDiedError | WorkerCrashedError)


def _node_died(error: BaseException, text: str) -> bool:
    return bool(getattr(error, "preempted", False)) or "node has died" in text or "node was" in text.lower()


def _exit(text: str) -> str:
    """What Ray knows of a process's end, in a few words."""
    if found := re.search(r"exit code[:= ]+(-?\d+)", text, re.IGNORECASE):
        return f"exit code {found[1]}"
    if "connection error" in text.lower() or "unexpectedly exits" in text.lower() or "SYSTEM_ERROR" in text:
        return "killed, as by SIGKILL or for want of memory, or crashed"
    return "killed by Ray" if "ray.kill" in text else "without a word"
