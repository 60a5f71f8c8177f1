"""The study's experiment in MLflow: found or made, described where nobody has described it yet, and its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..labels import KIND, STUDY
from .events import StudyStarted
from .view import EXPERIMENT_KIND, NOTE, TRAINING, VIEW_TAG, saved_view, study_note, view_link, view_state

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BATCH = 100  # MLflow's limit of parameters or tags a call


def open_experiment(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """The id of the experiment, which is made if it is missing and restored if somebody has deleted it."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(
            client.create_experiment(name, artifact_location=artifact_location and f"{artifact_location}/{name}")
        )
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)  # its name is taken until it is restored or purged
    return str(found.experiment_id)


def describe_experiment(client: MlflowClient, experiment_id: str, study: StudyStarted) -> str:
    """Save the view of the study and the experiment's note; return the link to the view, in Markdown.

    What is there already is left alone: people may have changed it. Without objectives there is no view, and the link
    is empty.
    """
    if study.objectives is None:
        return ""
    experiment = client.get_experiment(experiment_id)
    state = view_state(study.objectives, study.searched, study.conditional)
    wanted = {
        VIEW_TAG: saved_view(state, experiment.creation_time or 0),
        NOTE: study_note(experiment_id, study.objectives, [*study.searched, *study.conditional]),
        EXPERIMENT_KIND: TRAINING,
    }
    for key, value in wanted.items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment_id, key, value)
    return f"[All trials in charts]({view_link(experiment_id)})"


def runs_of(client: MlflowClient, experiment_id: str, study: str, *kinds: str) -> list[Run]:
    """The study's runs of these kinds, oldest first within each."""
    quoted = study.replace("'", "\\'")
    runs: list[Run] = []
    for kind in kinds:
        token = None
        while True:
            page = client.search_runs(
                [experiment_id],
                f"tags.`{STUDY}` = '{quoted}' and tags.`{KIND}` = '{kind}'",
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                break
    return runs


def log_new_params(
    client: MlflowClient, run_id: str, params: Mapping[str, str], known: dict[str, str], tags: Mapping[str, str]
) -> None:
    """Log parameters not there yet, and tags. MLflow refuses to change a parameter, so a changed value is a tag."""
    from mlflow.entities import Param, RunTag

    changed = {key: value for key, value in params.items() if known.get(key, value) != value}
    new = [Param(key, value) for key, value in params.items() if key not in known]
    labels = [RunTag(key, value) for key, value in tags.items()]
    labels += [RunTag(f"ambient_ray.changed.{key}", value) for key, value in changed.items()]
    for first in range(0, max(len(new), len(labels)), _BATCH):
        part = slice(first, first + _BATCH)
        client.log_batch(run_id, params=new[part], tags=labels[part])
    known.update({param.key: param.value for param in new})
