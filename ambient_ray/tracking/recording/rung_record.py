"""One rung of one trial: its metrics, and a JSON file among the trial's artifacts with all that a report needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ambient_ray.errors import UserError

from ..labels import IMAGES_SEEN, SPEED, SYSTEM, finite
from .events import RungScores, TrialStarted

FOLDER = "rungs"  # among a trial's artifacts
_FORMAT = 1


class RungRecordError(UserError):
    """A file is no record of a rung, or of a later format."""


@dataclass(frozen=True)
class StoredRung:
    """A rung's scores and the trial that it is of, whose settings have the types that the search gave them."""

    started: TrialStarted
    scored: RungScores


def rung_metrics(scored: RungScores) -> dict[str, float]:
    """A rung's metrics: its finite scores, `rung`, `images_seen`, and what it took, as MLflow's system metrics.

    They are to be written at once: `rung` among them says that the rung is all there.
    """
    values = finite(scored.scores)
    cost = {"seconds": scored.seconds or None, SPEED: values.pop(SPEED, None)}
    system = {f"{SYSTEM}{key}": value for key, value in cost.items() if value is not None}
    return values | system | {IMAGES_SEEN: float(scored.images_seen), "rung": float(scored.rung)}


def write_rung(folder: Path, started: TrialStarted, scored: RungScores) -> Path:
    """Write `rungs/<images seen>.json` into `folder` and return its path; figures that are not finite become null."""
    path = folder / FOLDER / f"{scored.images_seen:010d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = {key: value if abs(value) < float("inf") else None for key, value in scored.scores.items()}
    content = {
        "format": _FORMAT,
        "trial": {
            "number": started.number, "arm": started.arm,
            "settings": dict(started.params), "replica_of": started.parent,
        },
        "rung": scored.rung, "images_seen": scored.images_seen, "seconds": scored.seconds, "at": scored.at,
        "scores": scores, "facts": dict(scored.facts),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return path


def read_rung(path: Path) -> StoredRung:
    """What `write_rung` wrote. RungRecordError names the file."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] > _FORMAT:
            raise RungRecordError(f"{path} was written by a later ambient-ray: update this installation")
        trial = stored["trial"]
        started = TrialStarted(int(trial["number"]), trial["arm"], trial["settings"], trial["replica_of"])
        scores = {key: float("nan") if value is None else float(value) for key, value in stored["scores"].items()}
        scored = RungScores(
            int(stored["rung"]), int(stored["images_seen"]), scores, stored["facts"],
            seconds=float(stored["seconds"]), at=float(stored["at"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RungRecordError(f"{path} is no record of a rung: {type(error).__name__}: {error}") from error
    return StoredRung(started, scored)
