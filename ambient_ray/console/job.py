"""A search inside a Ray job, whose working directory is a copy that goes with the job."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ambient_ray.errors import UserError

# The job's server sets it for the entry point, and nobody else does.
_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Where a search writes, and how a value of each that names a file begins.
_WRITES = {
    "output_dir": "",
    "storage": r"journal:|sqlite(?:\+\w+)?:///",
    "tracking.uri": r"sqlite(?:\+\w+)?:///|(?!\w+:)",
}


class JobPathError(UserError):
    """A relative path that a Ray job would write to and lose."""


def check_job_paths(content: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
    """Refuse, inside a Ray job, to write to a relative path: it lies in a copy of the working directory on one node.

    The same command, submitted again to go on, would find nothing there.

    Args:
        content: the composed configuration, before its paths are made absolute.
        environment: of this process.

    Raises:
        JobPathError: naming the key.
    """
    if _MARK not in environment:
        return
    for key, beginning in _WRITES.items():
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if not value or (prefix := re.match(beginning, str(value))) is None:
            continue
        path = str(value)[prefix.end() :]
        if not re.match(r"\w+://", path) and not Path(path).expanduser().is_absolute():
            raise JobPathError(
                f"{key}={value} is relative, and the working directory of a Ray job is a copy that is lost with it:"
                f" give an absolute path that the job's next submission finds too, e.g."
                f" {key}={prefix.group()}/mnt/shared/{Path(path).name}"
            )
