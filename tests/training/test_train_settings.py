import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_world import settings

from ambient_ray.errors import UserError
from ambient_ray.training import TrainSettings, TrainSettingsError


def test_settings_survive_json():
    before = settings(
        backbone={"_target_": "a.B", "block_out_channels": (16, 32), "nested": {"x": (1, 2)}},
        noise_draws="inf",
        sigma_data="measured",
        grad_clip=1,
        betas=[0.8, 0.95],
    )
    after = TrainSettings.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert after.backbone["block_out_channels"] == [16, 32]


def test_what_yaml_makes_of_numbers_is_understood():
    given = settings(noise_draws=float("inf"), batch_size=16.0, lr=1, rungs=[320.0])
    assert (given.noise_draws, given.batch_size, given.lr, given.rungs) == ("inf", 16, 1.0, (320,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noisy_ratio": 1.2}, "noisy_ratio must be a number, 0 or more and at most 1, got 1.2"),
        ({"sigma_tn": -0.5}, "sigma_tn must be a number, 0 or more, got -0.5"),
        ({"sigma_tn": float("nan")}, "sigma_tn must be a number"),
        ({"lr": 0}, "lr must be a number, above 0, got 0"),
        ({"lr": "fast"}, "lr must be a number, above 0, got 'fast'"),
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"rungs": (640, 320)}, "rungs must be increasing multiples of batch_size 16, got"),
        ({"rungs": (320, 321)}, "rungs must be increasing multiples of batch_size 16"),
        ({"rungs": ()}, "rungs must name at least one"),
        ({"rungs": 320}, "rungs must be a list"),
        ({"betas": (0.9,)}, r"betas must be two numbers in \[0, 1\)"),
        ({"betas": (0.9, 1.0)}, "betas must be a number"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, adamw, got 'sgd'"),
        ({"precision": "fp16"}, "precision must be one of fp32, bf16, got 'fp16'"),
        ({"mixing": "half"}, "mixing must be one of sigma_split, set_split, image_split"),
        ({"weighting": "none"}, "weighting must be one of paper, compensated"),
        ({"noise_draws": 0}, "noise_draws must be a whole number of 1 or more"),
        ({"sigma_data": "guess"}, "sigma_data must be a number"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"backbone": {"width": 3}}, "_target_"),
        ({"backbone": "unet"}, "backbone must be a mapping"),
        ({"compile_mode": 3}, "compile_mode must be a name"),
        ({"noise_distribution": "vp"}, "noise_distribution must be one of lognormal, loguniform, cosine, got 'vp'"),
        ({"shift_pixels": 1.5}, "shift_pixels must be a whole number of 0 or more, got 1.5"),
        ({"n_train": 2}, "n_train must be a whole number of 3 or more, got 2"),
        ({"sample_rho": 0}, "sample_rho must be a number, above 0, got 0"),
        ({"seed": -1}, "seed must be a whole number of 0 or more"),
    ],
)
def test_a_setting_out_of_range_is_one_sentence_that_names_it(changes, message):
    with pytest.raises(TrainSettingsError, match=message) as caught:
        settings(**changes)
    assert isinstance(caught.value, UserError)


def test_unknown_and_missing_keys_are_named():
    values = settings().to_dict()
    with pytest.raises(TrainSettingsError, match="unknown training setting 'learning_rate', known: backbone"):
        TrainSettings.from_dict(values | {"learning_rate": 1})
    del values["rungs"]
    with pytest.raises(TrainSettingsError, match="the training setting rungs is missing"):
        TrainSettings.from_dict(values)


def test_a_trials_width_depth_and_dropout_go_to_its_network():
    own = settings().overlaid({"width": 0.5, "depth": 2.0, "dropout": 0.1, "lr": 0.1, "n_train": 30.0})
    assert {"width": 0.5, "depth": 2.0, "dropout": 0.1}.items() <= own.backbone.items()
    assert (own.lr, own.n_train) == (0.1, 30)


@pytest.mark.parametrize("key", ["lr", "samples", "sigma_tn"])
@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan")])
def test_numbers_beyond_any_float(key, value):
    with pytest.raises(TrainSettingsError, match=f"{key} must be a") as told:
        settings(**{key: value})
    assert len(str(told.value)) < 300
