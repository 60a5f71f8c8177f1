"""The commands that a card gives compose to the settings that the model was trained with."""

import shlex
from dataclasses import replace

import pytest

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.console.preparation import one_configuration, train_settings
from ambient_ray.console.retrain import command, retrain_command
from ambient_ray.tuning.records import RungRecord, TrialRecord

SEARCH = [
    "/x/ambient_ray/search.py", "study=faces", "trials=64", "sampler=gp", "search_space=ambient_wide",
    "+space.sigma_tn.high=2", "confirm.top=5", "dataset.n_train=200", "+preset=fashion", "training.lr=1e-3",
    "tracking.register_front=3", "enqueue=points.csv", "trial.rungs=[1280,2560,5120]",
]  # fmt: skip
SETTINGS = {"sigma_tn": 0.58, "noisy_ratio": 0.375, "mixing": "set_split", "dropout": 0.25, "weight_decay": 1e-07}


def trial(**own):
    rungs = tuple(RungRecord(i, n, {}, {}, "c") for i, n in enumerate((1280, 2560, 5120)))
    return TrialRecord(7, "ambient", {**SETTINGS, **own}, "finished", rungs)


def composed(text):
    words = shlex.split(text)
    assert words[:3] == ["python", "-m", "ambient_ray.train"]
    return validate(load("train", words[3:]))


@pytest.mark.parametrize("seed", [None, 3])
def test_the_models_own_command_trains_its_configuration_up_to_its_rung(seed):
    own = {} if seed is None else {"seed": seed, "rungs": [1280, 2560, 5120]}
    resolved = replace(train_settings(validate(load("search", SEARCH[1:]))), precision="bf16", compile=True)
    config = composed(retrain_command(SEARCH, "faces", resolved, trial(**own), 2560))
    settings = train_settings(config)
    assert config.study == "faces-trial-7" and config.trials == 1 and config.confirm.top == 0
    assert settings.rungs == (1280, 2560) and config.dataset.n_train == 200
    assert (settings.sigma_tn, settings.noisy_ratio, settings.weight_decay) == (0.58, 0.375, 1e-07)
    assert settings.precision == "bf16" and settings.compile is True, "what auto became, not auto"
    assert settings.lr == 1e-3 and settings.backbone["dropout"] == 0.25
    assert settings.seed == (0 if seed is None else 3) and settings.noise_seed == settings.latent_seed == 0
    assert one_configuration(config).fixed["sigma_tn"] == 0.58


def test_the_searchs_command_is_what_was_typed():
    assert command(["/x/ambient_ray/search.py", "study=a", "dataset.path=/my data"]) == (
        "python -m ambient_ray.search study=a 'dataset.path=/my data'"
    )
    assert command(["/usr/bin/ambient-search", "study=a"]) == "ambient-search study=a"
