"""`ambient-promote`: an alias moves for a reason that is kept, and what may not move is told in one sentence."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from safetensors.torch import save_file

from ambient_ray.diffusion import build_backbone
from ambient_ray.interval import Interval
from ambient_ray.promote import main, version_table
from ambient_ray.tracking import register_models, resolve_store
from ambient_ray.tracking.models.origin import Origin
from ambient_ray.tracking.models.promotion import Evidence
from ambient_ray.tracking.models.versions import Entry
from ambient_ray.tracking.store import open_client

UNET = {"_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [8], "layers_per_block": 1,
        "norm_groups": 2}  # fmt: skip
FACTS = {"extractor": "classifier", "n": 500}


def checkpoint(folder: Path, seed: int) -> Path:
    folder.mkdir()
    image = {"channels": 1, "resolution": 8, "num_classes": None}
    torch.manual_seed(seed)
    save_file(build_backbone(UNET, **image).state_dict(), folder / "model.safetensors")
    stored = {"backbone": UNET, "sigma_data": 0.5, "image": image, "images_seen": 64_000, "sampler": {"steps": 2}}
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    return folder


class Registry:
    """One store for all tests; every test has a model of its own name."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, resolve_store(None, folder)
        self.client: MlflowClient = open_client(self.store.uri)
        self.experiment = self.client.create_experiment("promote", f"{self.store.artifact_location}/promote")

    def fill(self, model: str, *spans: tuple[float, float], confirmed: bool = True, champion: int = 1) -> None:
        """Versions 1, 2, ... with these intervals of memorization; the first takes @champion."""
        for number, (low, high) in enumerate(spans, 1):
            evidence = Evidence(
                ("fd", "f_mem"), Interval(4.5, 4.4, 4.6), Interval((low + high) / 2, low, high), confirmed,
                seeds=(1, 2, 3) if confirmed else (), facts=FACTS, notes={"configuration": f"sigma_tn .{number}"},
            )  # fmt: skip
            run_id = self.client.create_run(self.experiment).info.run_id
            folder = checkpoint(self.folder / f"{model}-{number}", number)
            origin = Origin(model, number, "ambient", dataset={"name": "digits"})
            aliases = ("champion",) if number == champion else ()
            entry = Entry(folder, run_id, {"f_mem": 0.1}, FACTS, evidence, origin, aliases)
            register_models(self.client, model, [entry])

    def aliases(self, model: str) -> dict[str, int]:
        return {key: int(value) for key, value in self.client.get_registered_model(model).aliases.items()}

    def everything(self, model: str) -> object:
        """All that a promotion could change."""
        registered = self.client.get_registered_model(model)
        versions = self.client.search_model_versions(f"name='{model}'")
        told = sorted((int(v.version), v.description, sorted(v.tags.items())) for v in versions)
        return self.aliases(model), sorted(registered.tags.items()), told


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("outputs"))


def promote(registry: Registry, *arguments: str) -> int:
    return main([*arguments, "--tracking-uri", registry.store.uri])


def test_a_shown_gain_moves_the_champion_and_says_who_when_and_why(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.fill("moves", (0.3, 0.4), (0.1, 0.2), (0.0, 0.02))
    before = registry.everything("moves")
    reason = ["--to", "champion", "--reason", "Its gallery\nwas looked through."]
    assert promote(registry, "moves", "--version", "2", *reason, "--dry-run") == 0
    assert "version 2 of moves would be @champion, after version 1" in capsys.readouterr().out
    assert registry.everything("moves") == before, "a dry run writes nothing"

    assert promote(registry, "moves", "--version", "2", *reason) == 0
    assert "is @champion now, after version 1, which stays reachable as @previous-champion" in capsys.readouterr().out
    assert registry.aliases("moves") == {"champion": 2, "previous-champion": 1}
    version = registry.client.get_model_version("moves", "2")
    tags = {key: value for key, value in version.tags.items() if key.startswith("promoted.")}
    assert tags["promoted.reason"] == "Its gallery was looked through" and tags["promoted.from"] == "1"
    assert tags["promoted.by"] and tags["promoted.at"].endswith("Z") and "do not overlap" in tags["promoted.evidence"]
    assert "Its gallery was looked through." in version.description
    location = version.source.removeprefix("file://")  # the same words are among the version's files
    assert "Its gallery was looked through." in (Path(location) / "README.md").read_text()

    done = registry.everything("moves")
    assert promote(registry, "moves@champion", *reason) == 0  # again: nothing to do
    assert "already" in capsys.readouterr().out and registry.everything("moves") == done
    assert promote(registry, "models:/moves/3", *reason) == 0
    assert registry.aliases("moves") == {"champion": 3, "previous-champion": 2}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["refused", "--version", "2"], "is not shown to be better than the champion, version 1 (f_mem 0.300"),
        (["refused@nobody"], "refused@nobody does not exist: model 'refused' has versions 1, 2 and aliases @champion"),
        (["models:/refused/9"], "refused version 9 does not exist: model 'refused' has versions 1, 2 and aliases"),
        (["refused"], "names no version: give --version N, or refused@ALIAS (model 'refused' has versions 1, 2"),
        (["models:/refused/Staging"], "'Staging' is no version number; an alias is written refused@Staging"),
        (["refused@champion", "--version", "2"], "leave --version out"),
        (["models:/refused/1", "--version", "2"], "names version 1, and --version says 2"),
        (["nobody", "--version", "1"], "there is no registered model 'nobody' with a version (registered models: "),
    ],
)
def test_what_may_not_be_or_does_not_exist_is_told_and_changes_nothing(
    registry: Registry, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not registry.client.search_registered_models("name='refused'"):
        registry.fill("refused", (0.3, 0.4), (0.2, 0.4))
    before = registry.everything("refused")
    capsys.readouterr()
    assert promote(registry, *arguments, "--to", "champion", "--reason", "why not") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1
    assert registry.everything("refused") == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --to ALIAS with --reason TEXT, or --list"),
        (["--to", "champion"], "give --reason TEXT"),
        (["--to", "champion", "--reason", " "], "--reason is empty"),
        (["--to", "previous-champion", "--reason", "x"], "moves with champion alone"),
        (["--to", "v2", "--reason", "x"], "'v2' is no alias"),
        (["--to", "latest", "--reason", "x"], "'latest' is no alias"),
        (["--to", "my alias", "--reason", "x"], "'my alias' is no alias"),
        (["--to", "mine", "--reason", "x", "--without-evidence"], "--without-evidence is for --to champion alone"),
    ],
)
def test_bad_arguments_get_one_sentence(
    registry: Registry, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert promote(registry, "any@champion", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1


def test_without_evidence_is_refused_unless_it_is_said_and_then_it_is_recorded(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.fill("guess", (0.3, 0.4), (0.0, 0.1), confirmed=False)
    registry.client.set_model_version_tag("guess", "1", "record.evidence", "{}")
    why = ["--to", "champion", "--reason", "the paper's figure 3 shows it"]
    assert promote(registry, "guess", "--version", "2", *why) == 2
    assert "one training run, the best of many, and not confirmed on fresh seeds" in capsys.readouterr().err
    assert registry.aliases("guess") == {"champion": 1}
    assert promote(registry, "guess", "--version", "2", *why, "--without-evidence") == 0
    assert "without evidence, as its tags and card say" in capsys.readouterr().out
    version = registry.client.get_model_version("guess", "2")
    assert version.tags["promoted.evidence"] == "none" and "**Without evidence**" in version.description
    assert promote(registry, "guess@previous-champion", *why) == 2
    assert "carries no evidence" in capsys.readouterr().err
    assert registry.aliases("guess") == {"champion": 2, "previous-champion": 1}
    # Back to what it was: the one that steps down is the previous champion now.
    assert promote(registry, "guess@previous-champion", *why, "--without-evidence") == 0
    assert registry.aliases("guess") == {"champion": 1, "previous-champion": 2}


def test_a_model_whose_files_were_changed_takes_no_alias(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.fill("changed", (0.3, 0.4), (0.0, 0.1))
    source = Path(registry.client.get_model_version("changed", "2").source.removeprefix("file://"))
    (weights,) = source.rglob("*.safetensors")
    original, before = weights.read_bytes(), registry.everything("changed")
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    for alias in ("champion", "mine"):
        for more in ([], ["--without-evidence"] if alias == "champion" else ["--dry-run"]):
            assert promote(registry, "changed", "--version", "2", "--to", alias, "--reason", "x", *more) == 2
            assert "models:/changed/2 is not the model that was registered" in capsys.readouterr().err
    weights.unlink()
    assert promote(registry, "changed", "--version", "2", "--to", "champion", "--reason", "x") == 2
    assert "models:/changed/2" in capsys.readouterr().err and registry.everything("changed") == before
    weights.write_bytes(original)
    assert promote(registry, "changed", "--version", "2", "--to", "champion", "--reason", "x") == 0


def test_a_version_of_another_maker_is_refused(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.client.create_registered_model("foreign")
    registry.client.create_model_version("foreign", str(registry.folder))
    assert (
        promote(registry, "foreign", "--version", "1", "--to", "champion", "--reason", "x", "--without-evidence") == 2
    )
    assert "was not registered by ambient-ray" in capsys.readouterr().err
    assert registry.aliases("foreign") == {}


def test_any_other_alias_needs_a_reason_alone(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.fill("mine", (0.3, 0.4), (0.5, 0.6))
    assert promote(registry, "mine", "--version", "2", "--to", "figure-3", "--reason", "shown in the paper.") == 0
    assert "version 2 of mine is @figure-3 now" in capsys.readouterr().out
    assert registry.aliases("mine") == {"champion": 1, "figure-3": 2}
    told = registry.client.get_registered_model("mine").tags["alias.figure-3"]
    assert told.startswith("version 2 since ") and "shown in the paper (" in told


def test_the_list_shows_aliases_scores_and_promotions(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.fill("listed", (0.3, 0.4), (0.1, 0.2))
    assert promote(registry, "listed", "--version", "2", "--to", "champion", "--reason", "seen and liked") == 0
    capsys.readouterr()
    assert promote(registry, "models:/listed@champion", "--list") == 0
    text = capsys.readouterr().out
    for shown in ("@champion", "@previous-champion", "sigma_tn .1", "f_mem", "0.150 [0.100, 0.200]", "3 fresh seeds"):
        assert shown in text, text
    assert "seen and liked" in " ".join(text.split()) or "seen and" in text
    assert version_table(registry.client, "listed").row_count == 2
    assert promote(registry, "nobody", "--list") == 2
    assert "no registered model 'nobody'" in capsys.readouterr().err


def test_a_registry_that_refuses_is_one_sentence_and_nothing_is_moved(
    registry: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.fill("readonly", (0.3, 0.4), (0.1, 0.2))
    before = registry.everything("readonly")

    def refuse(name: str) -> Callable[..., None]:
        def write(*args: object, **kwargs: object) -> None:
            raise MlflowException(f"attempt to write a readonly database\n[SQL: {name}]")

        return write

    for name in ("set_model_version_tag", "set_registered_model_alias", "update_model_version"):
        monkeypatch.setattr(MlflowClient, name, refuse(name))
    capsys.readouterr()
    assert promote(registry, "readonly", "--version", "2", "--to", "champion", "--reason", "x") == 2
    error = capsys.readouterr().err
    assert "refused to make version 2 the champion (attempt to write a readonly database); nothing was changed" in error
    assert promote(registry, "readonly", "--version", "2", "--to", "mine", "--reason", "x") == 2
    assert "refused to point @mine to version 2" in capsys.readouterr().err
    assert error.count("\n") == 1 and registry.everything("readonly") == before


def test_a_store_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path}/none.db"
    assert main(["faces@champion", "--to", "champion", "--reason", "x", "--tracking-uri", uri]) == 2
    assert "there is no MLflow database" in capsys.readouterr().err and not (tmp_path / "none.db").exists()


def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys, ambient_ray.promote as p\n"
    code += "try: p.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
    code += "assert p.main(['faces']) == 2\n"
    code += "assert not {'torch', 'mlflow', 'numpy', 'rich'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "--without-evidence" in done.stdout and done.stderr.startswith("error: nothing to do")
