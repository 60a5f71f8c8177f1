"""The spaces that ship: each is what it says, can be trained at its edges, and its settings reach the training."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
import small_world as world

from ambient_ray.console.checks import augmentation, check_space_data, check_space_values, corners
from ambient_ray.data import noise_bank, split
from ambient_ray.errors import UserError
from ambient_ray.evaluation import EvaluationSettings, PixelExtractor, References
from ambient_ray.training import TrainingData, TrainSettingsError, TrialInputError, World, run_trial
from ambient_ray.training.settings import NETWORK_SETTINGS
from ambient_ray.tuning.space import Choice, Range, Space, load_space, shipped_spaces

DIT = {"_target_": "ambient_ray.diffusion.backbones.DiT", "layers": 1, "heads": 1, "head_dim": 8}
SHIPPED = [
    "ambient", "ambient_wide", "architecture", "batch_ratio", "dataset_size", "image_split", "noise_schedule", "rivals",
]  # fmt: skip
SETTINGS = world.settings(backbone=DIT, rungs=(32,), sigma_tn=0.0)
SUBSETS = split(world.images(60), 40, seed=0)


def load(name, **changes):
    few = {"n_train": {"high": len(SUBSETS.train)}} if name == "dataset_size" else {}
    return load_space(name, settings=frozenset(SETTINGS.to_dict()) | NETWORK_SETTINGS, overrides=few | changes)


def test_the_spaces_are_those_that_the_readme_lists():
    assert sorted(path.stem for path in shipped_spaces().glob("*.yaml")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_space_says_why_for_every_parameter_and_starts_with_ddpm(name):
    text = (shipped_spaces() / f"{name}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for parameter in yaml.safe_load(text)["parameters"]:
        assert any(parameter in line.split("  ")[0] for line in comments), parameter
    space = load(name)
    assert space.baselines[0] == {"sigma_tn": 0.0}
    ddpm = SETTINGS.overlaid({**space.fixed, **space.baselines[0]})
    assert ddpm.sigma_tn == 0 and ddpm.n_train is None


@pytest.mark.parametrize("name", SHIPPED)
def test_every_edge_of_a_space_is_a_training_that_can_run(name):
    space = load(name)
    check_space_values(SETTINGS, space)
    check_space_data(SETTINGS, space, SUBSETS)
    edges = corners(space)
    for parameter, what in space.parameters.items():
        ends = set(what.choices) if isinstance(what, Choice) else {what.low, what.high}
        assert ends <= {edge[parameter] for edge in edges if parameter in edge}
    if name == "batch_ratio":
        assert all(("noisy_ratio" in edge) == (edge["mixing"] == "set_split") for edge in edges[1:])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_tiny_trial_trains_at_one_point_of_each_space(tmp_path, name):
    space = load(name)
    mirror, shift = augmentation(SETTINGS, space)
    extractor = PixelExtractor()
    data = TrainingData(
        SUBSETS.train,
        SUBSETS.heldout,
        noise_bank(SUBSETS.train.ids, SUBSETS.train.shape, seed=0, draws=4),
        extractor,
        References.build(
            extractor,
            SUBSETS.train,
            SUBSETS.heldout,
            settings=EvaluationSettings(mirror=mirror, shift=shift),
            narrow="n_train" in space.parameters,
        ),
        nested=SUBSETS.nested,
    )
    own = corners(space)[-1]
    recorder = world.Recorder()
    outcome = run_trial(SETTINGS.overlaid(own), data, World(), recorder, workdir=tmp_path)
    assert outcome.state == "finished", outcome.reason
    scores = recorder.results[0].scores
    assert {"fd_pixels", "f_mem", "gap", "s_tau"} <= scores.keys()
    assert recorder.results[0].facts["n_train"] == own.get("n_train", 40)


def test_copies_are_looked_for_through_whatever_a_trial_may_do_to_its_images():
    assert augmentation(SETTINGS, load("rivals")) == (True, 2)
    assert augmentation(SETTINGS, load("ambient")) == (False, 0)
    assert augmentation(world.settings(flip=True), load("ambient")) == (True, 0)


def test_more_images_than_there_are_or_networks_that_do_not_fit_are_found_before_any_trial():
    space = load("dataset_size", n_train={"high": 1000})
    check_space_values(SETTINGS, space)
    with pytest.raises(
        TrainSettingsError, match=r"asks for n_train=1000 and dataset.n_train is 40: .*space.n_train.high=40"
    ):
        check_space_data(SETTINGS, space, SUBSETS)
    with pytest.raises(TrialInputError, match="refuses its arguments"):  # TinyNet knows no depth
        check_space_data(world.settings(), load("architecture"), SUBSETS)
    with pytest.raises(TrialInputError, match="shift_pixels = 3 moves images of 6 pixels"):
        check_space_data(SETTINGS, Space("mine", {"shift_pixels": Choice((0, 3))}), SUBSETS)


def test_every_choice_is_looked_at_not_only_the_first_and_the_last():
    with pytest.raises(UserError, match="mixing must be one of"):
        check_space_values(SETTINGS, Space("mine", {"mixing": Choice(("set_split", "half", "sigma_split"))}))


def test_corners_hold_only_what_exists_together():
    space = Space(
        "mine",
        {"lr": Range(0.1, 0.2), "mixing": Choice(("set_split", "sigma_split")), "n_train": Range(5, 9, integer=True)},
        fixed={"flip": True},
        conditions={"lr": {"mixing": ("set_split",)}},
    )
    found = corners(space)
    assert {"flip": True, "mixing": "set_split", "lr": 0.1, "n_train": 5} in found
    assert {"flip": True, "mixing": "sigma_split", "n_train": 9} in found
    assert all(("lr" in edge) == (edge["mixing"] == "set_split") for edge in found)
    assert all(isinstance(edge["n_train"], int) for edge in found)
