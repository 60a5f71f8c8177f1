"""The commands that made a model: the search's as it was given, and one that trains this model alone."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ambient_ray.redaction import redacted
from ambient_ray.training import TrainSettings
from ambient_ray.training.settings import NETWORK_SETTINGS
from ambient_ray.tuning.records import TrialRecord

# Keys of a search that one configuration does not have, or that are set anew.
_OF_THE_SEARCH = (
    "study", "trials", "hours", "gpu_hours", "search_space", "search_spaces", "space", "sampler", "prior", "confirm",
    "warm_start", "enqueue", "dry_run", "tracking.model_name", "tracking.register_front", "trial.rungs",
    "trial.rung_values", "training.precision", "training.compile",
)  # fmt: skip


def command(argv: Sequence[str]) -> str:
    """The command of this process, as one would type it; passwords in addresses are left out (`redacted`).

    Args:
        argv: `sys.argv`.
    """
    given = [redacted(argument) for argument in argv[1:]]
    program = Path(argv[0]) if argv else Path("search")
    if program.suffix == ".py":
        return shlex.join(["python", "-m", f"ambient_ray.{program.stem}", *given])
    return shlex.join([program.name, *given])


def retrain_command(
    argv: Sequence[str], study: str, settings: TrainSettings, trial: TrialRecord, images_seen: int
) -> str:
    """The command that trains one trial again, up to a rung: the search's data and network, the trial's settings.

    On the same platform, with the same versions, it gives the same weights, bit for bit; where the search packed its
    trials (`trial.pack`), to rounding. What `auto` became is said, for a shorter run might resolve it otherwise.

    Args:
        argv: `sys.argv` of the search.
        study: its name.
        settings: its training, resolved.
        trial: which; a replica's seed is set as `training.seed`.
        images_seen: the rung.
    """
    kept = [redacted(given) for given in argv[1:] if not _of_the_search(given)]
    rungs = [rung.images_seen for rung in trial.rungs if rung.images_seen <= images_seen]
    own = [f"study={study}-trial-{trial.number}", f"trial.rungs={_value(rungs)}"]
    resolved = {"precision": settings.precision, "compile": settings.compile}
    for key, value in {**resolved, **trial.settings}.items():
        if key == "rungs":
            continue
        own.append(f"++{'backbone' if key in NETWORK_SETTINGS else 'training'}.{key}={_value(value)}")
    return shlex.join(["python", "-m", "ambient_ray.train", *kept, *own])


def _of_the_search(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return any(key == own or key.startswith(f"{own}.") for own in _OF_THE_SEARCH)


def _value(value: Any) -> str:
    """As Hydra reads it: no blanks in a list."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
