"""A trial on a part of the images is the trial of a study that has no others."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.data import noise_bank, split
from ambient_ray.evaluation import PixelExtractor, References
from ambient_ray.training import (
    CheckpointMismatchError,
    TrainingData,
    TrialInputError,
    World,
    read_checkpoint,
    run_trial,
)
from ambient_ray.training.subset import own_subset

IMAGES = world.images(60, labels=True)


def study(n):
    """Data of a study of n training images, scored against one and the same held-out set."""
    drawn = split(IMAGES, n, seed=0)
    heldout = split(IMAGES, 40, seed=0).heldout
    bank = noise_bank(drawn.train.ids, drawn.train.shape, seed=0)
    extractor = PixelExtractor()
    references = References.build(extractor, drawn.train, heldout, narrow=True)
    return TrainingData(drawn.train, heldout, bank, extractor, references, nested=drawn.nested)


def run(data, folder, **changes):
    recorder = world.Recorder()
    settings = world.settings(rungs=(64,), **changes)
    run_trial(settings, data, World(), recorder, workdir=folder)
    (result,) = recorder.results
    return result


def test_it_trains_and_scores_as_a_study_of_that_size_would(tmp_path):
    part = run(study(40), tmp_path / "part", n_train=20, sigma_data="measured")
    alone = run(study(20), tmp_path / "alone", sigma_data="measured")
    timed = {"images_per_second"}
    assert {k: v for k, v in part.scores.items() if k not in timed} == pytest.approx(
        {k: v for k, v in alone.scores.items() if k not in timed}, rel=1e-9, abs=1e-12
    )
    assert part.facts["n_train"] == 20 and part.facts["train_hash"] == alone.facts["train_hash"]
    before, after = (read_checkpoint(result.checkpoint) for result in (part, alone))
    assert before.content_hash == after.content_hash
    with np.load(part.checkpoint / "samples.npz") as ours, np.load(alone.checkpoint / "samples.npz") as theirs:
        assert (ours["samples"] == theirs["samples"]).all()
        # Galleries have the study's images, so neighbours are numbered among those.
        ids, own_ids = study(40).train.ids, study(20).train.ids
        for key in ("nearest_index", "similar_index"):
            assert [ids[i] for i in ours[key]] == [own_ids[i] for i in theirs[key]]


def test_all_of_the_images_are_no_part_and_more_are_refused():
    data = study(40)
    assert own_subset(world.settings(), data) is data
    assert own_subset(world.settings(n_train=40), data) is data
    with pytest.raises(TrialInputError, match=r"n_train = 41, but the study has 40 training images"):
        own_subset(world.settings(n_train=41), data)
    with pytest.raises(TrialInputError, match="order in which images join"):
        own_subset(world.settings(n_train=20), replace(data, nested=None))


def test_an_image_keeps_its_noise():
    data = study(40)
    part = own_subset(world.settings(n_train=20), data)
    for image_id, noise in zip(part.train.ids, part.noise_bank, strict=True):
        assert (noise == data.noise_bank[data.train.ids.index(image_id)]).all()


def test_a_trial_is_not_taken_up_on_another_number_of_images(tmp_path):
    result = run(study(40), tmp_path, n_train=20)
    with pytest.raises(CheckpointMismatchError, match="n_train"):
        run_trial(
            world.settings(rungs=(64, 128), n_train=25),
            study(40), World(), world.Recorder(), workdir=tmp_path, resume=result.checkpoint,
        )  # fmt: skip


def test_the_samplers_spacing_is_kept_for_whoever_samples_later(tmp_path):
    three, seven = (run(study(40), tmp_path / str(rho), sample_rho=rho) for rho in (3.0, 7.0))
    stored = json.loads((three.checkpoint / "checkpoint.json").read_text())
    assert stored["sampler"] == {"steps": 3, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 3.0}
    with np.load(three.checkpoint / "samples.npz") as a, np.load(seven.checkpoint / "samples.npz") as b:
        assert (a["samples"] != b["samples"]).any()


def test_images_that_a_shift_would_halve_are_refused(tmp_path):
    with pytest.raises(TrialInputError, match="shift_pixels = 3 moves images of 6 pixels by half"):
        run(study(40), tmp_path, shift_pixels=3)
