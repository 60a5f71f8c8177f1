"""From models that a search has found to entries of the registry, and from what became of them to tags of its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ambient_ray.storage import MODEL, SAMPLES

from ..checkpoint import local_checkpoint
from ..models.origin import Origin
from ..models.registry import Registration
from ..models.versions import Entry
from .events import FoundModel, ModelsFound, StudyStarted, TrialStarted


def entry_of(event: ModelsFound, found: FoundModel, study: StudyStarted, trial: TrialStarted, *, run_id: str) -> Entry:
    """A model with where it comes from, as its study knows it.

    run_id: the trial's run. ValueError for a model without a checkpoint, CheckpointUnreadableError where it is gone.
    """
    scored = found.scored
    if scored.checkpoint is None:
        raise ValueError(f"trial {found.number} has no checkpoint to register")
    data = study.dataset
    checkpoint = local_checkpoint(scored.checkpoint, (MODEL, SAMPLES), scored.digest)
    stored = _stored(checkpoint)
    origin = Origin(
        study=study.study,
        trial=found.number,
        arm=trial.arm,
        replica_of=trial.parent,
        settings=dict(trial.params),
        dataset={} if data is None else {
            "name": data.name, "content_hash": data.content_hash, "shape": data.shape, **data.profile
        },
        training=stored.get("settings", {}),
        configuration=dict(study.params),
        command=event.command,
        retrain=found.retrain,
        packages=stored.get("versions", {}),
    )  # fmt: skip
    return Entry(checkpoint, run_id, scored.scores, scored.facts, found.evidence, origin, found.aliases, found.tags)


def told(model: str, registration: Registration) -> dict[str, str]:
    """What became of the models, as tags of the study's run."""
    tags = {"ambient_ray.promotion": registration.why}
    if registration.champion is not None:
        tags["ambient_ray.champion"] = f"models:/{model}/{registration.champion}"
    if registration.version is not None:
        tags["ambient_ray.registered"] = f"models:/{model}/{registration.version}"
    tags["ambient_ray.versions"] = ", ".join(map(str, registration.versions))
    return tags | {f"ambient_ray.alias.{alias}": text for alias, text in registration.aliases.items()}


def _stored(checkpoint: Path) -> dict[str, Any]:
    """checkpoint.json; what lacks there is no reason not to register, and `read_checkpoint` tells what is broken."""
    try:
        content = json.loads((checkpoint / "checkpoint.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
