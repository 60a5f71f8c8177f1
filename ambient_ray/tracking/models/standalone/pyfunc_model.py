"""MLflow's interface to a registered generator (models-from-code: MLflow runs this file, no pickle).

Input, a DataFrame with one row an image:
    seed   integer. Rows that repeat a seed are its 1st, 2nd, ... image, so that n rows of seed s are
           `Generator.sample(n, seed=s)`, in that order.
    label  integer, optional: the class, for a model that has classes. Left out: `Generator.sample` chooses.
Output: uint8 array [n, H, W, C], row by row.

Over `mlflow models serve` the same as nested lists:

    curl http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
         -d '{"dataframe_split": {"columns": ["seed"], "data": [[0], [0]]}}'

answers {"predictions": [[[[0], [17], ...]]]}, and a client makes a picture of it by

    images = numpy.array(answer["predictions"], dtype=numpy.uint8)
    PIL.Image.fromarray(images[0].squeeze()).save("0.png")
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd


class AmbientGenerator(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Images from seeds."""

    def load_context(self, context: Any) -> None:
        """Load the weights once, when MLflow loads the model."""
        folder = Path(__file__).parent  # the model's own: MLflow runs this file where it lies
        (loader,) = folder.glob("code_*/load.py")
        self.generator = runpy.run_path(str(loader))["load"](folder)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Draw one image a row: uint8 [n, H, W, C]. ValueError for a missing seed or a bad label."""
        if "seed" not in model_input:
            raise ValueError(f"the input needs a column 'seed'; it has {list(model_input.columns)}")
        seeds = model_input["seed"].to_numpy(dtype=np.int64)
        numbers = model_input.groupby("seed").cumcount().to_numpy(dtype=np.int64)
        labels = None
        if "label" in model_input and not model_input["label"].isna().all():
            labels = model_input["label"].to_numpy(dtype=np.int64)
        return self.generator.draw(seeds, numbers, labels)


mlflow.models.set_model(AmbientGenerator())
