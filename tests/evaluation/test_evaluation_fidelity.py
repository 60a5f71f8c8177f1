"""Frechet and kernel distance against closed forms, scipy and torch-fidelity."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ambient_ray.errors import UserError
from ambient_ray.evaluation import GaussianStatistics, KernelStatistics, frechet_distance, kernel_distance


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(100 + seed % 2).normal(size=(d, d)) / np.sqrt(d)
    return generator.normal(size=(n, d)) @ mixing + shift


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(c1) + np.trace(c2) - 2 * np.trace(np.real(sqrtm(c1 @ c2))))


@pytest.mark.parametrize(("n", "m", "d"), [(500, 400, 30), (300, 300, 120), (1000, 65, 64)])
def test_equals_scipy_sqrtm(n, m, d):
    a, b = features(n, d, 0), features(m, d, 1, shift=0.3)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(20, 500), (500, 20), (20, 20), (20, 31)])
def test_fewer_images_than_features_equals_the_full_matrices(n, m):
    a, b = features(n, 100, 0), features(m, 100, 1)
    statistics = [GaussianStatistics.of(x) for x in (a, b)]
    assert [len(s.root) for s in statistics] == [
        min(n, 100),
        min(m, 100),
    ]  # no 100 x 100 matrix is built for 20 images
    product = np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)
    trace = np.sqrt(np.maximum(np.sort(np.linalg.eigvals(product).real)[-min(n, m) :], 0)).sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + sum(np.trace(s.covariance) for s in statistics) - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_closed_form_of_commuting_gaussians():
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(40, 40)))[0]
    s1, s2 = generator.uniform(0, 2, 40), generator.uniform(0, 2, 40)
    s1[:10] = 0  # a degenerate direction is still a Gaussian
    mean = generator.normal(size=40)
    a = GaussianStatistics.from_moments(np.zeros(40), basis @ np.diag(s1**2) @ basis.T)
    b = GaussianStatistics.from_moments(mean, basis @ np.diag(s2**2) @ basis.T)
    assert frechet_distance(a, b) == pytest.approx(mean @ mean + np.square(s1 - s2).sum(), rel=1e-6)


def test_is_zero_symmetric_and_blind_to_rotation():
    a, b = features(200, 16, 0), features(300, 16, 1)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))[0]
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(torch.tensor(a), GaussianStatistics.of(b)) == pytest.approx(frechet_distance(a, b))


def test_dead_and_constant_features_add_nothing():
    a, b = features(400, 12, 0), features(400, 12, 1)
    padding = np.zeros((400, 20))
    assert frechet_distance(np.hstack([a, padding]), np.hstack([b, padding + 0.5])) == pytest.approx(
        frechet_distance(a, b) + 20 * 0.25, rel=1e-6
    )


def test_both_distances_equal_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = (torch.tensor(features(400, 48, seed, shift=0.2 * seed)) for seed in (0, 1))
    statistics = [fid_features_to_statistics(x) for x in (a, b)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(fid, rel=1e-3)
    kid = kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=400, verbose=False)
    assert kernel_distance(a, b).value == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-3)


def test_kernel_distance_is_the_limit_of_torch_fidelitys_subsets():
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = (torch.tensor(features(300, 16, seed, shift=0.5 * seed)) for seed in (0, 1))
    kid = kid_features_to_metric(a, b, kid_subsets=2000, kid_subset_size=100, verbose=False)
    standard_error = kid["kernel_inception_distance_std"] / np.sqrt(2000)
    assert kernel_distance(a, b).value == pytest.approx(kid["kernel_inception_distance_mean"], abs=4 * standard_error)


def test_kernel_distance_equals_the_double_sum():
    a, b = features(7, 3, 0), features(5, 3, 1)
    kernel = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    across = np.mean([kernel(x, y) for x in a for y in b])
    estimate = kernel_distance(a, b)
    assert estimate.value == pytest.approx(sum(within) - 2 * across)
    assert estimate.low < estimate.value < estimate.high
    assert kernel_distance(a, KernelStatistics.of(b)) == estimate


def test_kernel_distance_variance_is_leave_one_out_less_the_pairs_own():
    a, b = features(9, 3, 0), features(8, 3, 1)
    estimate = kernel_distance(a, b)
    without_a = np.array([kernel_distance(np.delete(a, i, 0), b).value for i in range(9)])
    without_b = np.array([kernel_distance(a, np.delete(b, i, 0)).value for i in range(8)])
    jackknife, pairs_own = 8 * without_a.var() + 7 * without_b.var(), 0.0
    for x, y, weight in ((a, a, 2 / (9 * 8)), (b, b, 2 / (8 * 7)), (a, b, 4 / (9 * 8))):
        k = (x @ y.T / 3 + 1) ** 3
        pairs = ~np.eye(len(x), dtype=bool) if x is y else np.ones(k.shape, bool)
        k = np.where(pairs, k, 0)
        rows, columns = k.sum(1) / pairs.sum(1), k.sum(0) / pairs.sum(0)
        rest = k - rows[:, None] - columns[None] + k.sum() / pairs.sum()
        pairs_own += weight * np.square(rest[pairs]).mean()
    variance = max(jackknife - pairs_own, np.cbrt((jackknife / 2) ** 2 * pairs_own))
    assert estimate.high - estimate.value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("offset", [0.0, 5.0])  # 5: one direction rules the kernel, the hard case for the null
def test_kernel_distance_intervals_hold_the_truth(offset, shift):
    generator = np.random.default_rng(0)

    def draw(n: int, shift: float) -> np.ndarray:
        return generator.normal(size=(n, 4)) + offset + shift

    found = [kernel_distance(draw(150, 0), draw(200, shift)) for _ in range(1000)]
    truth = 0.0 if shift == 0 else np.mean([kernel_distance(draw(3000, 0), draw(3000, shift)).value for _ in range(8)])
    held = np.mean([e.low <= truth <= e.high for e in found])
    assert 0.93 <= held <= 0.97


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros(5), np.zeros((5, 2)), "expected features"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "same extractor"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "at least"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "NaN"),
    ],
)
@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_refuses_what_has_no_distance(distance, a, b, words):
    with pytest.raises(UserError, match=words):
        distance(a, b)


def test_refuses_moments_that_no_data_have():
    with pytest.raises(UserError, match="positive semi-definite"):
        GaussianStatistics.from_moments(np.zeros(2), np.diag([1.0, -1.0]))
    with pytest.raises(UserError, match="symmetric"):
        GaussianStatistics.from_moments(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
