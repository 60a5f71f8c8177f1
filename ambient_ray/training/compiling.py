"""torch.compile for trials: one cache a node, a cold compilation that one process pays, and no surprises later."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

#: A worker may train many trials after each other whose networks differ, each a compilation of the same function.
_COMPILATIONS = 64


def missing_compiler(device: torch.device) -> str | None:
    """Why torch.compile cannot work here, or None: it needs a C++ compiler on a CPU, Triton and C on CUDA."""
    cpu = device.type == "cpu"
    usual = ("g++", "clang++") if cpu else ("gcc", "clang")
    chosen = os.environ.get("CXX" if cpu else "CC")
    if not any(shutil.which(name) for name in ([chosen] if chosen else usual)):
        return f"no compiler on this machine ({chosen or ' or '.join(usual)})"
    if not cpu and importlib.util.find_spec("triton") is None:
        return "no compiler for the GPU on this machine (the package triton)"
    return None


def prepare_compiling() -> None:
    """Let compiled code be found by later processes of this user on this node. Before the first compilation.

    It lies in TORCHINDUCTOR_CACHE_DIR where that is set, else in a folder of the user's cache for this kind of
    processor: a home folder may be shared by nodes, and machine code of one crashes on another. Not with the study:
    every study trains the same networks, and its folder may be on a slow disk. PyTorch's own keys hold the versions.
    """
    import torch._dynamo.config
    import torch._functorch.config
    import torch._inductor.config
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # PyTorch writes its default, in the temporary folder, into the variable itself, and Ray's workers inherit it.
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir()) == default_cache_dir():
        folder = _user_cache() / f"compiled-{_processor()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
        except OSError:
            writable = False
        if writable:  # else the default stays
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    torch._inductor.config.fx_graph_cache = True
    torch._functorch.config.enable_autograd_cache = True
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _COMPILATIONS)
    if not torch.cuda.is_available():
        # Compiling for the processor looks for CUDA as well, and warns that it finds half of it.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


@contextmanager
def first_compilation(what: str) -> Iterator[None]:
    """Let the first process of this node that compiles `what` finish; those that waited find its code in the cache.

    what: everything that the compiled code depends on, as text. The system frees the lock of a process that dies.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    name = hashlib.blake2b(f"{what}:{torch.__version__}".encode(), digest_size=12).hexdigest()
    folder = Path(cache_dir()) / "ambient-ray"
    done = folder / name
    if done.exists():
        yield
        return
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():  # another process compiled while this one waited
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield
        done.touch()


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ambient-ray"


def _processor() -> str:
    """A name for the instructions that this node's processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), lines[0])
    return f"{platform.machine()}-{hashlib.blake2b(features.encode(), digest_size=4).hexdigest()}"
