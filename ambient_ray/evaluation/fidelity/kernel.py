"""Kernel distance (KID): unbiased at any number of images, and with a standard error."""

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Floats, as_features, same_width
from ..estimate import Z_95, Estimate

_BLOCK_VALUES = 1 << 22  # kernel values held at once: 32 MiB of float64


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

    The 95 % interval is value +- 1.96 standard errors, over other draws of both sets. The delete-one jackknife over the
    images of both (Arvesen 1969) estimates the first-order variance and twice the second-order one (Efron and Stein
    1981), which alone is left where both sets follow one distribution. V2, the latter's own estimate (Gretton et al.
    2012), is taken off once; as the difference scatters, no less is left than the geometric mean of half the jackknife
    (twice) and V2. Simulated with equal, shifted and narrower laws, the intervals hold the truth in 94 to 97 % of sets.
    It is meant for independent images; the stratified halves of one set are closer than that, and their value lies
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
    least = ((jackknife / 2) ** 2 * second_order) ** (1 / 3)
    variance = max(jackknife - second_order, least)
    half = Z_95 * float(variance) ** 0.5
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
