"""The registry: a checkpoint becomes a version of the study's model; the alias `champion` moves if it may."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundle import weights_hash, write_generator, write_mlflow_model
from .checkpoint import read_checkpoint
from .labels import STUDY, text_tags
from .promotion import Evidence, Promotion, promotion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
PREVIOUS = "previous-champion"
_HASH_TAG = "ambient_ray.weights_sha256"


@dataclass(frozen=True)
class Registration:
    """What became of a checkpoint in the registry.

    Attributes:
        version: its version.
        champion: the version that holds the alias `champion` now: this one, or one that it did not beat.
        promoted: whether the alias moved to it (it may have held it already).
        why: the reason, without a full stop.
    """

    version: int
    champion: int
    promoted: bool
    why: str


def register_champion(
    client: MlflowClient,
    model: str,
    checkpoint: Path,
    *,
    run_id: str,
    scores: Mapping[str, float],
    facts: Mapping[str, Any],
    evidence: Evidence,
) -> Registration:
    """Register `checkpoint` as a version of the model `model`; point `champion` to it if its evidence says so.

    A model's first version becomes its champion. Later ones take the alias only as `promotion` decides from the
    tags of what holds it; the others stay versions without it, and the tag `evidence.promotion` says why. The same
    weights are registered once: a second call renews the evidence, which may also move the alias. The champion that
    steps down is reachable as `previous-champion`. scores and facts travel inside the model and as tags; evidence
    as tags. run_id: the trial's run. Tags are written before the alias moves, so a champion always has its
    evidence. One writer a model is assumed: two searches that register at the same moment may pass over each other.
    Raises CheckpointUnreadableError, and MlflowException from the store.
    """
    digest = weights_hash(checkpoint)
    version = find_version(client, model, digest)
    if version is None:
        version = _register(client, model, checkpoint, digest, run_id, scores, facts)
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    decision = _decide(client, model, version, None if holder is None else int(holder), evidence)
    tags = evidence.tags() | {"evidence.promotion": decision.why}
    for key, value in text_tags(tags).items():
        client.set_model_version_tag(model, str(version), key, value)
    if decision.moves and holder is not None:
        client.set_registered_model_alias(model, PREVIOUS, str(holder))
    if decision.moves:
        client.set_registered_model_alias(model, CHAMPION, str(version))
    champion = version if decision.moves or holder is None else int(holder)
    return Registration(version, champion, decision.moves, decision.why)


def _decide(client: MlflowClient, model: str, version: int, holder: int | None, evidence: Evidence) -> Promotion:
    if holder is None:
        return Promotion(True, "the model had no champion")
    if holder == version:
        return Promotion(False, "it is the champion already; its evidence is renewed")
    return promotion(evidence, Evidence.read(client.get_model_version(model, str(holder)).tags))


def find_version(client: MlflowClient, model: str, digest: str) -> int | None:
    """The newest version of `model` whose weights have this SHA-256, or None."""
    found = [
        int(version.version)
        for version in _versions(client, model)
        if version.tags.get(_HASH_TAG) == digest and version.status == "READY"
    ]
    return max(found, default=None)


def _versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    quoted = model.replace("'", "\\'")
    versions: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", max_results=1000, page_token=token)
        versions.extend(page)
        token = page.token
        if not token:
            return versions


def _register(
    client: MlflowClient,
    model: str,
    checkpoint: Path,
    digest: str,
    run_id: str,
    scores: Mapping[str, float],
    facts: Mapping[str, Any],
) -> int:
    images_seen = read_checkpoint(checkpoint).images_seen
    run = client.get_run(run_id)
    tags = {_HASH_TAG: digest, STUDY: run.data.tags.get(STUDY, ""), "images_seen": str(images_seen)}
    tags |= {f"score.{key}": f"{value:.6g}" for key, value in scores.items()}
    tags |= text_tags({f"fact.{key}": value for key, value in facts.items()})
    with tempfile.TemporaryDirectory(prefix="ambient-register-") as scratch:
        generator = write_generator(checkpoint, Path(scratch) / "generator", scores=scores, facts=facts)
        folder = write_mlflow_model(generator, Path(scratch) / "model")
        logged = _upload(client, model, folder, run, images_seen)
    _ensure_model(client, model)
    # Not models:/<id>: MLflow's SQL store would resolve that with its global tracking URI.
    tags["ambient_ray.model_id"] = logged.model_id  # the SQL store keeps no model_id of its own
    created = client.create_model_version(
        model, logged.artifact_location, run_id=run_id, tags=tags, model_id=logged.model_id
    )
    # The tag by which MLflow's pages lead from a run and its model to the registered version.
    link = json.dumps([{"name": model, "version": str(created.version)}])
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})
    return int(created.version)


def _upload(client: MlflowClient, name: str, folder: Path, run: Run, step: int) -> Any:
    """Store the folder as a logged model of the run: what `log_model` does, without its global state."""
    from mlflow.entities import LoggedModelOutput

    logged = client.create_logged_model(
        run.info.experiment_id,
        name=_model_name(name),
        source_run_id=run.info.run_id,
        model_type="generator",
    )
    try:
        client.log_model_artifacts(logged.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=step)])
    return client.finalize_logged_model(logged.model_id, "READY")


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"ambient_ray": "generator"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _model_name(model: str) -> str:
    """A logged model's name allows fewer characters than a registered one's."""
    return "".join("_" if character in "/:.%\"'" else character for character in model)
