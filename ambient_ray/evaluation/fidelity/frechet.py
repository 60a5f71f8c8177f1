"""The Frechet distance: its value, its interval, and its limit for infinitely many images."""

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Floats, as_array, as_features
from ..errors import EvaluationSettingsError, FeatureShapeError, NonFiniteFeaturesError
from ..estimate import Z_95, Estimate


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

    @property
    def spread(self) -> float:
        """The covariance's trace."""
        return float(np.square(self.root).sum())


def frechet_distance(a: Array | GaussianStatistics, b: Array | GaussianStatistics) -> float:
    """Frechet distance |mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of features [N, d] or their statistics.

    Dowson and Landau 1982; Heusel et al. 2017, eq. 6. Float64 throughout, any device's tensors; >= 0. Call
    it FID only with the original Inception-v3 features. It is biased upwards at small N, by an amount that
    depends on N: compare equal N only. `frechet_estimate` gives its interval, `frechet_limit` what it would be
    without that bias.

    With C = R^T R the singular values of R1 R2^T are the square roots of the eigenvalues of C1 C2. For N <
    d the product has N rows, so no d x d matrix is ever decomposed. They come from a symmetric `eigvalsh`
    of the product's smaller Gram matrix, or, where squaring would cost digits (nearly singular
    covariances), from an SVD of the product itself. Raises FeatureShapeError, NonFiniteFeaturesError,
    TooFewImagesError (N < 2).
    """
    first = a if isinstance(a, GaussianStatistics) else GaussianStatistics.of(a, "first features")
    second = b if isinstance(b, GaussianStatistics) else GaussianStatistics.of(b, "second features")
    _same_features(len(first.mean), len(second.mean))
    gap = first.mean - second.mean
    spread = first.spread + second.spread
    distance = float(gap @ gap) + spread - 2 * _nuclear_norm(first.root @ second.root.T, spread)
    return max(distance, 0.0)  # rounding of an exact zero


def frechet_estimate(samples: Array, reference: GaussianStatistics) -> Estimate:
    """The Frechet distance of features [N, d] to a reference, with its 95 % interval over other samples of this number.

    The interval is of what the distance is on average at this N, bias included, against this reference: two models
    sampled equally often may be compared by it. (It is not a bootstrap: resampling with replacement adds the bias once
    more.) The standard error is the infinitesimal jackknife's (Jaeckel 1972; Efron 1982, ch. 6): how the distance
    answers to each sample's weight, exactly, from one eigendecomposition. With z = x - mu1 and T the optimal transport
    map from C1 to C2, that is 2 z (mu1 - mu2) + z (I - T) z up to a constant; z T z is the diagonal of (A A^T)^1/2
    for A = Z R2^T. Simulated with spectra that decay as features' do, these intervals hold the truth in 92 to 97 % of
    sample sets; where the samples already follow the reference's law they are too wide, by up to 1.4 times.

    Raises as `frechet_distance`.
    """
    matrix = as_features(samples, "features of the samples", at_least=3).astype(np.float64)
    _same_features(matrix.shape[1], len(reference.mean))
    distance, influence = _with_influence(matrix, matrix @ reference.root.T, reference)
    n = len(matrix)
    half = Z_95 * float(np.sqrt(influence @ influence / (n * (n - 1))))
    return Estimate(distance, max(distance - half, 0.0), distance + half, n)


def frechet_limit(
    samples: Array, reference: GaussianStatistics, *, points: int = 15, smallest: float = 0.2, seed: int = 0
) -> Estimate:
    """FD_inf: what the Frechet distance of features [N, d] would be with infinitely many samples; may be below 0.

    Chong and Forsyth 2020: the distances of `points` random subsets, from `smallest` N to N images, on a line in 1/N,
    read at 0; seeded by its own generator. The interval is the infinitesimal jackknife's through all of it, over other
    samples of this number. It is of the line's end: the distance is straight in 1/N only for N well above the number of
    directions in which the features vary. Below that FD_inf is still biased, by less than the distance is (simulated
    for N = 500: d = 64 .0079 where the truth is .0091 and the distance .035; d = 300 .0069, .0177 and .072). A
    reference's own finite number of images stays in it.

    Raises EvaluationSettingsError (points < 2, smallest outside (0, 1)), TooFewImagesError (smallest N < 3 images), and
    as `frechet_distance`.
    """
    if points < 2 or not 0 < smallest < 1:
        raise EvaluationSettingsError(
            f"FD_inf needs at least 2 points from a share in (0, 1) of the samples on, got {points} from {smallest}."
        )
    matrix = as_features(samples, "features of the samples", at_least=int(np.ceil(3 / smallest))).astype(np.float64)
    _same_features(matrix.shape[1], len(reference.mean))
    turned, n = matrix @ reference.root.T, len(matrix)
    sizes = np.linspace(smallest * n, n, points).astype(np.int64)
    inverse = 1 / sizes - (1 / sizes).mean()
    weights = 1 / points - (1 / sizes).mean() * inverse / (inverse @ inverse)  # least squares: value at 1/N = 0
    generator = np.random.default_rng(seed)
    value, influence = 0.0, np.zeros(n)
    for size, weight in zip(sizes, weights, strict=True):
        rows = np.sort(generator.permutation(n)[:size])
        distance, own = _with_influence(matrix[rows], turned[rows], reference)
        value += weight * distance
        influence[rows] += weight * own / size
    half = Z_95 * float(np.linalg.norm(influence))
    return Estimate(float(value), float(value) - half, float(value) + half, n)


def _with_influence(x: Floats, turned: Floats, reference: GaussianStatistics) -> tuple[float, Floats]:
    """The distance of samples [N, d], and how it answers to each one's weight [N]; turned: x @ reference.root.T."""
    n, mean = len(x), x.mean(axis=0)
    z, gap = x - mean, mean - reference.mean
    squares = np.square(z).sum(axis=1)
    product = (turned - turned.mean(axis=0)) / np.sqrt(n - 1)
    spread = float(squares.sum() / (n - 1))
    nuclear, carried = _carried(product, spread + reference.spread)
    distance = float(gap @ gap) + spread + reference.spread - 2 * nuclear
    influence = 2 * z @ gap + squares * n / (n - 1) - spread - (n * carried - nuclear)
    return max(distance, 0.0), influence


def _carried(product: Floats, scale: float) -> tuple[float, Floats]:
    """The nuclear norm of A [N, r], and the diagonal [N] of (A A^T)^1/2, which sums to it; scale as `_nuclear_norm`."""
    wide = len(product) <= product.shape[1]
    found, vectors = np.linalg.eigh(product @ product.T if wide else product.T @ product)
    eigenvalues: Floats = np.asarray(found)
    if not _squares_do(eigenvalues, scale):
        left, singular, _ = np.linalg.svd(product, full_matrices=False)
        return float(singular.sum()), np.asarray(np.square(left) @ singular)
    singular = np.sqrt(np.maximum(eigenvalues, 0))
    if wide:
        return float(singular.sum()), np.asarray(np.square(vectors) @ singular)
    kept = eigenvalues > _noise(eigenvalues)
    return float(singular.sum()), np.asarray(np.square(product @ vectors[:, kept]) @ (1 / singular[kept]))


def _same_features(first: int, second: int) -> None:
    if first != second:
        raise FeatureShapeError(
            f"The two sets have {first} and {second} features an image; both need the same extractor."
        )


def _nuclear_norm(product: Floats, scale: float) -> float:
    """Sum of the singular values of `product` [r1, r2]; `scale`: what its error is measured by."""
    gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
    eigenvalues: Floats = np.asarray(np.linalg.eigvalsh(gram))
    if _squares_do(eigenvalues, scale):
        return float(np.sqrt(np.maximum(eigenvalues, 0)).sum())
    return float(np.linalg.svd(product, compute_uv=False).sum())


def _squares_do(eigenvalues: Floats, scale: float) -> bool:
    """Whether a Gram matrix's eigenvalues give the singular values to 1e-7 of `scale`, all together."""
    noise = _noise(eigenvalues)
    return float((noise / np.sqrt(np.maximum(eigenvalues, noise))).sum()) <= 1e-7 * scale


def _noise(eigenvalues: Floats) -> float:
    """What eigh is exact to: about eps * largest eigenvalue, which the square root magnifies for the small ones."""
    return float(4 * np.finfo(np.float64).eps * max(float(eigenvalues[-1]), np.finfo(np.float64).tiny))


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
