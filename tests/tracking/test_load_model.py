"""A registered model stands alone: no pickle, no ambient_ray, the same bytes for the same seeds."""

import ast
import json
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from ambient_ray.interval import Interval
from ambient_ray.tracking import (
    Evidence,
    ModelChangedError,
    ModelNotFoundError,
    ModelUnloadableError,
    Registration,
    RungScores,
    StudyRecorder,
    TrackingStore,
    TrackingUnreachableError,
    load_model,
)
from ambient_ray.tracking.checkpoint import CheckpointUnreadableError
from ambient_ray.tracking.location import StoreNotFoundError
from ambient_ray.tracking.models import bundle
from ambient_ray.tracking.models.bundle import COPIED, weights_hash, write_generator, write_mlflow_model
from ambient_ray.tracking.store import open_client

WriteCheckpoint = Callable[..., Path]


GUESS = Evidence(("fd", "f_mem"), Interval(9.0), Interval(0.1), confirmed=False, rule="knee", notes={"trials": 12})


def register(
    store: TrackingStore, study: str, *checkpoints: Path, evidence: Sequence[Evidence] = ()
) -> list[Registration]:
    """Register checkpoints of trials 0, 1, ... one after the other; not confirmed unless evidence is given."""
    with StudyRecorder(store) as recorder:
        recorder.start(study, {})
        found = []
        for number, checkpoint in enumerate(checkpoints):
            recorder.trial_started(number, "ambient", {"sigma_tn": 0.5})
            scored = RungScores(0, 64_000, {"f_mem": 0.125}, {"extractor": "classifier"}, checkpoint)
            why = evidence[number] if evidence else GUESS
            found.append(recorder.register_champion(number, scored, why))
        recorder.finish()
        assert recorder.close() == ()
    return [registration.result(1) for registration in found]


def other_code(folder: Path) -> tuple[Path, ...]:
    """The code that models carry, with a sampler that begins from zeros: all of its images are alike."""
    other = folder / "samplers.py"
    text = next(file for file in COPIED if file.name == other.name).read_text()
    other.write_text(text.replace("x = latents * levels[0]", "x = 0 * latents"))
    return tuple(other if file.name == other.name else file for file in COPIED)


def test_the_same_weights_are_registered_once_and_the_old_champion_stays(
    store: TrackingStore, write_checkpoint: WriteCheckpoint
) -> None:
    first, second = write_checkpoint("a", seed=1), write_checkpoint("b", seed=2)
    assert [r.version for r in register(store, "moves", first, first, second)] == [1, 1, 2]
    client = open_client(store.uri)
    model = client.get_registered_model("moves")
    assert {alias: int(version) for alias, version in model.aliases.items()} == {
        "champion": 2,
        "previous-champion": 1,
    }
    version = client.get_model_version("moves", "2")
    assert Evidence.read(version.tags) == GUESS and json.loads(version.tags["record.scores"]) == {"f_mem": 0.125}
    assert len(version.tags) < 25, "MLflow's table of versions shows them all"
    assert client.get_run(version.run_id).data.tags["ambient_ray.trial"] == "2"
    assert version.tags["ambient_ray.study"] == "moves"
    assert [(r.version, r.champion, r.promoted) for r in register(store, "moves", first)] == [(1, 1, True)]
    assert int(client.get_model_version_by_alias("moves", "champion").version) == 1
    for name, seed in (("moves@champion", 1), ("moves/2", 2), ("moves@previous-champion", 2)):
        loaded = load_model(f"models:/{name}", tracking_uri=store.uri)
        fresh = load_model(write_checkpoint(f"again-{name[6:]}", seed=seed))
        np.testing.assert_array_equal(loaded.sample(3), fresh.sample(3))
    assert loaded.scores == {"f_mem": 0.125} and loaded.config["images_seen"] == 64_000


def test_the_alias_stays_where_no_gain_is_shown(store: TrackingStore, write_checkpoint: WriteCheckpoint) -> None:
    def shown(low: float, high: float, n: int = 500) -> Evidence:
        spread = Interval((low + high) / 2, low, high)
        facts = {"extractor": "classifier", "n": n}
        return Evidence(("fd", "f_mem"), Interval(4.5, 4.4, 4.6), spread, True, seeds=(1, 2, 3), facts=facts)

    # In the order of registration: the first is DDPM's, and holds the alias until a gain over it is shown.
    evidence = [shown(0.3, 0.4), shown(0.2, 0.35), shown(0.1, 0.2), shown(0.0, 0.05, n=50), shown(0.15, 0.25)]
    with StudyRecorder(store) as recorder:
        recorder.start("earned", {})
        found = []
        for number, one in enumerate(evidence):
            recorder.trial_started(number, "ddpm", {}, parent=None if number == 0 else 0)
            scored = RungScores(0, 64_000, {"f_mem": 0.1}, one.facts, write_checkpoint(f"e{number}", seed=10 + number))
            found.append(recorder.register_champion(number, scored, one))
        recorder.finish()
        assert recorder.close() == ()
    done = [future.result(1) for future in found]
    assert [r.version for r in done] == [1, 2, 3, 4, 5]
    assert [(r.champion, r.promoted) for r in done] == [(1, True), (1, False), (3, True), (3, False), (3, False)]
    client = open_client(store.uri)
    aliases = client.get_registered_model("earned").aliases
    assert {key: int(value) for key, value in aliases.items()} == {"champion": 3, "previous-champion": 1}
    tags = [client.get_model_version("earned", str(r.version)).tags for r in done]
    assert "no gain" in tags[1]["evidence.promotion"] and "n is 50 here and 500 there" in tags[3]["evidence.promotion"]
    assert tags[2]["memorization"] == "f_mem 0.150 [0.100, 0.200]" and tags[2]["evidence"] == "3 fresh seeds"
    run = client.get_run(client.get_model_version("earned", "3").run_id)
    assert run.data.tags["ambient_ray.replica_of"] == "0"
    study = client.get_run(run.data.tags["mlflow.parentRunId"]).data.tags["mlflow.parentRunId"]
    named = client.get_run(study).data.tags
    assert named["ambient_ray.champion"] == "models:/earned/3" and named["ambient_ray.registered"] == "models:/earned/5"


def test_every_kind_of_uri_gives_the_same_model(
    store: TrackingStore, write_checkpoint: WriteCheckpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(store, "kinds", write_checkpoint(seed=3))
    version = open_client(store.uri).get_model_version("kinds", "1")
    wanted = load_model("models:/kinds@champion", tracking_uri=store.uri).sample(2, seed=5)
    uris = [
        "models:/kinds/1",
        f"models:/{version.tags['ambient_ray.model_id']}",
        f"runs:/{version.run_id}/kinds",
        version.source,
    ]
    for uri in uris:
        np.testing.assert_array_equal(load_model(uri, tracking_uri=store.uri).sample(2, seed=5), wanted)
    # without a tracking URI: the environment, else ./outputs/mlflow.db
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    np.testing.assert_array_equal(load_model("models:/kinds/1").sample(2, seed=5), wanted)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreNotFoundError, match="tracking"):
        load_model("models:/kinds/1")
    (tmp_path / "outputs").symlink_to(store.uri.removeprefix("sqlite:///").removesuffix("/mlflow.db"))
    np.testing.assert_array_equal(load_model("models:/kinds/1").sample(2, seed=5), wanted)


def test_an_image_depends_on_seed_and_number_only(write_checkpoint: WriteCheckpoint) -> None:
    model = load_model(write_checkpoint(), device="cpu")
    images = model.sample(40, seed=7)
    assert images.shape == (40, 8, 8, 1) and images.dtype == np.uint8 and images.std() > 10
    for n, batch_size in ((1, None), (5, 1), (17, 3), (33, 64), (40, 16)):
        np.testing.assert_array_equal(model.sample(n, seed=7, batch_size=batch_size), images[:n])
    seeds, numbers = np.array([7, 8, 7]), np.array([39, 0, 3])
    mixed = model.draw(seeds, numbers)  # another place in another batch, the same bytes
    np.testing.assert_array_equal(mixed[[0, 2]], images[[39, 3]])
    np.testing.assert_array_equal(mixed[1], model.sample(1, seed=8)[0])
    assert not np.array_equal(model.sample(5, seed=8), images[:5])
    assert model.sample(0).shape == (0, 8, 8, 1)


def test_classes(write_checkpoint: WriteCheckpoint) -> None:
    model = load_model(write_checkpoint(num_classes=3))
    cycle = model.sample(6)
    np.testing.assert_array_equal(cycle, model.sample(6, labels=[0, 1, 2, 0, 1, 2]))
    np.testing.assert_array_equal(cycle[[1, 4]], model.sample(6, labels=1)[[1, 4]])
    assert not np.array_equal(cycle, model.sample(6, labels=1))
    with pytest.raises(ValueError, match=r"0\.\.2"):
        model.sample(1, labels=3)
    with pytest.raises(ValueError, match="no classes"):
        load_model(write_checkpoint("plain")).sample(1, labels=0)


def test_mlflow_loads_it_where_ambient_ray_cannot_be_imported(
    store: TrackingStore, write_checkpoint: WriteCheckpoint, tmp_path: Path
) -> None:
    register(store, "alone", write_checkpoint(seed=4, num_classes=3))
    code = f"""
        import sys
        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "ambient_ray":
                    raise ImportError(name + " is not here")
        sys.meta_path.insert(0, Refuse())
        import mlflow, numpy as np, pandas as pd
        mlflow.set_tracking_uri({store.uri!r})
        model = mlflow.pyfunc.load_model("models:/alone@champion")
        rows = pd.DataFrame({{"seed": [9, 9, 9, 2], "label": [0, 1, 2, 0]}})
        np.save({str(tmp_path / "drawn.npy")!r}, model.predict(rows))
        assert not [name for name in sys.modules if name.startswith("ambient_ray")]
        assert model.metadata.get_input_schema().input_names() == ["seed", "label"]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120, cwd=tmp_path)
    drawn = np.load(tmp_path / "drawn.npy")
    model = load_model("models:/alone@champion", tracking_uri=store.uri)
    np.testing.assert_array_equal(drawn[:3], model.sample(3, seed=9))
    np.testing.assert_array_equal(drawn[3:], model.sample(1, seed=2))


def test_the_models_folder(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    generator = write_generator(write_checkpoint(), tmp_path / "generator")
    folder = write_mlflow_model(generator, tmp_path / "model")
    names = {path.name for path in folder.rglob("*")}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".pyc", ".bin"))]
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert file.read_bytes()[:1] != b"\x80" and not zipfile.is_zipfile(file), file  # a pickle, or torch.save's
    assert {"MLmodel", "model_index.json", "hashes.json", "pyfunc_model.py", "input_example.json"} <= names
    assert [name for name in names if name.endswith(".safetensors")] == ["diffusion_pytorch_model.safetensors"]
    assert len([path for path in folder.rglob("*") if path.stat().st_size > 20_000]) == 1  # the weights are there once
    assert str(tmp_path) not in (folder / "MLmodel").read_text() and "/" not in json.dumps(
        [line for line in (folder / "MLmodel").read_text().splitlines() if "path" in line]
    )
    listed = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in listed} == {
        "mlflow",
        "torch",
        "diffusers",
        "safetensors",
        "numpy",
        "pandas",
    }
    before = sorted(path for path in folder.rglob("*"))
    load_model(folder).sample(1)
    assert sorted(path for path in folder.rglob("*")) == before  # loading leaves no caches among the artifacts
    for source in COPIED:
        assert next(folder.glob(f"code_*/{source.name}")).read_bytes() == source.read_bytes()


def test_the_copied_files_import_only_each_other_and_named_packages() -> None:
    names = {file.stem for file in COPIED}
    for file in COPIED:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and (node.module or "").partition(".")[0] in names, (file, node.module)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                for module in modules:
                    top = module.partition(".")[0]
                    assert top in {"torch", "numpy", "diffusers", "safetensors", "PIL", *sys.stdlib_module_names}, (
                        file,
                        top,
                    )


def test_two_versions_with_other_code_live_side_by_side(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = write_generator(write_checkpoint("b"), tmp_path / "new")
    with monkeypatch.context() as other:
        other.setattr(bundle, "COPIED", other_code(tmp_path))
        old = write_generator(write_checkpoint(), tmp_path / "old")
    changed, current = load_model(old), load_model(new)
    assert (changed.sample(4) == changed.sample(4)[:1]).all()
    assert not (current.sample(4) == current.sample(4)[:1]).all()
    assert (changed.sample(4) == changed.sample(4)[:1]).all()


def test_a_model_of_the_layout_before_still_loads(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    # As registered until 0.1.0: artifacts/generator with load.py, code/, config.json and model.safetensors.
    checkpoint, generator = write_checkpoint(), tmp_path / "old" / "artifacts" / "generator"
    (generator / "code").mkdir(parents=True)
    stored = json.loads((checkpoint / "checkpoint.json").read_text())
    stored["weights_sha256"] = weights_hash(checkpoint)
    (generator / "config.json").write_text(json.dumps(stored))
    (generator / "load.py").write_text("")
    (generator / "code" / "generator.py").write_text(
        textwrap.dedent(
            """
            from safetensors.numpy import load_file

            class Generator:
                @classmethod
                def from_folder(cls, folder, *, package, device=None):
                    found = cls()
                    found.weights = load_file(folder / "model.safetensors")
                    return found
            """
        )
    )
    (generator / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    assert "net.conv_in.weight" in load_model(tmp_path / "old").weights
    with (generator / "model.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ModelChangedError, match=r"model\.safetensors was changed"):
        load_model(tmp_path / "old")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("models:/nobody@champion", "no registered model 'nobody'"),
        ("models:/known@winner", "versions 1 and aliases @champion"),
        ("models:/known/9", "versions 1 and aliases @champion"),
        ("models:/known/Production", "models:/known@Production"),
        ("models:/known", "models:/known@champion"),
        ("runs:/0123456789abcdef0123456789abcdef/known", "cannot be found"),
        ("nowhere/at/all", "neither a folder nor"),
    ],
)
def test_a_wrong_name_is_answered_with_what_exists(
    uri: str, told: str, store: TrackingStore, write_checkpoint: WriteCheckpoint
) -> None:
    register(store, "known", write_checkpoint(seed=8))
    with pytest.raises(ModelNotFoundError, match=told):
        load_model(uri, tracking_uri=store.uri)


def test_a_network_of_ones_own(
    write_checkpoint: WriteCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_nets.py").write_text(
        "from ambient_ray.diffusion import UNet\n\n\nclass Mine(UNet):\n    pass\n"
    )
    own = json.loads((write_checkpoint("plain") / "checkpoint.json").read_text())["backbone"]
    folder = write_checkpoint("own", backbone=own | {"_target_": "my_own_nets.Mine"})
    with pytest.raises(ModelUnloadableError, match=r"my_own_nets\.Mine.*PYTHONPATH"):
        load_model(folder)
    monkeypatch.syspath_prepend(tmp_path)
    images = load_model(folder).sample(3)
    bundled = write_mlflow_model(write_generator(folder, tmp_path / "g"), tmp_path / "model")
    np.testing.assert_array_equal(
        mlflow.pyfunc.load_model(str(bundled)).predict(pd.DataFrame({"seed": [0] * 3})), images
    )


def test_broken_checkpoints_are_named(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_checkpoint()
    stored = json.loads((folder / "checkpoint.json").read_text())
    del stored["sigma_data"]
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointUnreadableError, match="lacks the key 'sigma_data'"):
        write_generator(folder, tmp_path / "generator")
    with pytest.raises(ModelUnloadableError, match="sigma_data"):
        load_model(folder)
    with pytest.raises(ModelNotFoundError, match="neither a registered model nor a checkpoint"):
        load_model(tmp_path)


def test_a_server_that_is_away_is_told_before_mlflow_retries() -> None:
    with pytest.raises(TrackingUnreachableError, match="nothing answers"):
        load_model("models:/faces@champion", tracking_uri="http://127.0.0.1:9")


def test_the_pyfunc_answers_json_serving_input(write_checkpoint: WriteCheckpoint, tmp_path: Path) -> None:
    folder = write_mlflow_model(write_generator(write_checkpoint(), tmp_path / "g"), tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(folder))
    wanted = load_model(folder).sample(2, seed=0)
    np.testing.assert_array_equal(model.predict(model.input_example), wanted)
    np.testing.assert_array_equal(model.predict(pd.DataFrame({"seed": [0, 0]})), wanted)
    from mlflow.pyfunc.scoring_server import invocations

    answer = invocations(
        json.dumps({"dataframe_split": {"columns": ["seed"], "data": [[0], [0]]}}),
        "application/json",
        model,
        model.metadata.get_input_schema(),
    )
    assert answer.status == 200
    np.testing.assert_array_equal(np.array(json.loads(answer.response)["predictions"]), wanted)
