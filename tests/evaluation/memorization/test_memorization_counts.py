"""Intervals of the number of copied training images, of C_T, and the small scores."""

import numpy as np
import pytest

from ambient_ray.errors import UserError
from ambient_ray.evaluation import (
    Estimate,
    average_memorization,
    covered_training_set,
    data_copying,
    mean_distance,
    memorization_informed,
    reproducibility,
    unique_memorization,
    usual_distance,
)


def zipf(n):
    return (1 / np.arange(1, n + 1)) / (1 / np.arange(1, n + 1)).sum()


@pytest.mark.parametrize(
    "chances",
    [np.full(200, 0.3 / 200), 0.3 * zipf(200), np.r_[np.full(5, 0.05), np.full(195, 0.05 / 195)]],
    ids=["uniform", "zipf", "few often"],
)
def test_coverage_intervals_hold_the_expectation(chances):
    # 1,000 sets at 2 ms each: a maximum likelihood fit a set.
    n, n_train, generator = 500, len(chances), np.random.default_rng(0)
    expected = (1 - (1 - chances) ** n).sum() / n_train
    held = 0
    for copies in generator.multinomial(n, np.append(chances, 1 - chances.sum()), size=1000):
        index = np.repeat(np.arange(n_train + 1), copies)
        estimate = covered_training_set(np.minimum(index, n_train - 1), index < n_train, n_train)
        held += estimate.low <= expected <= estimate.high
    assert 930 <= held <= 970


def test_nothing_copied_leaves_room_for_four_images():
    estimate = covered_training_set(np.arange(100), np.zeros(100, bool), 200)
    assert estimate.low == estimate.value == 0
    assert estimate.high == pytest.approx(3.84 / 200, abs=1e-4)


def test_scores_count_samples_and_images():
    index, memorized = np.array([3, 3, 3, 5, 6]), np.array([1, 1, 1, 1, 0], bool)
    assert average_memorization(memorized).value == 0.8
    assert unique_memorization(index, memorized, 10).value == 0.4
    assert covered_training_set(index, memorized, 10).value == 0.2


def test_an_index_outside_the_training_set_is_refused():
    with pytest.raises(UserError, match="do not exist among 5"):
        covered_training_set(np.array([5]), np.array([True]), 5)


@pytest.mark.parametrize("copied", [0.0, 0.1, 0.4])
def test_c_t_intervals_hold_its_mean(copied):
    """Of honest samples that is 0, and of copiers below; distances are coarse, so that some are equal."""
    generator, held, values = np.random.default_rng(0), [], []
    for _ in range(1000):
        near = np.where(generator.random(240) < copied, 0, generator.poisson(6, 240)).astype(float)
        far = generator.poisson(6, 200).astype(float)
        held.append(data_copying(near, np.arange(240) % 3, far, np.arange(200) % 3))
        values.append(held[-1].value)
    truth = 0.0 if copied == 0 else float(np.mean(values))
    assert 930 <= sum(e.low <= truth <= e.high for e in held) <= 970
    assert abs(np.mean(values)) < 0.1 or (copied > 0 and np.mean(values) < -0.5)


def test_c_t_looks_cell_by_cell_and_where_no_cell_has_enough_at_all_of_them():
    """Copies in one cell, underfitting in another: both show, each by itself."""
    near, far = np.r_[np.full(50, 0.1), np.full(50, 9.0)], np.r_[np.full(50, 1.0), np.full(50, 1.0)]
    cells = np.repeat([0, 1], 50)
    one, other = (data_copying(near[cells == c], cells[cells == c], far[cells == c], cells[cells == c]) for c in (0, 1))
    assert one.value < -5 and other.value > 5
    assert data_copying(near, cells, far, cells).value == pytest.approx((one.value + other.value) / 2)
    few = data_copying(near[:15], np.arange(15), far[:15], np.arange(15))
    assert few.n == 15 and few.high < 0


def test_reproducibility_counts_equal_rows():
    a = np.random.default_rng(0).normal(size=(100, 64))
    b = np.where(np.arange(100)[:, None] < 30, 2 * a, -a)
    assert reproducibility(a, b).value == 0.3
    with pytest.raises(UserError, match="are no pairs"):
        reproducibility(a, b[:50])


def test_mifid_punishes_copies_and_leaves_honest_samples_alone():
    null, distance = np.random.default_rng(0).uniform(0.5, 0.8, 500), Estimate(7.0, 6.0, 8.0, 500)
    tau = usual_distance(null, 500)
    assert memorization_informed(distance, null, tau) == distance
    assert memorization_informed(distance, np.ones(500), tau).value == pytest.approx(7e6)
    assert mean_distance(np.array([1.0, -0.5])) == 0.25
    with pytest.raises(UserError, match=r"threshold must lie in \(0, 1\]"):
        memorization_informed(distance, null, 2.0)
