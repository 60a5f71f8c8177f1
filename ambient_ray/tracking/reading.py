"""Reads a study back from MLflow: its settings, its trials with every scored rung, and its artifacts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ambient_ray.errors import UserError

from .labels import ARM, IMAGES_SEEN, KIND, REASON, REPLICA_OF, SPEED, STATE, STUDY, SYSTEM, TRIAL
from .location import existing_store
from .recording.events import RungScores
from .recording.experiment import runs_of
from .recording.rung_record import FOLDER, RungRecordError, StoredRung, read_rung
from .store import open_client
from .stored import ENDED, StoredDataset, StoredStudy, StoredTrial
from .study_files import StudyFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000  # runs a request
_AT_ONCE = 16  # requests for artifacts, or metric histories, at a time
_PATIENCE = 2 * _AT_ONCE  # folders that could not be fetched, and none that could, before the store counts as away
_CHANGED = "ambient_ray.changed."
_NO_SCORE = ("confirmed.", SYSTEM, IMAGES_SEEN, "rung")  # metrics that begin so are not of the rung's samples


class StudyNotFoundError(UserError):
    """No study of this name in the store."""


class StoreUnreadableError(UserError):
    """The store answers, but cannot be read: another version's schema, no permission."""


def read_study(tracking_uri: str | None, study: str) -> StoredStudy:
    """The study of this name.

    1,000 trials take a page of runs and one fetch of a small folder each, 16 at a time. Where a rung's record cannot
    be had, its scores come from the metric history (one request a score), and `StoredTrial.from_metrics` says so.

    Args:
        tracking_uri: see `existing_store`.
        study: its name.

    Raises:
        StudyNotFoundError: names the studies that exist.
        StoreNotFoundError, StoreUnreadableError, TrackingUriError, TrackingUnreachableError.
    """
    uri = existing_store(tracking_uri)
    for name in ("mlflow.store", "mlflow.tracking", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    client = open_client(uri)
    from mlflow.exceptions import MlflowException

    try:
        run = _study_run(client, study)
        runs = runs_of(client, run.info.experiment_id, study, "trial", "replicate")
        uris = {r.info.run_id: r.info.artifact_uri for r in [run, *runs]}
        with StudyFiles(uri, uris) as files:
            trials = _trials(client, runs, files)
            unread = tuple(files.problems.values())
    except MlflowException as error:
        raise StoreUnreadableError(f"the MLflow store cannot be read: {' '.join(str(error).split())}") from error
    return _stored(run, uri, sorted(trials, key=lambda t: t.number), unread, uris)


def study_names(client: MlflowClient) -> list[str]:
    """The studies of a store, in alphabetical order."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{KIND}` = 'study'", max_results=_PAGE) if experiments else []
    return sorted({run.data.tags.get(STUDY, "") for run in runs} - {""})


def parsed(text: str) -> Any:
    """A parameter's or fact's value, as `labels.text` wrote it: JSON, or a string that is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _study_run(client: MlflowClient, study: str) -> Run:
    experiment = client.get_experiment_by_name(study)
    runs = [] if experiment is None else runs_of(client, experiment.experiment_id, study, "study")
    if not runs:
        known = ", ".join(study_names(client)) or "none"
        raise StudyNotFoundError(f"there is no study '{study}' in this store (its studies: {known})")
    return client.get_run(runs[0].info.run_id)  # with its inputs, which a search leaves out


def _stored(
    run: Run, uri: str, trials: Sequence[StoredTrial], unread: tuple[str, ...], uris: Mapping[str, str]
) -> StoredStudy:
    tags = dict(run.data.tags)
    changed = {key.removeprefix(_CHANGED): value for key, value in tags.items() if key.startswith(_CHANGED)}
    over = run.info.status in ENDED
    return StoredStudy(
        name=tags.get(STUDY, run.info.run_name),
        tracking_uri=uri,
        run_id=run.info.run_id,
        status=run.info.status,
        started=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if over and run.info.end_time else None,
        params={key: parsed(value) for key, value in {**run.data.params, **changed}.items()},
        tags={key: value for key, value in tags.items() if not key.startswith(_CHANGED)},
        metrics=dict(run.data.metrics),
        note=tags.get("mlflow.note.content", ""),
        dataset=_dataset(run),
        trials=tuple(trials),
        unread=unread,
        artifact_uris=uris,
    )


def _dataset(run: Run) -> StoredDataset | None:
    inputs = [] if run.inputs is None else run.inputs.dataset_inputs
    if not inputs:
        return None
    entity = inputs[0].dataset
    profile, source = parsed(entity.profile or "{}"), parsed(entity.source or "{}")
    profile = dict(profile) if isinstance(profile, dict) else {}
    where = source.get("uri", "") if isinstance(source, dict) else str(source)
    return StoredDataset(entity.name, str(profile.pop("content_hash", entity.digest)), where, profile)


# -- trials


def _trials(client: MlflowClient, runs: Sequence[Run], files: StudyFiles) -> list[StoredTrial]:
    """All trials, several at a time."""
    with_rungs = [run for run in runs if "rung" in run.data.metrics]  # logged last: such a rung is all there
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        records: dict[str, dict[int, StoredRung]] = {}
        for first in range(0, len(with_rungs), _PATIENCE):
            part = with_rungs[first : first + _PATIENCE]
            found = pool.map(lambda run: _records(run, files), part)
            records |= {run.info.run_id: of for run, of in zip(part, found, strict=True)}
            if files.problems and not any(records.values()):
                break  # nothing can be fetched: do not wait for each
        return list(pool.map(lambda run: _trial(client, run, records.get(run.info.run_id, {})), runs))


def _records(run: Run, files: StudyFiles) -> dict[int, StoredRung]:
    """The records of a run's rungs by images seen, of those whose metrics are logged too."""
    folder = files.fetch(run.info.run_id, FOLDER)
    if folder is None:
        return {}
    found: list[StoredRung] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_rung(path))
        except RungRecordError as error:
            files.keep(error)
    return {r.scored.images_seen: r for r in found if r.scored.rung <= run.data.metrics["rung"]}


def _trial(client: MlflowClient, run: Run, records: Mapping[int, StoredRung]) -> StoredTrial:
    tags = run.data.tags
    recorded = [record.scored for record in records.values()]
    lost = int(run.data.metrics.get("rung", -1)) + 1 - len(recorded)
    again = [r for r in _from_metrics(client, run) if r.images_seen not in records] if lost > 0 else []
    settings = next(iter(records.values())).started.params if records else None
    if settings is None:
        settings = {key: parsed(value) for key, value in run.data.params.items()}
    parent = tags.get(REPLICA_OF)
    return StoredTrial(
        run_id=run.info.run_id,
        number=int(tags[TRIAL]),
        arm=tags.get(ARM, "ambient"),
        state=tags.get(STATE, "running"),
        reason=tags.get(REASON, ""),
        replica_of=None if parent is None else int(parent),
        settings=settings,
        rungs=tuple(sorted([*recorded, *again], key=lambda r: r.images_seen)),
        started=run.info.start_time / 1000,
        ended=run.info.end_time / 1000 if run.info.end_time and run.info.status in ENDED else None,
        from_metrics=tuple(sorted(r.images_seen for r in again)),
    )


def _from_metrics(client: MlflowClient, run: Run) -> list[RungScores]:
    """A run's rungs from its metric history: scores, times, what they took; of facts what the tags know."""
    tags = run.data.tags
    steps = {metric.step: metric for metric in client.get_metric_history(run.info.run_id, "rung")}
    cost = {f"{SYSTEM}seconds", f"{SYSTEM}{SPEED}"}
    keys = [key for key in run.data.metrics if key in cost or not key.startswith(_NO_SCORE)]
    scores: dict[int, dict[str, float]] = {step: {} for step in steps}
    for key in keys:
        for metric in sorted(client.get_metric_history(run.info.run_id, key), key=lambda m: m.timestamp):
            if metric.step in scores:
                scores[metric.step][key] = float(metric.value)
    for step, of in scores.items():
        lost = tags.get(f"not_finite.{step}", "")
        of.update({key: float("nan") for key in lost.split(", ") if key})
    facts = {key.removeprefix("fact."): parsed(value) for key, value in tags.items() if key.startswith("fact.")}
    found = []
    for step, metric in steps.items():
        seconds = scores[step].pop(f"{SYSTEM}seconds", 0.0)
        own = {key.removeprefix(SYSTEM): value for key, value in scores[step].items()}
        found.append(RungScores(int(metric.value), step, own, facts, seconds=seconds, at=metric.timestamp / 1000))
    return found
