"""Without held-out images: the samples' scores are the same, and the null is that of images never seen."""

import numpy as np
import pytest

from ambient_ray.data import ImageSet, load_images, split
from ambient_ray.evaluation import (
    EvaluationSettings,
    FeatureShapeError,
    PixelExtractor,
    References,
    TooFewImagesError,
    evaluate,
)
from ambient_ray.evaluation.crossfit import FOLDS, evaluate_copying, originals_alone
from ambient_ray.evaluation.near_duplicates import near_duplicates


def image_set(images: np.ndarray) -> ImageSet:
    return ImageSet(images, None, [str(k) for k in range(len(images))])


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)


def test_the_samples_score_as_they_do_beside_held_out_images() -> None:
    train, generated = noise(30), np.concatenate([noise(30)[:6], noise(20, 1)])
    settings = EvaluationSettings(tau=0.9, mirror=True, shift=1)
    alone = evaluate_copying(generated, PixelExtractor(), image_set(train), settings=settings)
    references = References.build(PixelExtractor(), image_set(train), image_set(noise(20, 2)), settings=settings)
    beside = evaluate(generated, PixelExtractor(), references)
    nulls = {name for name in alone.values if name.endswith("_heldout") or name.startswith("s_null")}
    assert {name: alone.values[name] for name in alone.values.keys() - nulls} == {
        name: beside.values[name] for name in alone.values.keys() - nulls
    }
    missing = beside.values.keys() - alone.values.keys()
    assert missing and all(
        name.startswith(("fd_", "mi_", "kid", "prec", "rec", "dens", "cover", "c_t")) for name in missing
    )


def test_the_null_is_each_fold_against_the_others_and_no_image_against_itself() -> None:
    images = noise(43)
    images[40] = images[3] ^ 2  # a near-duplicate in another fold, which is as like a copy as any
    null = originals_alone(EvaluationSettings(), images, PixelExtractor()).null
    flat = images.reshape(43, -1).astype(float)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    fold = np.arange(43) % FOLDS
    others = np.where(fold[:, None] == fold[None], np.inf, distance)
    two = np.sort(others, axis=1)[:, :2]
    np.testing.assert_array_equal(null.index, others.argmin(axis=1))
    np.testing.assert_allclose(null.ratio, two[:, 0] / two[:, 1], rtol=1e-12)
    assert set(np.flatnonzero(null.ratio < 1 / 3)) == {3, 40}
    unit = PixelExtractor()(images).astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = np.where(fold[:, None] == fold[None], -2, unit @ unit.T)
    np.testing.assert_allclose(null.similarity, cosine.max(axis=1), rtol=1e-6)


def test_the_null_of_authpct_is_that_of_an_image_which_was_left_out() -> None:
    images = noise(25)
    originals = originals_alone(EvaluationSettings(), images, PixelExtractor())
    features = PixelExtractor()(images).astype(float)
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    hits = []
    for i in range(25):
        rest = np.delete(np.arange(25), i)
        nearest = rest[distance[i, rest].argmin()]
        radius = min(distance[nearest, j] for j in rest if j != nearest)
        hits.append(distance[i, nearest] > radius)
    assert originals.scores(originals.null)["authentic"].value == pytest.approx(np.mean(hits))


def test_the_null_is_that_of_held_out_images() -> None:
    """On real images: as many were held out, and score within what chance allows (4 standard errors of both)."""
    digits = load_images("digits")
    parts = split(digits, 800, seed=0, heldout=800)
    alone = originals_alone(EvaluationSettings(), parts.train.images, PixelExtractor())
    beside = References.build(PixelExtractor(), parts.train, parts.heldout).originals
    cross, real = alone.scores(alone.null), beside.scores(beside.null)
    for name in ("f_mem", "f_mem_half", "partial", "authentic"):
        spread = 4 * (max(real[name].value, 0.01) * (1 - real[name].value) * 2 / 800) ** 0.5
        assert abs(cross[name].value - real[name].value) < spread, name
    assert 1 - alone.tau == pytest.approx(1 - beside.tau, rel=0.5)


def test_the_training_images_are_told_from_samples_of_another_shape_and_too_few() -> None:
    with pytest.raises(FeatureShapeError, match="like the training images"):
        evaluate_copying(noise(5)[:, :4], PixelExtractor(), image_set(noise(5)))
    with pytest.raises(TooFewImagesError, match="at least 3 training images, got 2"):
        evaluate_copying(noise(5), PixelExtractor(), image_set(noise(2)))


def test_near_duplicates_are_found_in_groups_and_mirrored() -> None:
    images = noise(20)
    images[[5, 6]] = images[4] ^ 1
    images[6, 0, 0] ^= 2
    images[9] = images[8, :, ::-1]
    found = near_duplicates(images)
    assert found.images == 3 and set(found.pairs.ravel().tolist()) == {4, 5, 6}
    assert np.all(np.diff(found.distance) >= 0) and np.all(found.pairs[:, 0] < found.pairs[:, 1])
    both = near_duplicates(images, mirror=True)
    assert set(both.pairs.ravel().tolist()) == {4, 5, 6, 8, 9} and both.distance[0] == 0
    assert near_duplicates(noise(20, 1)).images == 0 and near_duplicates(images[:2]).images == 0
