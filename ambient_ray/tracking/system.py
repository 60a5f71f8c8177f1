"""Facts of the machine and the software that a result may depend on, without heavy imports."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
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


def git_commit() -> str | None:
    """The commit that this package runs from, with `-dirty` if files differ; None outside a checkout."""
    package = str(Path(__file__).resolve().parents[1])
    if not _run("git", "-C", package, "ls-files", "__init__.py"):
        return None  # not tracked: an installed copy that happens to lie inside somebody's repository
    commit = _run("git", "-C", package, "rev-parse", "HEAD")
    changed = _run("git", "-C", package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}-dirty" if commit and changed else commit or None


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
