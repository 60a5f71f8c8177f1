"""Facts of the machine and the software that a result may depend on, without heavy imports."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ambient-ray", "torch", "ray", "optuna", "mlflow", "diffusers", "numpy")


def system_facts() -> dict[str, str]:
    """Facts of the driver's machine, as text: CPU model, cores, GPU names, platform, versions."""
    facts = {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "gpu": _run("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").replace("\n", ", ") or "none",
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            facts[package.replace("-", "_")] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return facts


def machine_tags() -> dict[str, str]:
    """`system_facts` as tags of a run."""
    return {f"system.{key}": value for key, value in system_facts().items()}


def git_commit() -> str | None:
    """The commit that this package runs from, with `-dirty` if files differ; None outside a checkout."""
    package = str(Path(__file__).resolve().parents[2])
    if not _run("git", "-C", package, "ls-files", "__init__.py"):
        return None  # not tracked: an installed copy that happens to lie inside somebody's repository
    commit = _run("git", "-C", package, "rev-parse", "HEAD")
    changed = _run("git", "-C", package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}-dirty" if commit and changed else commit or None


def source_tags() -> dict[str, str]:
    """Who ran which program at which commit, as MLflow's own tags, for its columns User, Source and Version."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = spec.name.removesuffix(".__main__") if spec is not None else Path(sys.argv[0]).name
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": program}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (OSError, KeyError):  # in a container under a user id without a name
        tags["mlflow.user"] = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    commit = git_commit()
    return tags if commit is None else tags | {"mlflow.source.git.commit": commit}


class MachineLoad:
    """How busy this machine is, now and then: what MLflow's own monitor measures, without its threads."""

    def __init__(self, every: float = 10.0) -> None:
        """every: seconds that lie between two measurements at least."""
        import psutil

        psutil.cpu_percent()  # the next call tells of the time since
        self._every, self._next = every, 0.0

    def metrics(self, now: float) -> dict[str, float]:
        """Under MLflow's names; empty if it was measured a moment ago.

        CPU since the last measurement and memory, of the whole machine; each GPU's load and memory where `nvidia-smi`
        is there. Percentages are of 100; memory is in 10^6 bytes.
        """
        import psutil

        if now < self._next:
            return {}
        self._next = now + self._every
        memory = psutil.virtual_memory()
        load = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": memory.percent,
        }
        return load | _gpu_load()


def _gpu_load() -> dict[str, float]:
    load: dict[str, float] = {}
    asked = "--query-gpu=index,utilization.gpu,memory.used,memory.total"
    for line in _run("nvidia-smi", asked, "--format=csv,noheader,nounits").splitlines():
        try:
            gpu, busy, used, total = line.split(", ")
            load |= {
                f"gpu_{gpu}_utilization_percentage": float(busy),
                f"gpu_{gpu}_memory_usage_megabytes": float(used) * 2**20 / 1e6,
                f"gpu_{gpu}_memory_usage_percentage": 100 * float(used) / float(total),
            }
        except ValueError:  # "[N/A]", as for a slice of a GPU
            continue
    return load


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _run(*command: str) -> str:
    """Standard output of `command`, stripped; empty if it is not installed, fails, or takes over 10 s."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
