"""The training data as MLflow's dataset input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .events import DatasetFacts

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def dataset_input(dataset: DatasetFacts) -> DatasetInput:
    """What `log_inputs` takes: name, digest (16 characters of the content hash), schema, profile."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {"content_hash": dataset.content_hash, **dataset.profile}
    shape = None if dataset.shape is None else [-1, *dataset.shape[1:], dataset.shape[0]]
    schema = {
        "features": {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": shape}},
        "targets": None,
    }
    entity = Dataset(
        name=dataset.name,
        digest=dataset.content_hash[:16],  # MLflow allows 36 characters; the whole hash is in the profile
        source_type="local",
        source=json.dumps({"uri": dataset.source}),
        schema=None if shape is None else json.dumps({"mlflow_tensorspec": schema}),
        profile=json.dumps(profile, default=str),
    )
    return DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])
