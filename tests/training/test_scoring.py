import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.evaluation import PixelExtractor, References
from ambient_ray.training import TrainingData, TrialInputError, World, run_trial


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


def test_scoring_without_references_is_refused_before_training(tmp_path):
    with pytest.raises(TrialInputError, match="extractor and references"):
        run_trial(world.settings(), world.data(), World(), world.Recorder(), workdir=tmp_path)
