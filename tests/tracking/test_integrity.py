"""A model whose files were changed is refused, by the name of the file, before any of its code runs."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from ambient_ray.tracking import ModelChangedError, load_model, verify_model
from ambient_ray.tracking.models.bundle import write_generator, write_mlflow_model
from ambient_ray.tracking.models.integrity import FILES_TAG, files_hash
from ambient_ray.tracking.models.standalone.load import record
from ambient_ray.tracking.store import open_client

WriteCheckpoint = Callable[..., Path]


@pytest.fixture
def model(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> Path:
    return write_mlflow_model(write_generator(write_checkpoint(), tmp_path / "g"), tmp_path / "model")


def test_every_file_is_recorded_but_the_card(model: Path) -> None:
    recorded = json.loads((model / "hashes.json").read_text())
    files = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    assert set(recorded) == files - {"hashes.json"}
    verify_model(model)


def test_any_changed_file_is_named(model: Path) -> None:
    for name in json.loads((model / "hashes.json").read_text()):
        file = model / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # one bit
        with pytest.raises(ModelChangedError, match=f"{name} was changed") as told:
            load_model(model)
        assert str(told.value).count(". ") == 0 and str(model) in str(told.value)
        file.unlink()
        with pytest.raises(ModelChangedError, match=f"{name} is missing"):
            verify_model(model)
        file.write_bytes(content)
    verify_model(model)


def test_changed_code_does_not_run(model: Path, tmp_path: Path) -> None:
    code = next(model.glob("code_*/generator.py"))
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n" + code.read_text())
    with pytest.raises(ModelChangedError):
        load_model(model)
    with pytest.raises(Exception, match=r"generator\.py was changed"):
        mlflow.pyfunc.load_model(str(model))
    assert not (tmp_path / "ran").exists()


def test_added_files(model: Path) -> None:
    (model / "figures").mkdir()
    for harmless in ("README.md", "registered_model_meta", "notes.txt", "figures/front.png"):
        (model / harmless).write_text("written later")
    verify_model(model)
    code = next(model.glob("code_*"))
    (code / "torch.py").write_text("")
    with pytest.raises(ModelChangedError, match=r"torch\.py was added"):
        verify_model(model)
    (code / "torch.py").unlink()
    (model / "network" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    with pytest.raises(ModelChangedError, match=r"fp16\.safetensors was added"):
        verify_model(model)
    (model / "network" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    (model / "hashes.json").unlink()
    with pytest.raises(ModelChangedError, match=r"hashes\.json cannot be read"):
        verify_model(model)


def test_who_changes_the_hashes_too_is_told_by_the_registry(store, model: Path, write_checkpoint, tmp_path) -> None:
    client = open_client(store.uri)
    client.create_registered_model("held")
    version = client.create_model_version("held", str(model), tags={FILES_TAG: files_hash(model)}).version
    assert load_model("models:/held/1", tracking_uri=store.uri).sample(1).shape == (1, 8, 8, 1)
    client.set_registered_model_alias("held", "champion", version)
    forged = write_mlflow_model(write_generator(write_checkpoint("b", seed=9), tmp_path / "g2"), tmp_path / "forged")
    for file in forged.rglob("*.safetensors"):
        (model / file.relative_to(forged)).write_bytes(file.read_bytes())
    record(model)
    verify_model(model)  # in itself it is whole
    for uri in ("models:/held/1", "models:/held@champion"):
        with pytest.raises(ModelChangedError, match=rf"{uri} is not .*hashes\.json was changed.*{FILES_TAG}"):
            load_model(uri, tracking_uri=store.uri)


def test_what_mlflow_does_to_a_model_is_no_change(store, model: Path, tmp_path: Path) -> None:
    """Downloads by every kind of URI, a copy to another registered model, and loading as a pyfunc."""
    client = open_client(store.uri)
    client.create_registered_model("travels")
    client.create_model_version("travels", str(model))
    mlflow.set_tracking_uri(store.uri)
    try:
        client.copy_model_version("models:/travels/1", "travels-elsewhere")
        for number, uri in enumerate(("models:/travels/1", "models:/travels-elsewhere/1", str(model))):
            verify_model(Path(mlflow.artifacts.download_artifacts(uri)))
            copy = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path / f"copy{number}"))
            verify_model(Path(copy))
            drawn = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"seed": [1, 1]}))
            np.testing.assert_array_equal(
                drawn, load_model(uri, tracking_uri=store.uri, device="cpu").sample(2, seed=1)
            )
            verify_model(Path(copy))
    finally:
        mlflow.set_tracking_uri(None)
