"""Precision, recall, density and coverage against their definitions, torch-fidelity, and simulated sample sets."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from ambient_ray.evaluation import (
    EvaluationSettingsError,
    FeatureShapeError,
    Manifold,
    NonFiniteFeaturesError,
    TooFewImagesError,
    manifold_scores,
)
from ambient_ray.evaluation.fidelity import manifold, unions


def normal(seed, n, d=4, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (n, d))


def by_definition(samples, reference, k):
    """Precision, recall, density, coverage, image by image."""

    def distances(a, b):
        return np.array([[np.linalg.norm(x - y) for y in b] for x in a])

    def radii(points):
        return np.sort(distances(points, points), axis=1)[:, k]  # the first is itself

    across = distances(samples, reference)
    in_reference = across <= radii(reference)[None, :]
    in_samples = across <= radii(samples)[:, None]
    return (
        in_reference.any(axis=1).mean(),
        in_samples.any(axis=0).mean(),
        in_reference.sum() / (k * len(samples)),
        in_reference.any(axis=0).mean(),
    )


def values(scores):
    return [scores.precision.value, scores.recall.value, scores.density.value, scores.coverage.value]


@pytest.mark.parametrize(("k", "shift", "scale"), [(1, 0.0, 1.0), (5, 0.5, 0.7), (3, 2.0, 1.0), (5, 9.0, 1.0)])
def test_the_definitions(k, shift, scale):
    samples, reference = normal(0, 40, shift=shift, scale=scale), normal(1, 55)
    assert values(manifold_scores(samples, reference, k=k)) == pytest.approx(by_definition(samples, reference, k))


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_torch_fidelity_gives_the_same(shift):
    samples, reference = normal(2, 700, d=64, shift=shift), normal(3, 900, d=64)
    theirs = prc_features_to_metric(
        torch.from_numpy(samples), torch.from_numpy(reference), prc_neighborhood=5, prc_batch_size=500, verbose=False
    )
    ours = manifold_scores(samples, reference, k=5)
    assert ours.precision.value == pytest.approx(theirs["precision"], rel=1e-6)
    assert ours.recall.value == pytest.approx(theirs["recall"], rel=1e-6)


def test_blocks_change_nothing(monkeypatch):
    samples, reference = normal(0, 80), normal(1, 70, shift=0.4)
    whole = manifold_scores(samples, reference)
    monkeypatch.setattr(manifold, "_BLOCK_VALUES", 300)
    parts = manifold_scores(samples, reference)
    assert values(parts) == pytest.approx(values(whole))
    assert (parts.recall.low, parts.coverage.high) == pytest.approx((whole.recall.low, whole.coverage.high))


def test_a_reference_is_prepared_once():
    samples, reference = normal(0, 60), normal(1, 70)
    once = manifold_scores(samples, Manifold.of(reference))
    assert once == manifold_scores(Manifold.of(samples), reference)


def test_what_each_of_them_sees():
    """A copier has all, a model of one mode recalls and covers little, and one that is elsewhere has nothing."""
    reference = normal(0, 300)
    assert values(manifold_scores(reference, reference)) == pytest.approx(
        [1, 1, 6 / 5, 1]
    )  # each ball holds k and itself
    one_mode = reference[0] + normal(1, 300, scale=0.01)
    collapsed = manifold_scores(one_mode, reference)
    assert collapsed.precision.value > 0.9 and collapsed.recall.value < 0.1 and collapsed.coverage.value < 0.1
    far = manifold_scores(normal(2, 300, shift=50.0), reference)
    assert values(far) == [0, 0, 0, 0]
    assert far.coverage.low == 0 < far.coverage.high < 0.05


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_shares_of_unions_are_those_of_scoring_them_anew(monkeypatch, shift):
    samples, reference = normal(4, 40, d=2, shift=shift), normal(5, 35, d=2)
    found = []
    honest = unions._shares
    monkeypatch.setattr(unions, "_GROUPINGS", 1)
    monkeypatch.setattr(unions, "_shares", lambda *args: found.append(honest(*args)) or found[-1])
    manifold_scores(samples, reference, k=3)
    block = np.random.default_rng(0).permutation(np.arange(40) % 8)
    for union in range(0, len(unions._MEMBERS), 9):
        kept = samples[((unions._MEMBERS[union] >> block) & 1).astype(bool)]
        _, recall, _, coverage = by_definition(kept, reference, 3)
        assert (found[0][union], found[1][union]) == pytest.approx((coverage, recall), abs=1e-12)


@pytest.mark.parametrize("m", [7, 12, 30])
def test_tiny_sets_have_intervals_around_their_value(m):
    scores = manifold_scores(normal(0, m), normal(1, 9, shift=0.5))
    for estimate in (scores.recall, scores.coverage):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.timeout(900)  # on a busy machine
def test_intervals_cover_what_other_samples_give():
    """Of 1,000 sample sets against one reference, 93 to 97 % of the intervals hold the mean of all.

    20 s of processor time: the unions of blocks are scored for each of the sets."""
    reference = Manifold.of(normal(0, 250, d=6))
    rng = np.random.default_rng(1)
    found = [manifold_scores(rng.normal(0.6, 1.0, (200, 6)), reference) for _ in range(1000)]
    for name in ("precision", "recall", "density", "coverage"):
        estimates = [getattr(scores, name) for scores in found]
        truth = np.mean([e.value for e in estimates])
        held = np.mean([e.low <= truth <= e.high for e in estimates])
        assert 0.93 <= held <= 0.97, (name, held)


@pytest.mark.parametrize(
    ("samples", "reference", "k", "error"),
    [
        (normal(0, 6), normal(1, 50), 5, TooFewImagesError),
        (normal(0, 50), normal(1, 6), 5, TooFewImagesError),
        (normal(0, 50), normal(1, 50, d=3), 5, FeatureShapeError),
        (normal(0, 50), normal(1, 50) * np.nan, 5, NonFiniteFeaturesError),
        (normal(0, 50), normal(1, 50), 0, EvaluationSettingsError),
        (Manifold.of(normal(0, 50), k=3), normal(1, 50), 5, EvaluationSettingsError),
    ],
)
def test_bad_input_is_refused(samples, reference, k, error):
    with pytest.raises(error):
        manifold_scores(samples, reference, k=k)
