"""Versions of a registered model: a checkpoint becomes one, with tags and card; the same weights the same one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoint import read_checkpoint
from ..labels import ARM, STUDY, text_tags
from .bundle import STANDALONE, weights_hash, write_generator, write_mlflow_model
from .card import SCORES, description, model_card, write_card
from .integrity import FILES_TAG, files_hash
from .origin import REPRODUCE, Origin
from .promotion import Evidence

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

WEIGHTS_HASH, MODEL_ID = "ambient_ray.weights_sha256", "ambient_ray.model_id"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that becomes a version.

    Attributes:
        checkpoint: its folder.
        run_id: the trial's run.
        scores: the rung's own; they travel inside the model and as the tag `record.scores`.
        facts: how they were taken.
        evidence: what is known of the configuration, over fresh seeds where it was confirmed.
        origin: where it comes from.
        aliases: which it is to have: champion, lowest-memorization, best-fidelity, ddpm-baseline.
        tags: more tags.
    """

    checkpoint: Path
    run_id: str
    scores: Mapping[str, float]
    facts: Mapping[str, Any]
    evidence: Evidence
    origin: Origin
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, Any] = field(default_factory=dict)


def find_version(client: MlflowClient, model: str, digest: str) -> int | None:
    """The newest version of `model` whose weights have this SHA-256, or None."""
    found = _of_weights(versions(client, model), digest)
    return None if found is None else int(found.version)


def warm_up() -> None:
    """Write a model and throw it away: MLflow's first one takes half a second, which nobody should wait for at the end.

    It lists all installed packages once, to warn where they differ from those that a model needs.
    """
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory(prefix="ambient-register-") as scratch:
        mlflow.pyfunc.save_model(
            path=str(Path(scratch) / "model"),
            python_model=str(STANDALONE / "pyfunc_model.py"),
            pip_requirements=[f"mlflow=={mlflow.__version__}"],
            signature=False,
        )


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """All versions of a model; none where there is no such model."""
    quoted = model.replace("'", "\\'")
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{quoted}'", max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def renew_card(client: MlflowClient, model: str, version: int) -> None:
    """Bring a version's description and README up to its tags; nothing is written where they say the same."""
    held = client.get_model_version(model, str(version))
    model_id = held.tags.get(MODEL_ID)
    if model_id is None:
        return
    text = description(model, model_id, held.tags)
    if held.description == text:
        return
    with tempfile.TemporaryDirectory(prefix="ambient-card-") as scratch:
        client.log_model_artifact(model_id, str(write_card(Path(scratch), model_card(model, model_id, held.tags))))
    client.update_model_version(model, str(version), text)  # last: it says that both are up to date


def register_version(client: MlflowClient, model: str, entry: Entry, known: list[ModelVersion]) -> int:
    """The version of these weights, made or renewed."""
    digest = weights_hash(entry.checkpoint)
    held = _of_weights(known, digest)
    if held is None:
        created = _create(client, model, entry, digest)
        known.append(created)
        return int(created.version)
    version = int(held.version)
    earlier = Evidence.read(held.tags)
    if earlier is None or entry.evidence.confirmed or not earlier.confirmed:
        renew(client, model, version, _evidence_tags(entry))
    renew_card(client, model, version)
    if MODEL_ID in held.tags:
        _link(client, client.get_logged_model(held.tags[MODEL_ID]), model, version)
    return version


def _of_weights(known: Sequence[ModelVersion], digest: str) -> ModelVersion | None:
    same = [v for v in known if v.tags.get(WEIGHTS_HASH) == digest and v.status == "READY"]
    return max(same, key=lambda v: int(v.version), default=None)


def renew(client: MlflowClient, model: str, version: int, tags: Mapping[str, str]) -> None:
    """Set the tags that differ; the record of the evidence, which counts, comes first in `Evidence.tags`."""
    known = client.get_model_version(model, str(version)).tags
    for key, value in tags.items():
        if known.get(key) != value:
            client.set_model_version_tag(model, str(version), key, value)


def _create(client: MlflowClient, model: str, entry: Entry, digest: str) -> ModelVersion:
    images_seen = read_checkpoint(entry.checkpoint).images_seen
    run = client.get_run(entry.run_id)
    commit = run.data.tags.get("mlflow.source.git.commit", "")  # of the life of the search that trained it
    # MLflow's table of versions shows all tags in this order: few, and first what people look for.
    tags = _evidence_tags(entry) | _origin_tags(replace(entry.origin, commit=commit), images_seen)
    tags |= {SCORES: _finite_scores(entry.scores), WEIGHTS_HASH: digest}
    logged = _logged(client, model, entry, run, images_seen, tags)
    # Not models:/<id>: MLflow's SQL store would resolve that with its global tracking URI.
    tags[MODEL_ID] = logged.model_id  # the SQL store keeps no model_id of its own
    tags[FILES_TAG] = logged.tags[FILES_TAG]
    created = client.create_model_version(
        model,
        logged.artifact_location,
        run_id=entry.run_id,
        tags=tags,
        description=description(model, logged.model_id, tags),
        model_id=logged.model_id,
    )
    _link(client, logged, model, int(created.version))
    return created


def _evidence_tags(entry: Entry) -> dict[str, str]:
    return entry.evidence.tags() | text_tags(entry.tags)


def _origin_tags(origin: Origin, images_seen: int) -> dict[str, str]:
    """The arm, the data and the study, to be seen and searched for, and everything in one tag for programs."""
    data = origin.dataset.get("train_hash") or origin.dataset.get("content_hash") or ""
    tags = {ARM: origin.arm, "images_seen": str(images_seen), "data.hash": str(data), STUDY: origin.study}
    return tags | {REPRODUCE: origin.tag()}


def _finite_scores(scores: Mapping[str, float]) -> str:
    """All scores with the ends of their intervals, for programs and the card."""
    return json.dumps({name: value if abs(value) < float("inf") else None for name, value in scores.items()})


def _logged(
    client: MlflowClient, model: str, entry: Entry, run: Run, images_seen: int, tags: Mapping[str, str]
) -> LoggedModel:
    """The run's logged model of these weights: what `log_model` makes, without its global state.

    One that was uploaded before the search died is taken; one whose upload was interrupted is marked as failed.
    """
    experiment, name = run.info.experiment_id, _model_name(model)
    for earlier in _uploaded(client, run, tags[WEIGHTS_HASH]):
        if earlier.name == name and earlier.status == "READY":
            return _output(client, run, earlier, images_seen)
        if earlier.status == "PENDING":
            client.finalize_logged_model(earlier.model_id, "FAILED")
    with tempfile.TemporaryDirectory(prefix="ambient-register-") as scratch:
        generator = write_generator(
            entry.checkpoint, Path(scratch) / "generator", scores=entry.scores, facts=entry.facts
        )
        folder = write_mlflow_model(generator, Path(scratch) / "model")
        own = {WEIGHTS_HASH: tags[WEIGHTS_HASH], FILES_TAG: files_hash(folder)}
        logged = client.create_logged_model(
            experiment, name=name, source_run_id=run.info.run_id, model_type="generator", tags=own
        )
        try:
            write_card(folder, model_card(model, logged.model_id, tags))
            client.log_model_artifacts(logged.model_id, str(folder))
        except Exception:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
    return _output(client, run, client.finalize_logged_model(logged.model_id, "READY"), images_seen)


def _output(client: MlflowClient, run: Run, logged: LoggedModel, images_seen: int) -> LoggedModel:
    """Make the model an output of its run, if it is none; a model that is not whole never is."""
    from mlflow.entities import LoggedModelOutput

    known = () if run.outputs is None else run.outputs.model_outputs
    if all(output.model_id != logged.model_id for output in known):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(logged.model_id, step=images_seen)])
    return logged


def _uploaded(client: MlflowClient, run: Run, digest: str) -> list[LoggedModel]:
    """The run's logged models of these weights, from earlier calls."""
    wanted = f"source_run_id = '{run.info.run_id}' AND tags.`{WEIGHTS_HASH}` = '{digest}'"
    found: list[LoggedModel] = client.search_logged_models([run.info.experiment_id], wanted)
    return found


def _link(client: MlflowClient, logged: LoggedModel, model: str, version: int) -> None:
    """The tag by which MLflow's pages lead from a run and its model to the registered version."""
    link = json.dumps([{"name": model, "version": str(version)}])
    if logged.tags.get("mlflow.modelVersions") != link:
        client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": link})


def _model_name(model: str) -> str:
    """A logged model's name allows fewer characters than a registered one's."""
    return "".join("_" if character in "/:.%\"'" else character for character in model)
