"""Gaussian processes over recorded configurations, fitted once and quick to ask."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Length scales in units of the cube's edge: below the first nothing could be predicted from its neighbours, beyond
#: the second a coordinate does not matter.
LENGTH_SCALES = (0.05, 30.0)

#: Principal components that explain less than this share of the variance together are left at their mean.
UNEXPLAINED = 1e-4

#: Random Fourier features of a path.
FEATURES = 256


class Surrogate:
    """Curves of several scores as a function of the configuration.

    Outputs are not independent: a configuration that is good at one rung is likely to be good at the next. So they are
    turned into principal components first, and each component has its own Gaussian process (Matern 5/2, a length scale
    a coordinate), the usual emulator of long outputs (Higdon et al. 2008). Independent processes for every rung and
    score would forget half of the rank correlation between rungs, and with it what early stopping lives on.

    The noise of a recorded mean is not fitted: it is known from the recorded seeds. What the seeds do not explain is
    then the landscape's, so that the landscape is as rough as the recordings say. Fitting (scikit-learn, marginal
    likelihood) is deterministic.

    Args:
        X: [N, D], coordinates in the unit cube.
        Y: [N, M], one column an output.
        noise: [P, M], examples of how far one recorded mean is off, correlations included.

    Raises:
        ValueError: fewer than three points, or a value that is not finite.
    """

    def __init__(self, X: Array, Y: Array, noise: Array) -> None:
        if len(X) < 3 or not (np.isfinite(X).all() and np.isfinite(Y).all()):
            raise ValueError(
                f"a surrogate needs three or more recorded configurations with finite scores, got {len(X)}"
            )
        self._centre, spread = Y.mean(axis=0), np.maximum(Y.std(axis=0), 1e-12)
        # An output weighs as much as of its variance is not noise: one of noise alone must not lead a component.
        signal = np.clip(1 - (noise**2).mean(axis=0) / spread**2, 1e-6, 1.0)
        self._spread = spread / np.sqrt(signal)
        _, weight, directions = np.linalg.svd((Y - self._centre) / self._spread, full_matrices=False)
        share = weight**2 / max(float((weight**2).sum()), 1e-300)
        kept = max(1, int((np.cumsum(share) < 1 - UNEXPLAINED).sum()) + 1)
        size = np.maximum(weight[:kept], 1e-12) / np.sqrt(len(X))
        self._directions = directions[:kept] * size[:, None]  # [C, M]; components have unit variance
        into = directions[:kept].T / size  # [M, C]
        targets = ((Y - self._centre) / self._spread @ into).T
        # A floor keeps the matrix of a component without noise invertible.
        extra = np.maximum(((noise / self._spread @ into) ** 2).mean(axis=0), 1e-4)
        fits = [_fit(X, y, e) for y, e in zip(targets, extra, strict=True)]
        self._amplitude = np.array([amplitude for amplitude, _ in fits])
        self._scales = np.stack([scales for _, scales in fits])
        self._X = X[None] / self._scales[:, None]
        inverse = [np.linalg.inv(self._covariance(c, X) + np.eye(len(X)) * e) for c, e in enumerate(extra)]
        self._inverse, self._targets, self._extra = np.stack(inverse), targets, extra
        self._weights = np.stack([k @ y for k, y in zip(inverse, targets, strict=True)])
        self._paths: dict[int, _Path] = {}
        left = [y - w / np.diag(k) for y, w, k in zip(targets, self._weights, inverse, strict=True)]
        self._left_out = self._outputs(np.stack(left, axis=1))

    def predict(self, x: Array, path: int | None = None) -> Array:
        """Outputs at one point, without noise: [D] -> [M].

        Args:
            x: the point.
            path: which draw from the posterior: one function, the same for every point, that agrees with the recorded
                curves as far as they are known and is as rough between them as they are. None: the posterior mean,
                which is smoother than any world.
        """
        scaled = x / self._scales
        near = self._amplitude[:, None] * _matern(np.sqrt(((self._X - scaled[:, None]) ** 2).sum(axis=-1)))
        if path is None:
            return self._outputs((near * self._weights).sum(axis=-1))
        drawn = self._path(path)
        return self._outputs(drawn.prior(scaled[:, None])[:, 0] + (near * drawn.weights).sum(axis=-1))

    def _path(self, seed: int) -> "_Path":
        """A draw from the posterior by Matheron's rule (Wilson et al. 2020): a prior draw, bent to the recordings."""
        if seed not in self._paths:
            rng = np.random.default_rng([seed, 0xF0])
            components, dimensions = self._scales.shape
            # Matern 5/2 has a multivariate t with 5 degrees of freedom as its spectral density.
            frequencies = rng.standard_normal((components, FEATURES, dimensions))
            frequencies /= np.sqrt(rng.chisquare(5, (components, FEATURES, 1)) / 5)
            phases = rng.uniform(0, 2 * np.pi, (components, FEATURES))
            heights = np.sqrt(2 * self._amplitude / FEATURES)[:, None] * rng.standard_normal((components, FEATURES))
            path = _Path(frequencies, phases, heights, np.empty(0))
            off = self._targets - path.prior(self._X)
            off -= np.sqrt(self._extra)[:, None] * rng.standard_normal(self._targets.shape)
            self._paths = {seed: replace(path, weights=np.einsum("cij,cj->ci", self._inverse, off))}
        return self._paths[seed]

    def left_out(self) -> Array:
        """What each point is predicted to be by the others: [N, M].

        In closed form (Rasmussen and Williams 2006, eq. 5.12), so length scales and components are those of all points.
        """
        return self._left_out

    def _outputs(self, components: Array) -> Array:
        return np.asarray(self._centre + self._spread * (components @ self._directions))

    def _covariance(self, component: int, X: Array) -> Array:
        scaled = X / self._scales[component]
        apart = np.sqrt(np.maximum(((scaled[:, None] - scaled[None]) ** 2).sum(axis=-1), 0.0))
        return np.asarray(self._amplitude[component] * _matern(apart))


@dataclass(frozen=True)
class _Path:
    """One function: a sum of waves [C, F] and what bends it to the recordings [C, N]."""

    frequencies: Array
    phases: Array
    heights: Array
    weights: Array

    def prior(self, scaled: Array) -> Array:
        """The waves at points over their length scales: [C, N, D] -> [C, N]."""
        waves = np.cos(scaled @ self.frequencies.transpose(0, 2, 1) + self.phases[:, None])
        return np.asarray((waves @ self.heights[..., None])[..., 0])


def _matern(distance: Array) -> Array:
    scaled = np.sqrt(5.0) * distance
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def _fit(X: Array, y: Array, noise: float) -> tuple[float, Array]:
    """(amplitude, length scales) of largest marginal likelihood; a column without spread needs no fit."""
    if not y.any():
        return 1.0, np.ones(X.shape[1])
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    kernel = ConstantKernel(1.0, (0.05, 50.0)) * Matern(np.ones(X.shape[1]), LENGTH_SCALES, nu=2.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is an answer: irrelevant
        fitted = GaussianProcessRegressor(kernel, alpha=noise).fit(X, y).kernel_
    return float(fitted.k1.constant_value), np.broadcast_to(np.asarray(fitted.k2.length_scale), (X.shape[1],)).copy()
