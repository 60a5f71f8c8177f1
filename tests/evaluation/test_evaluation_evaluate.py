"""The whole pass on digits: what copies, real images and noise must score, and which scores compare."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from ambient_ray.data import load_images, split
from ambient_ray.errors import UserError
from ambient_ray.evaluation import (
    EvaluationSettings,
    FeatureShapeError,
    NonFiniteFeaturesError,
    PixelExtractor,
    References,
    build_extractor,
    check_comparable,
    comparable,
    evaluate,
    fidelity_key,
    frechet_distance,
)


@pytest.fixture(scope="module")
def full():
    return load_images("digits")


@pytest.fixture(scope="module")
def digits(full):
    return split(full, 300, seed=0)


@pytest.fixture(scope="module")
def extractor(full, tmp_path_factory):
    return build_extractor("classifier", image_set=full, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def references(extractor, full, digits):
    return References.build(extractor, digits.train, digits.heldout, full=full)


def test_copies_of_the_subset_score_as_copies(extractor, references, digits):
    scores = evaluate(digits.train.images, extractor, references)
    for key in ("f_mem", "f_mem_half", "f_mem_quarter", "s_tau", "s_tau_850", "s_tau_875", "s_tau_900"):
        assert scores.values[key] == 1
        assert scores.values[f"{key}_low"] > 0.98
    assert scores.values["fd_classifier_train"] == pytest.approx(0, abs=1e-6)
    assert scores.values["fd_classifier"] == scores.values["fd_classifier_heldout"] > 0
    assert scores.values["kid"] < 0  # a stratified split: closer than two independent draws, whose mean is 0
    assert np.array_equal(scores.nearest.index, np.arange(300))
    assert (scores.nearest.ratio == 0).all()


def test_heldout_images_score_as_the_null(extractor, references, digits):
    values = evaluate(digits.heldout.images, extractor, references).values
    assert values["f_mem"] == values["f_mem_heldout"] < 0.01
    assert values["s_tau"] == values["s_null"] <= 0.001
    assert values["s_tau_850"] == values["s_null_850"]
    assert values["fd_classifier"] == pytest.approx(0, abs=1e-6)
    assert values["kid"] < 0  # the very same images are nearer to each other than two draws of one distribution


def test_noise_has_perfect_memorization_and_no_fidelity(extractor, references, digits):
    noise = np.random.default_rng(0).integers(0, 256, size=(300, 8, 8, 1), dtype=np.uint8)
    values = evaluate(noise, extractor, references).values
    copies = evaluate(digits.train.images, extractor, references).values
    assert values["f_mem"] == 0
    assert values["fd_classifier"] > 50 * copies["fd_classifier"]
    assert values["kid_low"] > copies["kid_high"]


@pytest.mark.parametrize("damage", ["noise", "mixed", "blurred"])
def test_the_classifiers_distance_sees_damaged_images(extractor, references, digits, damage):
    real = digits.heldout.images[:300].astype(float)
    damaged = {
        "noise": real + 32 * np.random.default_rng(0).normal(size=real.shape),
        "mixed": 0.6 * real + 0.4 * real[::-1],
        "blurred": (real + np.roll(real, 1, 1) + np.roll(real, 1, 2) + np.roll(real, (1, 1), (1, 2))) / 4,
    }[damage]
    values = evaluate(np.clip(damaged, 0, 255).astype(np.uint8), extractor, references).values
    floor = evaluate(digits.heldout.images[:300], extractor, references).values
    assert values["fd_classifier"] > 1.5 * floor["fd_classifier"]
    assert values["kid"] > floor["kid_high"]


def test_every_share_and_kid_has_its_interval_and_null(extractor, references, digits):
    scores = evaluate(digits.heldout.images[:50], extractor, references)
    values = scores.values
    assert all(isinstance(value, float) and np.isfinite(value) for value in values.values())
    for key in (
        "kid",
        "f_mem",
        "f_mem_half",
        "f_mem_quarter",
        "s_tau",
        "s_tau_850",
        "s_tau_875",
        "s_tau_900",
    ):
        assert values[f"{key}_low"] <= values[key] <= values[f"{key}_high"]
    assert {"fd_classifier_heldout", "fd_classifier_train", "fd_classifier_full"} <= values.keys()
    assert {"f_mem_heldout", "f_mem_half_heldout", "s_null", "s_null_850", "tau"} <= values.keys()
    samples = extractor(digits.heldout.images[:50])
    assert values["fd_classifier"] == pytest.approx(frechet_distance(samples, extractor(digits.heldout.images)))


def test_the_gallery_shows_copies_first(extractor, references, digits):
    samples = np.concatenate([digits.heldout.images[:20], digits.train.images[7:9]])
    nearest = evaluate(samples, extractor, references).nearest
    first = nearest.most_similar_first()
    assert set(first[:2]) == {20, 21}
    assert nearest.index[20:].tolist() == [7, 8]
    assert nearest.similar_index[20:].tolist() == [7, 8]
    assert (np.diff(nearest.ratio[first]) >= 0).all()


def test_mirrored_copies_count_where_training_flips(extractor, digits):
    flips = References.build(extractor, digits.train, digits.heldout, settings=EvaluationSettings(mirror=True))
    plain = References.build(extractor, digits.train, digits.heldout)
    flipped = np.ascontiguousarray(digits.train.images[:, :, ::-1])
    with_mirrors, without = (evaluate(flipped, extractor, r) for r in (flips, plain))
    assert with_mirrors.values["f_mem"] == 1
    assert without.values["f_mem"] < 0.2
    assert comparable(with_mirrors.facts, without.facts) == ("mirror", "mirror_features")


def test_scores_are_comparable_or_the_reason_is_named(extractor, references, full, digits):
    samples = digits.heldout.images[:60]
    scores = evaluate(samples, extractor, references, seeds={"latent_seed": 0})
    assert (
        comparable(scores.facts, evaluate(samples[::-1], extractor, references, seeds={"latent_seed": 0}).facts) is None
    )
    assert comparable(scores.facts, evaluate(samples, extractor, references, seeds={"latent_seed": 1}).facts) == (
        "latent_seed",
    )
    assert comparable(scores.facts, evaluate(samples[:50], extractor, references, seeds={"latent_seed": 0}).facts) == (
        "n",
    )
    to_full = References.build(
        extractor,
        digits.train,
        digits.heldout,
        full=full,
        settings=EvaluationSettings(reference="full", tau=0.9),
    )
    other = evaluate(samples, extractor, to_full, seeds={"latent_seed": 0})
    assert comparable(scores.facts, other.facts) == ("n_reference", "reference", "reference_hash", "tau_rule")
    assert other.values["tau"] == 0.9
    assert other.values["fd_classifier"] == pytest.approx(scores.values["fd_classifier_full"])
    pixels = References.build(PixelExtractor(), digits.train, digits.heldout)
    assert comparable(scores.facts, evaluate(samples, PixelExtractor(), pixels, seeds={"latent_seed": 0}).facts) == (
        "extractor",
        "weight_hash",
    )
    assert fidelity_key("inception") == "fid"
    fewer = evaluate(samples[:50], PixelExtractor(), pixels, seeds={"latent_seed": 0})
    message = (
        r"do not compare: extractor is classifier and pixels, n is 60 and 50, weight_hash is \w+ and \w+; score both"
    )
    with pytest.raises(UserError, match=message):
        check_comparable(scores.facts, fewer.facts)
    check_comparable(scores.facts, scores.facts)


def test_references_travel_and_serve_read_only(extractor, references, digits):
    travelled = pickle.loads(pickle.dumps(references, protocol=5))
    for array in (travelled.originals.images, travelled.originals.features, travelled.kernel.features):
        array.flags.writeable = False
    samples = digits.heldout.images[:40]
    assert evaluate(samples, extractor, travelled).values == evaluate(samples, extractor, references).values


def test_bad_input_is_one_clear_sentence(extractor, references, digits):
    samples = digits.heldout.images[:10]
    with pytest.raises(UserError, match="like the training images"):
        evaluate(samples[:, :4], extractor, references)
    with pytest.raises(UserError, match="at least 3 samples"):
        evaluate(samples[:2], extractor, references)
    with pytest.raises(UserError, match="built with classifier"):
        evaluate(samples, PixelExtractor(), references)
    with pytest.raises(UserError, match=r"other settings \(k\)"):
        evaluate(samples, extractor, references, settings=replace(references.settings, k=0.5))
    with pytest.raises(UserError, match="full image set"):
        References.build(extractor, digits.train, digits.heldout, settings=EvaluationSettings(reference="full"))
    with pytest.raises(UserError, match="heldout set"):
        References.build(extractor, digits.train, digits.heldout.subset([0]))
    for wrong in ({"reference": "test"}, {"k": 0}, {"tau": 1.0}, {"null_quantile": 1}):
        with pytest.raises(UserError, match=f"evaluation.{next(iter(wrong))}"):
            EvaluationSettings(**wrong)


def test_narrowed_references_are_those_of_the_part_itself(extractor, digits):
    """What a trial on 60 images is scored against: copies of those alone, the same held-out images."""
    rows = np.arange(0, 120, 2)
    part = digits.train.subset(rows)
    for reference in ("heldout", "train"):
        settings = EvaluationSettings(reference=reference, shift=1)
        whole = References.build(extractor, digits.train, digits.heldout, settings=settings, narrow=True)
        narrowed = whole.narrowed(rows, part, digits.heldout)
        built = References.build(extractor, part, digits.heldout, settings=settings)
        samples = np.concatenate([digits.heldout.images[:20], digits.train.images[:20]])
        ours, expected = evaluate(samples, extractor, narrowed), evaluate(samples, extractor, built)
        assert ours.values == pytest.approx(dict(expected.values), rel=1e-6, abs=1e-9)
        assert comparable(ours.facts, expected.facts) is None
        assert ours.facts["shift"] == 1
    assert evaluate(samples, extractor, whole).values["f_mem"] > ours.values["f_mem"]
    with pytest.raises(UserError, match="narrow=True"):
        built.narrowed(rows, part, digits.heldout)


def test_any_other_set_may_be_the_reference(extractor, full, digits):
    other = full.subset(range(0, 900, 2))
    settings = EvaluationSettings(reference="other")
    references = References.build(extractor, digits.train, digits.heldout, other=other, settings=settings)
    scores = evaluate(digits.heldout.images[:50], extractor, references)
    assert scores.values["fd_classifier"] == scores.values["fd_classifier_other"]
    samples = extractor(digits.heldout.images[:50])
    assert scores.values["fd_classifier"] == pytest.approx(frechet_distance(samples, extractor(other.images)))
    assert scores.facts["reference_hash"] == other.content_hash
    with pytest.raises(UserError, match="needs another set of images"):
        References.build(extractor, digits.train, digits.heldout, settings=settings)


def test_the_distances_carry_their_intervals_limit_and_standard_error(extractor, references, digits):
    values = evaluate(digits.heldout.images[:200], extractor, references).values
    assert values["fd_classifier_low"] < values["fd_classifier"] < values["fd_classifier_high"]
    assert values["fd_classifier_inf_low"] < values["fd_classifier_inf"] < values["fd_classifier_inf_high"]
    assert values["fd_classifier_inf"] < values["fd_classifier"]  # the bias of 200 samples is gone
    assert values["kid_high"] - values["kid"] == pytest.approx(1.959964 * values["kid_se"], rel=1e-5)
    few = evaluate(digits.heldout.images[:19], extractor, references).values
    assert "fd_classifier_inf" not in few and "fd_classifier_low" in few


def test_fewer_samples_than_features_are_said(references):
    assert references.caution(128) is None
    assert references.caution(127).startswith("127 samples are fewer than the 128 values of classifier's features")


ORIGINALS = ("f_mem", "s_tau", "partial", "authentic", "ums", "train_coverage", "ums_tau", "train_coverage_tau")


def test_every_score_of_copying_has_its_interval_and_the_same_of_heldout_images(extractor, references, digits):
    samples = np.concatenate([digits.heldout.images[:150], digits.train.images[:50]])
    values = evaluate(samples, extractor, references).values
    for key in (*ORIGINALS, "c_t", "mi_fd_classifier"):
        assert values[f"{key}_low"] <= values[key] <= values[f"{key}_high"]
    nulls = {key: "s_null" if key == "s_tau" else f"{key}_heldout" for key in (*ORIGINALS, "c_t")}
    assert {*nulls.values()} <= values.keys()
    for key in ("f_mem", "s_tau", "partial"):  # a quarter of the samples are copies
        assert 0.25 <= values[key] < 0.27 and values[nulls[key]] < 0.01
    assert values["ums"] == pytest.approx(0.25, abs=0.01) and values["train_coverage"] == pytest.approx(1 / 6, abs=0.01)
    assert values["authentic"] < values["authentic_heldout"] - 0.05
    assert values["c_t_high"] < 0 and abs(values["c_t_heldout"]) < 1.96
    assert values["mi_fd_classifier"] > 2 * values["fd_classifier"]


def test_copies_are_neither_authentic_nor_distant(extractor, references, digits):
    values = evaluate(digits.train.images, extractor, references).values
    assert values["authentic"] == 0 and values["partial"] == 1
    assert values["train_coverage"] == values["ums"] == 1
    assert values["c_t_high"] < -5


def test_the_one_number_is_the_distance_where_nothing_is_copied(extractor, references, digits):
    values = evaluate(digits.heldout.images[::3], extractor, references).values
    assert values["mi_fd_classifier"] == values["fd_classifier"]


def test_mirrored_copies_are_seen_by_all_scores_where_training_flips(extractor, digits):
    flips = References.build(extractor, digits.train, digits.heldout, settings=EvaluationSettings(mirror=True))
    values = evaluate(np.ascontiguousarray(digits.train.images[:, :, ::-1]), extractor, flips).values
    assert values["s_tau"] == values["partial"] == values["train_coverage"] == 1


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_features_that_are_there_already_give_the_same_scores_whatever_parts_they_were_computed_in(
    extractor, references, digits, parts
):
    samples = digits.heldout.images[:100]
    features = np.concatenate([extractor(part) for part in np.array_split(samples, parts)])
    given, computed = (evaluate(samples, extractor, references, features=given) for given in (features, None))
    assert given.facts == computed.facts
    assert given.values == pytest.approx(computed.values, rel=1e-4, abs=1e-6)


def test_given_features_that_are_not_the_samples_own_are_refused(extractor, references, digits):
    samples = digits.heldout.images[:100]
    features = extractor(samples)
    for wrong in (features[:99], features[:, 1:], features.astype(np.float64)):
        with pytest.raises(FeatureShapeError, match="The features of 100 samples must be float32"):
            evaluate(samples, extractor, references, features=wrong)
    features[7, 3] = np.nan
    with pytest.raises(NonFiniteFeaturesError, match="given features: image 7 has NaN"):
        evaluate(samples, extractor, references, features=features)
