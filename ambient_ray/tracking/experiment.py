"""The study's experiment in MLflow: found or made, and described where nobody has described it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .events import StudyStarted
from .view import EXPERIMENT_KIND, NOTE, TRAINING, VIEW_TAG, saved_view, study_note, view_link, view_state

if TYPE_CHECKING:
    from mlflow import MlflowClient


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
