"""The command that a report gives begins the same search: composed again, it resolves to the same settings."""

import json
import shlex

import pytest

from ambient_ray.console.again import search_command
from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.tracking.labels import flat_params
from ambient_ray.tracking.reading import parsed


def recorded(module, *overrides):
    """The parameters of the run that this command begins, as they are read back."""
    flat = flat_params(validate(load(module, overrides)).model_dump(mode="json"))
    return {key: parsed(value) for key, value in flat.items()}


@pytest.mark.parametrize(
    ("module", "given", "short"),
    [
        ("search", ["study=mine", "trials=64"], ["study=mine", "trials=64"]),
        ("search", ["study=c", "+preset=cifar10", "dataset.n_train=1000"], None),
        ("search", ["backbone=dit_digits", "backbone.layers=5", "sampler=gp"], None),
        ("search", ["+space.sigma_tn.high=2", "trial.rungs=[10,20]", "trial.rung_values=[[fd],[fd,f_mem]]"], None),
        ("search", ["dataset.path='/data/a b/faces'", "dataset.resolution=64", "confirm.rule=knee"], None),
        ("search", ["evaluation.features={_target_: my.Net, size: 3}", "hours=1.5", "trials=null"], None),
        ("train", ["study=one", "training.sigma_tn=0.5"], ["study=one", "training.sigma_tn=0.5"]),
    ],
)  # fmt: skip
def test_the_command_resolves_to_what_was_recorded(module, given, short):
    wanted = recorded(module, *given)
    words = shlex.split(search_command(wanted).replace("\\\n", " "))
    assert words[:3] == ["python", "-m", f"ambient_ray.{module}"]
    assert recorded(module, *words[3:]) == wanted
    if short is not None:
        assert words[3:] == short


def test_where_it_ran_is_left_to_who_runs_it():
    command = search_command(recorded("search", "output_dir=/home/me/out", "tracking.uri=http://mlflow:5000"))
    assert "home" not in command and "mlflow" not in command and json.dumps(command).count("study=digits") == 1


def test_settings_of_another_version_give_no_command():
    assert search_command(recorded("search") | {"training.not_known_here": 3}) == ""
