"""Reproducibility of every two models of a study, from the samples in their checkpoints."""

import numpy as np
import pytest

from ambient_ray.tracking.drawing.reproduced import reproducibility_figure, reproducibility_of_pairs


def checkpoint(folder, features):
    folder.mkdir()
    samples = np.zeros((len(features), 4, 4, 1), dtype=np.uint8)
    np.savez(folder / "samples.npz", samples=samples, features=features.astype(np.float16))
    return folder


def test_two_models_agree_where_their_samples_of_one_latent_are_alike(tmp_path):
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(2, 200, 30))
    half = np.where(np.arange(200)[:, None] < 100, first, other)
    folders = {name: checkpoint(tmp_path / name, f) for name, f in {"a": first, "b": half, "c": other}.items()}
    pairs = reproducibility_of_pairs(folders)
    assert {pair: found.rp.value for pair, found in pairs.items()} == pytest.approx(
        {("a", "b"): 0.5, ("a", "c"): 0.0, ("b", "c"): 0.5}, abs=0.01
    )
    rp, null = pairs["a", "b"]
    assert rp.low < 0.5 < rp.high and rp.n == 200 and null.value == 0
    assert reproducibility_figure(pairs, tmp_path / "matrix.png").stat().st_size > 5000


def test_models_without_features_or_of_other_numbers_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    folders = {name: checkpoint(tmp_path / name, rng.normal(size=(n, 8))) for name, n in {"a": 20, "b": 30}.items()}
    old = tmp_path / "old"
    old.mkdir()
    np.savez(old / "samples.npz", samples=np.zeros((20, 4, 4, 1), dtype=np.uint8))
    assert reproducibility_of_pairs({**folders, "old": old, "none": tmp_path}) == {}
