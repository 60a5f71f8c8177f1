"""Every wrong key or value is one sentence that names it."""

import shlex
import subprocess
import sys
from importlib import resources

import pytest
import torch

from ambient_ray.console.automatic import compiles, network, packing
from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.console.preparation import prepare, train_settings
from ambient_ray.console.session import announce
from ambient_ray.data import BUILT_IN
from ambient_ray.training import TrialInputError, compiling
from ambient_ray.tuning.space import Choice, Space

NAMED = ("digits", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet")
PAPER = {"cifar10": 32, "cifar100": 32, "fashion_mnist": None, "tiny_imagenet": 64, "ffhq64": 64}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trails=3", "unknown configuration key 'trails'; did you mean 'trials'"),
        ("dataset.n_trian=3", "did you mean 'dataset.n_train'"),
        ("foo=1", "unknown configuration key 'foo'"),
        ("+bar=3", "unknown configuration key 'bar'"),
        ("preset=digits", r"write \+preset=NAME"),
        ("+preset=nope", "there is no preset 'nope'; there are .*digits"),
        ("dataset=nope", "there is no dataset 'nope'; there are .*digits"),
        ("trial.rungs=[3,2]", "trial.rungs: must be above 0 and strictly increasing"),
        ("trial.rung_values=[[fd]]", "rung_values must name the scores"),
        ("trial.workers=0", "trial.workers: must be a whole number of 1 or more, or .fewest, most. of them, got 0"),
        ("dataset.name=null", "set dataset.path"),
        ("study=a/b", "study: "),
        ("dataset.path=[1", "no viable alternative"),
    ],
)
def test_bad_input_is_one_sentence(override, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(load("search", [override]))


def presets():
    folder = resources.files("ambient_ray.conf") / "preset"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


@pytest.mark.parametrize("preset", presets())
def test_every_preset_composes(preset):
    config = validate(load("search", [f"+preset={preset}", "dataset.path=/data"]))
    assert train_settings(config).rungs == tuple(config.trial.rungs)
    assert config.study == preset


@pytest.mark.parametrize("preset", NAMED)
def test_named_sets_need_no_path(preset):
    """By its name, the set is the one of the preset; where a path is given, it is read instead."""
    for name in {preset, f"{preset}_paper"} & set(presets()):
        config = validate(load("search", [f"+preset={name}"]))
        assert config.dataset.source == preset
        assert preset in BUILT_IN
        assert validate(load("search", [f"+preset={name}", "dataset.path=/data"])).dataset.source == "/data"
    assert validate(load("search", [f"dataset={preset}"])).dataset.source == preset


def test_faces_need_a_path():
    for preset in ("ffhq64", "ffhq64_paper"):
        with pytest.raises(ConfigurationError, match=r"dataset\.path"):
            load("search", [f"+preset={preset}"])


@pytest.mark.parametrize(("preset", "resolution"), PAPER.items())
def test_paper_sizes_are_the_published_recipe(preset, resolution):
    """SCIENCE.md 8: batch 256, Adam 1e-4 with L2 .01, 30,000 kimg, ramp 10,000 kimg, half-life 500 kimg, fp32."""
    config = validate(load("search", [f"+preset={preset}_paper", "dataset.path=/data"]))
    settings = train_settings(config)
    assert (settings.batch_size, settings.lr, settings.weight_decay) == (256, 1e-4, 0.01)
    assert (settings.optimizer, settings.precision) == ("adam", "fp32")
    assert (settings.warmup_images, settings.ema_halflife_images) == (10_000_000, 500_000)
    assert 30_000_000 <= settings.rungs[-1] < 30_001_000
    assert settings.samples == 5000
    assert settings.backbone["block_out_channels"][:2] == [128, 256]
    assert settings.backbone["dropout"] == 0.05
    assert config.dataset.resolution == resolution
    scaled = validate(load("search", [f"+preset={preset}", "dataset.path=/data"]))
    assert scaled.trial.rungs[-1] * 3 < settings.rungs[-1]


def test_the_short_name_of_fashion_mnist_is_the_same_preset():
    short, long = load("search", ["+preset=fashion"]), load("search", ["+preset=fashion_mnist"])
    assert short == long | {"study": "fashion"}


def test_the_digits_preset_is_the_default():
    default, preset = load("search"), load("search", ["+preset=digits"])
    default["backbone"] = network(validate(default), 8)
    assert preset == default


@pytest.mark.parametrize(("resolution", "widths"), [(16, [32, 64]), (28, [64, 128, 128]), (64, [128, 256, 256, 256])])
def test_larger_images_get_a_larger_network_by_themselves(resolution, widths):
    assert network(validate(load("search", ["dataset.path=/data"])), resolution)["block_out_channels"] == widths


@pytest.mark.parametrize(
    ("overrides", "compiled"),
    [
        ([], True),
        (["training.compile=false"], False),
        (["trial.rungs=[12800]"], False),
        (["trial.rungs=[12800]", "training.compile=true"], True),
        (["backbone._target_=my.Net"], False),
        (["backbone=unet_small"], False),
        (["backbone=unet_small", "trial.gpus_per_worker=1"], True),
        (["trials=1"], True),
    ],
)
def test_compile_auto_is_where_it_pays(overrides, compiled, monkeypatch):
    monkeypatch.setattr(compiling, "missing_compiler", lambda device: None)
    config = validate(load("search", overrides))
    assert compiles(config, network(config, 8)) is compiled
    monkeypatch.setattr(compiling, "missing_compiler", lambda device: "none")
    assert compiles(config, network(config, 8)) is ("training.compile=true" in overrides)


def test_compile_auto_is_off_where_every_trial_has_a_network_of_its_own(monkeypatch):
    monkeypatch.setattr(compiling, "missing_compiler", lambda device: None)
    config = validate(load("search"))
    other, network_too = (Space("s", {name: Choice(name, (0.5, 1.0))}) for name in ("lr", "width"))
    assert compiles(config, network(config, 8), other)
    assert not compiles(config, network(config, 8), network_too)


def test_the_commands_of_the_design_compose():
    command = (
        "study=faces dataset.path=/data/faces dataset.n_train=1000 search_space=ambient trials=64"
        " trial.workers=2 trial.gpus_per_worker=1"
    )
    config = validate(load("search", shlex.split(command)))
    assert (config.study, config.dataset.source, config.trial.gpus_per_worker) == ("faces", "/data/faces", 1)
    assert config.output_dir.is_absolute()
    assert config.storage_url.startswith("journal:/")
    assert config.model_name == "faces"


def test_preparing_a_search_imports_nothing_that_only_training_needs(tmp_path):
    """diffusers and scikit-learn cost seconds of a user's time before the first process of a trial starts."""
    script = (
        "import sys\n"
        "from ambient_ray.console.command import load\n"
        "from ambient_ray.console.configuration import validate\n"
        "from ambient_ray.console.session import announce\n"
        "from ambient_ray.console.preparation import prepare\n"
        f"announce(prepare(validate(load('search', ['output_dir={tmp_path}']))))\n"
        "late = ('diffusers', 'sklearn', 'mlflow', 'matplotlib', 'ray.tune', 'ray.train')\n"
        "assert not [name for name in late if name in sys.modules], [name for name in late if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output_dir='~nobody_of_this_name/x'", "output_dir: ~nobody_of_this_name is no user's home folder"),
        ("output_dir='a\0b'", "output_dir: a path holds no NUL character|output_dir"),
        ("~hydra/job_logging=[]", "deletion value must be a string"),
        ("n" * 300 + "=1", "."),
        ("tracking.uri=" + "[" * 2000, r"no viable alternative .* \.\.\. "),
        ("study=" + "x/" * 5000, r"study: .* \.\.\. "),
    ],
)
def test_hostile_overrides_are_one_short_sentence(override, message):
    with pytest.raises(ConfigurationError, match=message) as told:
        validate(load("search", [override]))
    assert "\n" not in str(told.value) and 0 < len(str(told.value)) < 1000


def test_what_auto_cannot_know_about_other_machines_gpus_is_told(tmp_path, monkeypatch, capsys):
    """A cluster's head without a GPU; and packing, which a GPU does not do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = [f"output_dir={tmp_path}", "dry_run=true", "trial.gpus_per_worker=0.5", "address=auto"]
    prepared = prepare(validate(load("search", given)))
    announce(prepared)
    assert prepared.settings.precision == "fp32" and prepared.pack == 1
    assert "training.precision=auto is fp32, as this machine has no GPU with bf16" in capsys.readouterr().out
    config = validate(load("search", [*given, "trial.pack=4"]))
    with pytest.raises(TrialInputError, match=r"trial\.pack=4: packed trials would not be kept apart on a GPU"):
        packing(config, prepared.settings, prepared.subsets, prepared.space)
