"""How close generated images are to real ones in a feature space: Frechet and kernel distance."""

from dataclasses import dataclass

import numpy as np

from .arrays import Array, Floats, as_array, as_features, same_width
from .errors import FeatureShapeError, NonFiniteFeaturesError
from .estimate import Z_95, Estimate

_BLOCK_VALUES = 1 << 22  # kernel values held at once: 32 MiB of float64


@dataclass(frozen=True)
class GaussianStatistics:
    """Mean and covariance of a feature set, computed once for a reference that many sets are compared with.

    mean: float64 [d]. root: float64 [r, d] with covariance = root.T @ root: the triangular Cholesky factor
    (r = d), or for N < d the centred features themselves over sqrt(N - 1) (r = N), which is all that the
    Frechet distance needs and never builds a d x d matrix. n: images behind it (0: moments given from
    outside).
    """

    mean: Floats
    root: Floats
    n: int = 0

    @classmethod
    def of(cls, features: Array, name: str = "features") -> "GaussianStatistics":
        """Statistics of features [N, d], N >= 2, in float64, the covariance divided by N - 1."""
        matrix = as_features(features, name, at_least=2).astype(np.float64)
        mean = matrix.mean(axis=0)
        centred = (matrix - mean) / np.sqrt(len(matrix) - 1)
        root = centred if len(matrix) < matrix.shape[1] else _root(centred.T @ centred)
        return cls(mean, root, len(matrix))

    @classmethod
    def from_moments(cls, mean: Array, covariance: Array, n: int = 0) -> "GaussianStatistics":
        """Statistics from known moments: mean [d], symmetric positive semi-definite covariance [d, d]."""
        mu, cov = (np.asarray(as_array(value), dtype=np.float64) for value in (mean, covariance))
        if mu.ndim != 1 or cov.shape != (len(mu), len(mu)):
            raise FeatureShapeError(f"Moments need shapes [d] and [d, d], got {mu.shape} and {cov.shape}.")
        if not (np.isfinite(mu).all() and np.isfinite(cov).all()):
            raise NonFiniteFeaturesError("The moments hold NaN or infinite values.")
        if float(np.abs(cov - cov.T).max(initial=0.0)) > 1e-6 * float(np.abs(cov).max(initial=0.0)):
            raise FeatureShapeError("The covariance is not symmetric.")
        return cls(mu, _root((cov + cov.T) / 2), n)

    @property
    def covariance(self) -> Floats:
        """The covariance matrix [d, d]."""
        return np.asarray(self.root.T @ self.root)


def frechet_distance(a: Array | GaussianStatistics, b: Array | GaussianStatistics) -> float:
    """Frechet distance |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of features [N, d] or their statistics.

    Dowson and Landau 1982; Heusel et al. 2017, eq. 6. Float64 throughout, any device's tensors; >= 0. Call
    it FID only with the original Inception-v3 features. It is biased upwards at small N, by an amount that
    depends on N: compare equal N only. It carries no interval: resampling images with replacement adds the
    same bias once more, so a bootstrap interval does not contain the value itself; `kernel_distance` is
    unbiased and has one.

    With C = R^T R the singular values of R1 R2^T are the square roots of the eigenvalues of C1 C2. For N <
    d the product has N rows, so no d x d matrix is ever decomposed. They come from a symmetric `eigvalsh`
    of the product's smaller Gram matrix, or, where squaring would cost digits (nearly singular
    covariances), from an SVD of the product itself. Raises FeatureShapeError, NonFiniteFeaturesError,
    TooFewImagesError (N < 2).
    """
    first = a if isinstance(a, GaussianStatistics) else GaussianStatistics.of(a, "first features")
    second = b if isinstance(b, GaussianStatistics) else GaussianStatistics.of(b, "second features")
    if len(first.mean) != len(second.mean):
        raise FeatureShapeError(
            f"The two sets have {len(first.mean)} and {len(second.mean)} features an image; "
            "both need the same extractor."
        )
    gap = first.mean - second.mean
    spread = float(np.square(first.root).sum() + np.square(second.root).sum())
    distance = float(gap @ gap) + spread - 2 * _nuclear_norm(first.root @ second.root.T, spread)
    return max(distance, 0.0)  # rounding of an exact zero


def _nuclear_norm(product: Floats, scale: float) -> float:
    """Sum of the singular values of `product` [r1, r2]; `scale`: what its error is measured by."""
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
    eigenvalues = np.linalg.eigvalsh(gram)
    # eigvalsh is exact to about eps * largest eigenvalue, which the square root magnifies for the small ones.
    noise = 4 * np.finfo(np.float64).eps * max(float(eigenvalues[-1]), np.finfo(np.float64).tiny)
    if float((noise / np.sqrt(np.maximum(eigenvalues, noise))).sum()) <= 1e-7 * scale:
        return float(np.sqrt(np.maximum(eigenvalues, 0)).sum())
    return float(np.linalg.svd(product, compute_uv=False).sum())


def _root(covariance: Floats) -> Floats:
    """R [d, d] with R.T @ R = covariance: Cholesky, or, if singular, the eigenvectors above rounding."""
    try:
        return np.asarray(np.linalg.cholesky(covariance).T)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        floor = max(float(np.abs(values).max()), 0.0) * len(values) * np.finfo(np.float64).eps
        if values[0] < -1e4 * floor:
            raise FeatureShapeError("The covariance is not positive semi-definite.") from None
        return np.asarray(np.sqrt(np.where(values > floor, values, 0.0))[:, None] * vectors.T)


@dataclass(frozen=True)
class KernelStatistics:
    """A reference's features and their own kernel sums: the part of KID that other sets do not change.

    features: float64 [N, d]; row_sums: float64 [N], the sum of k(x_i, x_j) over j != i; square_sum: the sum
    of k(x_i, x_j)^2 over all i != j.
    """

    features: Floats
    row_sums: Floats
    square_sum: float

    @classmethod
    def of(cls, features: Array, name: str = "features") -> "KernelStatistics":
        """Kernel sums of features [N, d]; N >= 3, so that pairs remain when the interval leaves one out."""
        matrix = as_features(features, name, at_least=3).astype(np.float64)
        rows, _, squares = _kernel_sums(matrix, matrix)
        own = _kernel(np.square(matrix).sum(axis=1), matrix.shape[1])
        return cls(matrix, rows - own, squares - float(own @ own))

    @property
    def interaction(self) -> float:
        """Mean square of k(x_i, x_j), i != j, after the means of both images are taken out (>= 0)."""
        n = len(self.row_sums)
        rows = self.row_sums / (n - 1)
        total = self.square_sum - 2 * n * float(rows @ rows) + n * (n + 1) * float(rows.mean()) ** 2
        return max(total, 0.0) / (n * (n - 1))


def kernel_distance(a: Array | KernelStatistics, b: Array | KernelStatistics) -> Estimate:
    """Kernel distance (KID): the unbiased squared MMD with k = (<x, y>/d + 1)^3 (Binkowski et al. 2018).

    a, b: features [N, d] and [M, d], N, M >= 3, or their `KernelStatistics`; float64. The value is the
    complete U-statistic over all pairs: what the usual mean over random subsets converges to, without that
    mean's sampling error and without a seed. (With subset size N it equals torch-fidelity's; a value slightly
    below 0 is a good sign, not an error.)

    The 95 % interval is value +- 1.96 standard errors. The variance is that of the delete-one jackknife
    over the images of both sets (Arvesen 1969), plus the U-statistic's second-order variance (Gretton et
    al. 2012), without which the interval collapses where both sets follow one distribution. It is meant
    for independent images; the stratified halves of one set are closer than that, and their value lies
    below 0.
    Memory is bounded (blocks of 32 MiB); time is that of the three matrix products.
    """
    first = a if isinstance(a, KernelStatistics) else KernelStatistics.of(a, "first features")
    second = b if isinstance(b, KernelStatistics) else KernelStatistics.of(b, "second features")
    same_width(first.features, second.features, "kernel distance")
    to_second, to_first, squares = _kernel_sums(first.features, second.features)
    n, m = len(first.features), len(second.features)
    total_aa, total_bb, total_ab = first.row_sums.sum(), second.row_sums.sum(), to_second.sum()
    value = float(total_aa / (n * (n - 1)) + total_bb / (m * (m - 1)) - 2 * total_ab / (n * m))
    within_a = (total_aa - 2 * first.row_sums) / ((n - 1) * (n - 2))
    within_b = (total_bb - 2 * second.row_sums) / ((m - 1) * (m - 2))
    without_a = within_a - 2 * (total_ab - to_second) / ((n - 1) * m)
    without_b = within_b - 2 * (total_ab - to_first) / ((m - 1) * n)
    jackknife = (n - 1) * float(without_a.var()) + (m - 1) * float(without_b.var())
    across = squares - float(to_second @ to_second) / m - float(to_first @ to_first) / n + total_ab**2 / (n * m)
    second_order = 2 * first.interaction / (n * (n - 1)) + 2 * second.interaction / (m * (m - 1))
    second_order += 4 * max(float(across), 0.0) / (n * m) ** 2
    half = Z_95 * float(np.sqrt(jackknife + second_order))
    return Estimate(value, value - half, value + half, n)


def _kernel(inner: Floats, d: int) -> Floats:
    base = inner / d + 1
    return np.asarray(base * base * base)


def _kernel_sums(a: Floats, b: Floats) -> tuple[Floats, Floats, float]:
    """Sums of k(a_i, b_j) over j [N] and over i [M], and of its square over both, in blocks of rows."""
    step = max(1, _BLOCK_VALUES // len(b))
    rows, columns, squares = np.empty(len(a)), np.zeros(len(b)), 0.0
    for start in range(0, len(a), step):
        block = _kernel(a[start : start + step] @ b.T, a.shape[1])
        rows[start : start + step] = block.sum(axis=1)
        columns += block.sum(axis=0)
        squares += float(np.vdot(block, block))
    return rows, columns, squares
