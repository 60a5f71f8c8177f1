"""Downstream, where this package is not installed: a new environment samples a champion, and serves it over HTTP."""

import json
import os
import signal
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from safetensors.torch import save_file

from ambient_ray.diffusion import build_backbone
from ambient_ray.interval import Interval
from ambient_ray.storage.description import fingerprint
from ambient_ray.tracking import Evidence, RungScores, StudyRecorder, load_model, resolve_store

pytestmark = pytest.mark.e2e

ONLY = ("mlflow", "torch", "diffusers", "safetensors")
ABSENT = ("ambient_ray", "ray", "optuna", "hydra", "omegaconf", "accelerate", "transformers")
LABELS = [2, 0, 1, 1]


class Registry(NamedTuple):
    uri: str
    images: np.ndarray  # what load_model("models:/fresh@champion") draws for LABELS


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A champion with three classes, registered as a search does."""
    folder = tmp_path_factory.mktemp("checkpoint")
    backbone = {"_target_": "ambient_ray.diffusion.backbones.DiT", "patch_size": 4, "layers": 2, "head_dim": 8}
    image = {"channels": 3, "resolution": 16, "num_classes": 3}
    torch.manual_seed(0)
    module = build_backbone(backbone, **image)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)  # an untrained network ends in zeros: sample nothing
    save_file(module.state_dict(), folder / "model.safetensors")
    (folder / "train_state.safetensors").write_bytes(b"")
    (folder / "samples.npz").write_bytes(b"")
    files = {path.name: vars(fingerprint(path)) for path in folder.iterdir()}
    stored = {
        "files": files,
        "backbone": backbone,
        "sigma_data": 0.5,
        "image": image,
        "images_seen": 1,
        "sampler": {"steps": 4},
    }
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    store = resolve_store(None, tmp_path_factory.mktemp("outputs"))
    evidence = Evidence(("fd", "f_mem"), Interval(9.0), Interval(0.1), confirmed=False, rule="knee", notes={})
    with StudyRecorder(store) as recorder:
        recorder.start("fresh", {})
        recorder.trial_started(0, "ddpm", {})
        recorder.register_champion(0, RungScores(0, 1, {"f_mem": 0.1}, {}, folder), evidence).result(60)
        recorder.finish()
        assert recorder.close() == ()
    model = load_model("models:/fresh@champion", tracking_uri=store.uri, device="cpu")
    return Registry(store.uri, model.sample(len(LABELS), seed=11, labels=LABELS))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that holds ONLY and what they require, as links: torch alone is gigabytes."""
    root = tmp_path_factory.mktemp("fresh") / "venv"
    venv.EnvBuilder(with_pip=False, symlinks=True).create(root)
    (packages,) = root.glob("lib/python*/site-packages")
    for distribution in required(ONLY):
        for file in distribution.files or ():
            top = file.parts[0]
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
        for script in distribution.entry_points.select(group="console_scripts"):
            command = root / "bin" / script.name
            lines = [f"#!{root}/bin/python", "import sys", f"from {script.module} import {script.attr}"]
            command.write_text("\n".join([*lines, f"sys.exit({script.attr}())", ""]))
            command.chmod(0o755)
    return root / "bin" / "python"


def required(names: tuple[str, ...]) -> list[metadata.Distribution]:
    """The installed distributions of these names and of all that they require on this platform."""
    found: dict[tuple[str, str], metadata.Distribution] = {}
    open_ones = [(Requirement(name), "") for name in names]
    while open_ones:
        requirement, extra = open_ones.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for chosen in ("", *requirement.extras):
            key = (requirement.name.lower().replace("_", "-"), chosen)
            if key not in found:
                found[key] = metadata.distribution(requirement.name)
                open_ones += [(Requirement(line), chosen) for line in found[key].requires or ()]
    return list({distribution.metadata["Name"]: distribution for distribution in found.values()}.values())


def environment(fresh: Path, home: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS") if key in os.environ}
    return kept | {
        "HOME": str(home),
        "PATH": f"{fresh.parent}:/usr/bin:/bin",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def test_a_fresh_environment_samples_the_champion(fresh: Path, registry: Registry, tmp_path: Path) -> None:
    code = f"""
        import importlib.util, pickle, sys
        for name in {ABSENT!r}:
            assert importlib.util.find_spec(name) is None, name
        import mlflow, numpy as np, pandas as pd, torch
        from diffusers import DiffusionPipeline

        def refuse(*_, **__):
            raise AssertionError("a pickle")

        pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
        mlflow.set_tracking_uri({registry.uri!r})
        model = mlflow.pyfunc.load_model("models:/fresh@champion")
        drawn = model.predict(pd.DataFrame({{"seed": [11] * {len(LABELS)}, "label": {LABELS}}}))
        folder = mlflow.artifacts.download_artifacts("models:/fresh@champion")
        pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        pictures = pipe(batch_size={len(LABELS)}, seed=11, class_labels={LABELS}).images
        np.savez({str(tmp_path / "drawn.npz")!r}, pyfunc=drawn, diffusers=np.stack(pictures))
    """
    done = subprocess.run(
        [fresh, "-I", "-c", textwrap.dedent(code)],
        env=environment(fresh, tmp_path), cwd=tmp_path, timeout=200, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "drawn.npz") as drawn:
        np.testing.assert_array_equal(drawn["pyfunc"], registry.images)
        np.testing.assert_array_equal(drawn["diffusers"], registry.images)


@pytest.fixture
def served(fresh: Path, registry: Registry, tmp_path: Path) -> Iterator[str]:
    """`mlflow models serve` of the champion in the fresh environment: its address; ended with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [fresh, "-m", "mlflow", "models", "serve", "-m", "models:/fresh@champion", "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environment(fresh, tmp_path) | {"MLFLOW_TRACKING_URI": registry.uri},
            cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 150
        while not answers(f"{address}/ping"):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(15)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def ask(address: str, question: object) -> dict:
    body = json.dumps(question).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def test_mlflow_models_serve_answers_with_images(served: str, registry: Registry, tmp_path: Path) -> None:
    rows = [[11, label] for label in LABELS]
    answer = ask(served, {"dataframe_split": {"columns": ["seed", "label"], "data": rows}})
    images = np.array(answer["predictions"], dtype=np.uint8)
    np.testing.assert_array_equal(images, registry.images)
    Image.fromarray(images[0].squeeze()).save(tmp_path / "0.png")  # as the model's documentation tells
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "0.png")), registry.images[0])
    records = ask(served, {"dataframe_records": [{"seed": 11, "label": LABELS[0]}]})
    np.testing.assert_array_equal(records["predictions"][0], registry.images[0])
    for columns, row, told in ((["label"], [0], "seed"), (["seed", "label"], [1, 7], "0..2")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(served, {"dataframe_split": {"columns": columns, "data": [row]}})
        assert refused.value.code == 400 and told in refused.value.read().decode()
