import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.data import ImageSet
from ambient_ray.evaluation import PixelExtractor, References
from ambient_ray.training import TrainingData, TrainSettings, TrialInputError, World, run_trial
from ambient_ray.training.scoring import samples_at_once
from ambient_ray.training.state import build_model


def test_a_rung_carries_every_score_its_facts_and_the_nearest_images(tmp_path):
    train, heldout = world.images(), world.images(20, seed=1)
    extractor = PixelExtractor()
    references = References.build(extractor, train, heldout)
    data = TrainingData(train, heldout, world.data().noise_bank, extractor, references)
    recorder = world.Recorder()
    run_trial(world.settings(rungs=(64,)), data, World(), recorder, workdir=tmp_path)
    (result,) = recorder.results
    assert {"fd_pixels", "f_mem", "s_tau", "gap", "gap_low", "gap_high", "loss"} <= result.scores.keys()
    assert all(isinstance(value, float) for value in result.scores.values())
    assert {
        "extractor",
        "weight_hash",
        "n",
        "reference",
        "latent_seed",
        "sample_steps",
    } <= result.facts.keys()
    with np.load(result.checkpoint / "samples.npz") as kept:
        assert kept["nearest_index"].shape == (6,)
        assert (kept["nearest_index"] < len(train)).all()
        assert sorted(kept["most_similar_first"]) == list(range(6))
        train_loss, heldout_loss = kept["gap_losses"]
        assert kept["gap_bands"][:, 0] == pytest.approx(1 - train_loss / heldout_loss)
        assert 1 - train_loss.mean() / heldout_loss.mean() == pytest.approx(result.scores["gap"])


def test_scoring_without_references_is_refused_before_training(tmp_path):
    with pytest.raises(TrialInputError, match="extractor and references"):
        run_trial(world.settings(), world.data(), World(), world.Recorder(), workdir=tmp_path)


@pytest.mark.parametrize(("asked", "given"), [("auto", 500), (33, 33)])
def test_all_samples_are_drawn_at_once_where_they_fit(asked, given):
    settings = world.settings(samples=500, sample_batch=asked)
    assert samples_at_once(settings, world_model(settings, 8), world.images(), torch.device("cpu")) == given


def test_four_times_the_pixels_are_a_quarter_of_the_samples():
    settings = TrainSettings(
        {"_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [64, 128]}, rungs=(64,), samples=5000
    )
    small, large = (
        samples_at_once(
            settings,
            world_model(settings, size),
            ImageSet(np.zeros((4, size, size, 1), dtype=np.uint8), None, list("abcd")),
            torch.device("cpu"),
        )
        for size in (32, 64)
    )
    assert small == 4 * large < 5000 and small & (small - 1) == 0


def world_model(settings, resolution):
    return build_model(settings, {"channels": 1, "resolution": resolution, "num_classes": None}, 0.5).eval()
