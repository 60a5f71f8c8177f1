"""A smooth surface through noisy measurements, no rougher than what it predicts of a point that it has not seen."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_DEGREE = 4
_REACH = 1.2  # of the mean distance between neighbours of a grid as dense, for what counts as near
_NEAREST, _FARTHEST = 0.05, 0.2  # of the measured range


@dataclass(frozen=True)
class Surface:
    """A polynomial response surface (Box and Wilson 1951) over the square [-1, 1]^d.

    Attributes:
        error: root mean square error at a point that was left out.
        mean_error: the same of the mean of the other points, which knows nothing of where the point lies.
        weights: [terms], of products of Legendre polynomials.
        degree: the highest of a product's degrees together.
        points: [n, d], what was measured.
    """

    error: float
    mean_error: float
    weights: Array
    degree: int
    points: Array

    def __call__(self, points: Array) -> Array:
        """The surface at points: [m, d] -> [m]."""
        return np.asarray(_terms(points, self.degree) @ self.weights)

    def near(self, points: Array) -> NDArray[np.bool_]:
        """Whether there are measurements near points: [m, d] -> [m].

        Near is about as far as the measurements would lie apart if they were spread evenly, within 5 and 20 % of the
        range; and inside of them: where the surface is no less certain than at the least certain of them (its leverage,
        Montgomery's hidden extrapolation).
        """
        apart = 2 * min(max(_REACH / len(self.points) ** (1 / points.shape[1]), _NEAREST), _FARTHEST)
        squares = np.square(points).sum(axis=1)[:, None] - 2 * points @ self.points.T
        squares += np.square(self.points).sum(axis=1)
        inverse = np.linalg.pinv(_terms(self.points, self.degree))
        leverage = [np.square(_terms(some, self.degree) @ inverse).sum(axis=1) for some in (points, self.points)]
        return np.asarray((squares.min(axis=1) <= apart**2) & (leverage[0] <= leverage[1].max() * 1.2))


def fit_surface(points: Array, values: Array) -> Surface | None:
    """The polynomial of degree 1 to 4 that predicts a left-out point best; None where the mean does as well.

    Every degree that has two points a term is tried; errors of left-out points are exact, by the leverage, without
    fitting again (PRESS, Allen 1974).

    Args:
        points: [n, d] in [-1, 1].
        values: [n], finite.
    """
    n = len(points)
    mean_error = _left_out(np.ones((n, 1)), values)
    found: Surface | None = None
    for degree in range(1, _DEGREE + 1):
        terms = _terms(points, degree)
        if 2 * terms.shape[1] > n or np.linalg.matrix_rank(terms) < terms.shape[1]:
            break
        error = _left_out(terms, values)
        if error < (mean_error if found is None else found.error):
            weights = np.asarray(np.linalg.lstsq(terms, values, rcond=None)[0], dtype=np.float64)
            found = Surface(error, mean_error, weights, degree, points)
    return found


def _terms(points: Array, degree: int) -> Array:
    """Products of Legendre polynomials with degrees of at most `degree` together: [n, d] -> [n, terms]."""
    each = [np.polynomial.legendre.legvander(column, degree) for column in points.T]
    powers = [p for p in product(range(degree + 1), repeat=points.shape[1]) if sum(p) <= degree]
    return np.stack([np.prod([each[i][:, k] for i, k in enumerate(p)], axis=0) for p in powers], axis=1)


def _left_out(terms: Array, values: Array) -> float:
    """Root mean square error at points that were left out of a least squares fit."""
    q, _ = np.linalg.qr(terms)
    leverage = np.square(q).sum(axis=1)
    off = (values - q @ (q.T @ values)) / np.maximum(1 - leverage, 1e-9)
    return float(np.sqrt(np.mean(np.square(off))))
