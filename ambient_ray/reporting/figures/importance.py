"""Which searched parameter makes trials differ in which objective, beside what chance alone would show.

The quantity is functional ANOVA's main effect (Hutter et al. 2014), of the objective's rank: the share of how trials
differ that goes with one parameter alone. It is measured by regression and not by a forest, so that two things come
with it which a forest has not: a null, and an interval. (At 1,000 trials it is also a thousand times faster.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: In a column: the parameter does not exist in this trial (a space's `when`).
ABSENT: Final = object()
_DEGREE = 4  # of a parameter's effect, at most
_SPENT = 1 / 3  # of the trials' degrees of freedom, at most


@dataclass(frozen=True)
class Importance:
    """One parameter's share of how trials differ in an objective, and what it is worth.

    Attributes:
        name: the parameter's.
        share: of the variance of the objective's rank, what is lost without the parameter, in [0, 1]: the drop of the
            adjusted R^2, which chance moves both ways, cut at 0.
        low, high: its 95 % interval.
        null: the share that a parameter without any effect exceeds in 1 of 20 studies.
        trials: those in which it exists.
    """

    name: str
    share: float
    low: float
    high: float
    null: float
    trials: int

    @property
    def found(self) -> bool:
        """Whether the share is above the null."""
        return self.share > self.null


@dataclass(frozen=True)
class Importances:
    """Every parameter's importance for one objective.

    Attributes:
        each: one a parameter, in the order given.
        explained: the share that all have together.
        n: trials.
        degree: of a number's effect; 1 sees whether more is better or worse, and no best value in between.
    """

    each: tuple[Importance, ...]
    explained: float
    n: int
    degree: int


def importances(columns: Mapping[str, Sequence[Any]], values: Array) -> Importances | None:
    """The importance of each parameter for an objective; None for too few trials, or if all have the same value.

    The ranks of the values are regressed on all parameters at once: polynomials of a number's rank (degree 4, less for
    few trials), a level each of anything else. A parameter's share is what the fit loses without it, so what goes with
    another parameter that the sampler happened to vary along is not counted for it, and two that always vary together
    share nothing. Effects that exist only together with another parameter are not seen. The null is that of the F
    distribution, which for ranks is as good as exact (simulated in the tests).

    Args:
        columns: name -> its value in each of the n trials, numbers or anything else; `ABSENT` where it does not exist.
        values: [n], the objective, finite.
    """
    n = len(values)
    whole = {name: _block(column) for name, column in columns.items()}
    tried = ((degree, _cut(whole, columns, degree)) for degree in range(_DEGREE, 0, -1))
    degree, found = next(((d, blocks) for d, blocks in tried if _width(blocks) <= _SPENT * n), (0, {}))
    y = _ranks(values)
    y = y - y.mean()
    total = float(y @ y)
    if _width(found) == 0 or total == 0:
        return None
    q, r = np.linalg.qr(np.hstack(list(found.values())))
    projected, fitted = q.T @ y, _span(r)
    left = n - 1 - fitted.shape[1]
    residual = y - q @ (fitted @ (fitted.T @ projected))
    # The floor is rounding, for an objective that the parameters say exactly.
    noise = max(float(residual @ residual), 1e-9 * total) / left
    first, each = 0, []
    for name, block in found.items():
        part = slice(first, first + block.shape[1])
        first = part.stop
        others = _span(np.delete(r, np.arange(part.start, part.stop), axis=1))
        own = _span(r[:, part] - others @ (others.T @ r[:, part]), scale=float(np.linalg.norm(r[:, part])))
        lost = q @ (own @ (own.T @ projected))  # what the fit loses without the parameter
        # Adjusted R^2 counts by the degrees of freedom that are left.
        unit = noise / total * (n - 1) / (n - 1 - others.shape[1])
        trials = sum(value is not ABSENT for value in columns[name])
        each.append(_importance(name, lost, residual, y, (own.shape[1], left), unit, noise, trials))
    return Importances(tuple(each), max(1 - noise * (n - 1) / total, 0.0), n, degree)


def _importance(
    name: str, lost: Array, residual: Array, y: Array, degrees: tuple[int, int], unit: float, noise: float, trials: int
) -> Importance:
    """A parameter's share with its null and interval.

    Args:
        name: the parameter's.
        lost: [n], its own part of the fit.
        residual: [n], what no parameter says.
        y: [n], the objective's ranks, of mean 0.
        degrees: of freedom, the parameter's and the noise's.
        unit: the share of a sum of squares as large as the noise's variance.
        noise: that variance.
        trials: those in which the parameter exists.
    """
    own, left = degrees
    if own == 0:  # it never varied on its own
        return Importance(name, 0.0, 0.0, 1.0, 0.0, trials)
    from scipy.special import fdtri

    share = float(np.clip((float(lost @ lost) / noise - own) * unit, 0.0, 1.0))
    null = (float(fdtri(own, left, 0.95)) - 1) * own * unit
    # The share is a ratio of two sums over trials: its error to first order is that of a mean (infinitesimal
    # jackknife), larger by what the fit has taken from the residuals. What is of second order is all that there is
    # without an effect: the null.
    gained = np.square(lost + residual) - np.square(residual)
    influence = (gained - gained.sum() / float(y @ y) * np.square(y)) / float(y @ y)
    half = float(np.hypot(1.96 * np.sqrt(np.square(influence).sum()) * len(y) / left, null))
    return Importance(name, share, max(share - half, 0.0), min(share + half, 1.0), null, trials)


def _cut(blocks: Mapping[str, Array], columns: Mapping[str, Sequence[Any]], degree: int) -> dict[str, Array]:
    """The same with numbers' polynomials of a lower degree: the first columns of a higher one's."""
    return {name: b[:, :degree] if numeric(columns[name]) else b for name, b in blocks.items()}


def _width(blocks: Mapping[str, Array]) -> int:
    return sum(block.shape[1] for block in blocks.values())


def _block(column: Sequence[Any]) -> Array:
    """What a parameter may do to the objective, as columns of mean 0: [n, k]; rows of 0 where it does not exist.

    That it does not exist there is another parameter's doing, and counted for that one.
    """
    there = np.array([value is not ABSENT for value in column])
    values = [value for value in column if value is not ABSENT]
    block = np.zeros((len(column), 0))
    if numeric(values):
        ranks = _ranks(np.array(values, dtype=float))
        kinds = len(np.unique(ranks))
        if kinds > 1:
            scaled = 2 * (ranks - ranks.min()) / (ranks.max() - ranks.min()) - 1
            inside = np.polynomial.legendre.legvander(scaled, min(_DEGREE, kinds - 1))[:, 1:]
            block = np.zeros((len(column), inside.shape[1]))
            block[there] = inside - inside.mean(axis=0)
    else:
        texts = np.array([repr(value) for value in values])
        levels = np.unique(texts)[1:]
        block = np.zeros((len(column), len(levels)))
        inside = (texts[:, None] == levels[None]).astype(float).reshape(len(values), len(levels))
        block[there] = inside - (inside.mean(axis=0) if len(values) else 0.0)
    return block


def numeric(values: Sequence[Any]) -> bool:
    """Whether all are numbers, those aside that are `ABSENT`; True and False are none."""
    kinds = set(map(type, values)) - {object}
    return all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds)


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values at their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place.reshape(-1)], dtype=np.float64)


def _span(matrix: Array, scale: float | None = None) -> Array:
    """An orthonormal basis of what the columns span, those aside that are 0 but for rounding. scale: of the columns."""
    if matrix.shape[1] == 0:
        return np.zeros((matrix.shape[0], 0))
    u, size, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(u[:, size > 1e-9 * max(scale if scale is not None else size[0], 1e-300)])
