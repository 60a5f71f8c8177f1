"""Every wrong key or value is one sentence that names it."""

import shlex
import subprocess
import sys

import pytest

from ambient_ray.console.automatic import compiles, network
from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.console.preparation import train_settings
from ambient_ray.training import compiling
from ambient_ray.tuning.space import Choice, Space

PRESETS = ("digits", "fashion", "cifar10", "tiny_imagenet", "ffhq64", "ffhq64_paper")


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
        ("trial.workers=0", "trial.workers: input should be greater than or equal to 1, got 0"),
        ("evaluation.reference=test", "evaluation.reference: input should be 'heldout', 'full' or 'train'"),
        ("dataset.name=null", "set dataset.path"),
        ("study=a/b", "study: "),
        ("dataset.path=[1", "no viable alternative"),
    ],
)
def test_bad_input_is_one_sentence(override, message):
    with pytest.raises(ConfigurationError, match=message):
        validate(load("search", [override]))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes(preset):
    config = validate(load("search", [f"+preset={preset}", *([] if preset == "digits" else ["dataset.path=/data"])]))
    assert train_settings(config).rungs == tuple(config.trial.rungs)


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
