"""Shares compared: intervals hold the truth, tests err as rarely as they say, alone and in families."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.evaluation import (
    EvaluationSettingsError,
    FeatureShapeError,
    TooFewImagesError,
    compare_many,
    compare_shares,
    holm,
)

PS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def hits(rng, n, shares, correlation):
    """Bool [len(shares), n]: each model copies its share, its decisions tied to one hidden latent of each sample."""
    latent, own = rng.normal(size=n), rng.normal(size=(len(shares), n))
    values = np.sqrt(correlation) * latent + np.sqrt(1 - correlation) * own
    return values < np.array([NormalDist().inv_cdf(share) for share in shares])[:, None]


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, made monotone: .04 .06 .06 .06.
    np.testing.assert_allclose(holm([0.02, 0.04, 0.01, 0.03]), [0.06, 0.06, 0.04, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    np.testing.assert_allclose(holm([0.3]), [0.3])
    assert holm([]).shape == (0,)


@given(PS)
def test_holm_rejects_what_stepping_down_does(values):
    """The procedure as Holm wrote it: smallest first, against alpha / (m - i), until one is not rejected."""
    adjusted, alpha = holm(values), 0.05
    expected, going = np.zeros(len(values), dtype=bool), True
    for i, place in enumerate(np.argsort(values, kind="stable")):
        going = going and values[place] * (len(values) - i) <= alpha
        expected[place] = going
    assert np.array_equal(adjusted <= alpha, expected)


@given(PS)
def test_holm_is_never_below_the_raw_values_nor_above_bonferroni_and_keeps_their_order(values):
    raw, adjusted = np.array(values), holm(values)
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(raw * len(raw), 1)).all()
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_holm_errs_in_5_percent_of_families_and_uncorrected_tests_in_more(correlation):
    from scipy.stats import norm

    rng, families = np.random.default_rng(0), 4000
    shared, own = rng.normal(size=(families, 1)), rng.normal(size=(families, 6))
    p = 2 * norm.sf(np.abs(np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own))
    wrong = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert wrong < 0.05 + 3 * (0.05 * 0.95 / families) ** 0.5
    assert (p <= 0.05).any(axis=1).mean() > 1.5 * wrong


@pytest.mark.parametrize(("correlation", "paired"), [(0.0, True), (0.5, True), (0.9, True), (0.0, False)])
@pytest.mark.parametrize("shares", [(0.02, 0.05), (0.05, 0.1), (0.2, 0.2), (0.4, 0.3)])
def test_95_percent_intervals_hold_the_difference(shares, correlation, paired):
    rng, covered = np.random.default_rng(1), 0
    truth = shares[1] - shares[0]
    for _ in range(1000):
        found = compare_shares(*hits(rng, 1000, shares, correlation), paired=paired).difference
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 970


def test_pairs_say_more_than_the_same_samples_unpaired():
    a, b = hits(np.random.default_rng(2), 500, (0.2, 0.25), 0.95)
    paired, unpaired = (compare_shares(a, b, paired=one) for one in (True, False))
    assert paired.difference.value == unpaired.difference.value == b.mean() - a.mean()
    assert paired.difference.high - paired.difference.low < 0.6 * (unpaired.difference.high - unpaired.difference.low)
    assert paired.p < unpaired.p / 10


def test_mcnemar_and_fisher_by_hand():
    # Of 6 pairs that differ one goes the other way: p = 2 (1 + 6) / 2^6.
    a, b = np.zeros(20, dtype=bool), np.zeros(20, dtype=bool)
    a[:1], b[1:6] = True, True
    assert compare_shares(a, b).p == pytest.approx(2 * 7 / 64)
    # Fisher's tea: 3 of 4 against 1 of 4; tables at most as likely have 2 (16 + 1) of 70.
    tea = np.array([True, True, True, False])
    assert compare_shares(~tea, tea, paired=False).p == pytest.approx(34 / 70)


def test_the_unpaired_interval_equals_newcombes_example():
    """56 of 70 against 48 of 80: .0524 to .3339 (Newcombe 1998, method 10)."""
    found = compare_shares(np.arange(80) < 48, np.arange(70) < 56, paired=False).difference
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_models_that_never_copy_do_not_differ_but_might():
    none = np.zeros(500, dtype=bool)
    found = compare_shares(none, none)
    assert found.p == 1 and found.difference.value == 0
    assert found.difference.low < -0.005 and found.difference.high > 0.005
    assert compare_shares(none, ~none).difference.high == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.booleans())
def test_exchanging_the_models_turns_the_sign_alone(pairs, paired):
    a, b = np.array(pairs, dtype=bool).T
    one, other = compare_shares(a, b, paired=paired), compare_shares(b, a, paired=paired)
    assert one.p == pytest.approx(other.p)
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert -1 <= one.difference.low <= one.difference.value <= one.difference.high <= 1


def test_five_comparisons_without_a_difference_err_in_5_percent_of_families_at_most():
    rng, families, wrong, missed = np.random.default_rng(3), 400, 0, 0
    for _ in range(families):
        reference, *others = hits(rng, 500, (0.1,) * 6, 0.5)
        found = compare_many(reference, dict(zip("abcde", others, strict=True))).values()
        wrong += any(comparison.p <= 0.05 for comparison in found)
        missed += any(not one.difference.low <= 0 <= one.difference.high for one in found)
    assert wrong <= 0.05 * families
    assert missed <= 0.05 * families + 3 * (0.05 * 0.95 * families) ** 0.5  # 5 %, within what so many can tell


def test_the_one_that_differs_among_many_is_found():
    reference, same, less, other = hits(np.random.default_rng(4), 1000, (0.2, 0.2, 0.1, 0.2), 0.5)
    found = compare_many(reference, {"same": same, "less": less, "other": other})
    assert [name for name, comparison in found.items() if comparison.p <= 0.05] == ["less"]
    alone = compare_shares(reference, less)
    assert found["less"].p == pytest.approx(3 * alone.p)
    assert found["less"].difference.low < alone.difference.low < alone.difference.high < found["less"].difference.high
    assert found["less"].difference.high < 0


def test_what_cannot_be_compared_is_said():
    some = np.zeros(5, dtype=bool)
    with pytest.raises(FeatureShapeError, match=r"5 and 4 samples are no pairs; pass as many of both"):
        compare_shares(some, some[:4])
    with pytest.raises(EvaluationSettingsError, match="Hits must be bool, whether each sample is a copy, got float64"):
        compare_shares(some, np.zeros(5))
    with pytest.raises(FeatureShapeError, match=r"Hits must be one a sample, \[N\], got shape \(1, 5\)"):
        compare_shares(some, some[None])
    with pytest.raises(TooFewImagesError, match="at least one image"):
        compare_shares(some[:0], some[:0])
    with pytest.raises(EvaluationSettingsError, match="nothing to compare with the reference"):
        compare_many(some, {})
    with pytest.raises(EvaluationSettingsError, match=r"confidence=1\.5 must lie between 0 and 1"):
        compare_shares(some, some, confidence=1.5)
    with pytest.raises(EvaluationSettingsError, match="p values between 0 and 1"):
        holm([0.1, float("nan")])
