"""Recorded learning curves as a world that can be searched: what any configuration would have scored at each rung.

Recorded configurations are few, so those between them come from Gaussian processes, as those of Syne Tune's surrogate
blackboxes do (Salinas et al. 2022). Every seed is a world of its own: a draw from the posterior, which is as rough
between recorded points as they are; the posterior mean would be smooth where nothing is known, and too easy. Runs
differ by whole recorded curves of differences between seeds, so that noise keeps its correlation over rungs and scores.
`nearest` invents nothing: every curve is a recorded one.
"""

import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .coordinates import unit_coordinates
from .recordings import Recordings, accidents
from .scales import scale_for
from .surrogate import Surrogate

Array = NDArray[np.float64]
Mode = Literal["surrogate", "mean", "nearest"]
Scores = dict[str, float]

#: From how many recorded configurations, those with the most similar curves, a drawn curve's noise may come.
DONORS = 10


@dataclass(frozen=True)
class Curve:
    """One training run.

    Attributes:
        observed: the scores at each rung; fewer rungs when the run fails.
        truth: the same rungs without seed and sampling noise, so that luck does not count as progress. What an
            accident spoilt is spoilt here, too: the run's checkpoint is as bad as its scores say.
    """

    observed: tuple[Scores, ...]
    truth: tuple[Scores, ...]


@dataclass(frozen=True)
class Quality:
    """How well a score at a rung is predicted for a configuration that the surrogate was not shown.

    Attributes:
        images: the rung.
        score: the score's name.
        spearman: rank correlation of predicted and recorded means; NaN where all recorded ones are equal.
        r2: share of the variance explained, on the scale on which the score is modelled; NaN likewise.
    """

    images: int
    score: str
    spearman: float
    r2: float


class Curves:
    """A replayable world.

    Plain DDPM (sigma_tn = 0) replays its own recorded seeds. Every other configuration has the predicted curve plus
    noise, and meets with a recorded accident as often as recorded runs did. Noise is recorded differences between the
    two seeds, scaled to one run's standard deviation, in two parts: what a training seed does to all configurations
    alike, which the trials of a search have in common as they have the seed (its sign is the seed's), and what is left
    of the difference of a configuration whose curve is similar, with either sign.

    Args:
        recordings: what was recorded.
        mode: "surrogate": a posterior draw a seed; "mean": the posterior mean; "nearest": the recorded configuration
            nearest in unit coordinates, as one of its seeds.
    """

    def __init__(self, recordings: Recordings, mode: Mode = "surrogate") -> None:
        self.recordings, self.mode = recordings, mode
        self.space, self.objectives = recordings.space, recordings.objectives
        self.rungs, self.seconds, self.scores = recordings.rungs, recordings.seconds, recordings.scores
        both = np.concatenate([*recordings.values, recordings.baseline])
        self._scales = [scale_for(name, both[..., k]) for k, name in enumerate(self.scores)]

    @classmethod
    def load(cls, path: Path | str, *, scores: Sequence[str] = ("gap",), mode: Mode = "surrogate") -> "Curves":
        """Curves that benchmarks/record.py wrote.

        Args:
            path: the Parquet file.
            scores: which scores are replayed beside the two objectives.
            mode: how the space between recorded configurations is filled.

        Raises:
            RecordingError: a file that cannot be replayed.
        """
        return cls(Recordings.read(Path(path), scores), mode)

    # -- drawing ----------------------------------------------------------------------------------------------

    def draw(self, settings: Mapping[str, Any], seed: int) -> list[Scores]:
        """What one training run of a configuration scores at each rung; fewer rungs when the run fails.

        The same settings and seed give the same curve.
        """
        return list(self.curve(settings, seed).observed)

    def curve(self, settings: Mapping[str, Any], seed: int) -> Curve:
        """One training run with and without its noise."""
        if settings.get("sigma_tn") == 0:
            return self._recorded(self.recordings.baseline, seed)
        unit = unit_coordinates(self.space, settings)
        if self.mode == "nearest":
            return self._recorded(self.recordings.values[self._nearest(unit)], seed)
        key = zlib.crc32(json.dumps(dict(settings), sort_keys=True, default=str).encode())
        return self._predicted(unit, seed, np.random.default_rng([seed, key]))

    def reference(self, delta: float = 1.0) -> tuple[float, float]:
        """The point that bounds hypervolume in this world: (1 + delta) times DDPM's best fidelity, memorization 1.

        DDPM's curve is the mean of its recorded seeds without accidents, so that the point does not depend on luck.
        """
        mean, _ = self._mean_and_tails(self.recordings.baseline)
        return (1 + delta) * float(self._back(mean)[:, 0].min()), 1.0

    def quality(self) -> list[Quality]:
        """The surrogate's predictions of each recorded configuration from all others, a row a rung and score."""
        from scipy.stats import spearmanr

        recorded = self._means[1].reshape(len(self._means[1]), -1)
        predicted, found = self._surrogate.left_out(), []
        for column, (images, score) in enumerate(itertools.product(self.rungs, self.scores)):
            y, guess = recorded[:, column], predicted[:, column]
            varies = bool(np.ptp(y) > 0)
            r2 = 1 - float(((guess - y) ** 2).mean() / y.var()) if varies else np.nan
            found.append(Quality(images, score, float(spearmanr(guess, y)[0]) if varies else np.nan, r2))
        return found

    def _predicted(self, unit: Array, seed: int, rng: np.random.Generator) -> Curve:
        path = None if self.mode == "mean" else seed
        mean = self._surrogate.predict(unit, path).reshape(len(self.rungs), len(self.scores))
        noisy = mean + (self._shared if seed % 2 else -self._shared) + self._noise_near(mean, rng)
        accident = None
        if rng.random() < self._accident_rate:
            accident = self._accidents[int(rng.integers(len(self._accidents)))]
        return self._curve(self._back(noisy, rounded=True), self._back(mean), accident)

    def _noise_near(self, mean: Array, rng: np.random.Generator) -> Array:
        means, noises = self._pool
        apart = (((means - mean) / self._spread) ** 2).sum(axis=(1, 2))
        nearest = np.argpartition(apart, min(DONORS, len(apart)) - 1)[:DONORS]
        sign = 1.0 if rng.random() < 0.5 else -1.0
        return np.asarray(sign * noises[nearest[int(rng.integers(len(nearest)))]])

    def _recorded(self, runs: Array, seed: int) -> Curve:
        """One recorded seed; its truth is the mean of those without accidents."""
        run = seed % len(runs)
        mean, begun = self._mean_and_tails(runs)
        at = int(begun[run])
        return self._curve(runs[run], self._back(mean), (at, runs[run, at:]) if at < len(self.rungs) else None)

    def _curve(self, observed: Array, truth: Array, accident: tuple[int, Array] | None) -> Curve:
        if accident is not None:
            at, tail = accident
            observed = np.concatenate([observed[:at], tail])
            truth = np.concatenate([truth[:at], tail])
        ended = np.flatnonzero(~np.isfinite(observed).all(axis=1))
        length = int(ended[0]) if len(ended) else len(observed)
        return Curve(self._named(observed[:length]), self._named(truth[:length]))

    def _named(self, rows: Array) -> tuple[Scores, ...]:
        return tuple(dict(zip(self.scores, row, strict=True)) for row in rows.tolist())

    def _nearest(self, unit: Array) -> int:
        return int(np.argmin(((self.recordings.unit - unit) ** 2).sum(axis=1)))

    # -- what the recordings say ------------------------------------------------------------------------------

    def _forward(self, values: Array) -> Array:
        return np.stack([scale.forward(values[..., k]) for k, scale in enumerate(self._scales)], axis=-1)

    def _back(self, values: Array, *, rounded: bool = False) -> Array:
        return np.stack([s.back(values[..., k], rounded=rounded) for k, s in enumerate(self._scales)], axis=-1)

    def _mean_and_tails(self, runs: Array) -> tuple[Array, NDArray[np.int64]]:
        """([R, K] mean on the modelled scales over the runs without accidents, where each run's accident began)."""
        begun = accidents(runs[..., 0])
        kept = np.where(np.arange(runs.shape[1])[None, :, None] < begun[:, None, None], self._forward(runs), np.nan)
        count = np.isfinite(kept).sum(axis=0)
        return np.where(count > 0, np.nansum(kept, axis=0) / np.maximum(count, 1), np.nan), begun

    @cached_property
    def _means(self) -> tuple[NDArray[np.int64], Array]:
        """(configurations whose mean curve is known at every rung [C'], their means [C', R, K])."""
        means = np.stack([self._mean_and_tails(runs)[0] for runs in self.recordings.values])
        whole = np.flatnonzero(np.isfinite(means).all(axis=(1, 2)))
        return whole, means[whole]

    @cached_property
    def _pairs(self) -> tuple[Array, Array]:
        """Means and noises [P, R, K] of the recorded pairs of seeds: (a - b) / sqrt 2 has one run's deviation."""
        whole, means = self._means
        runs = [(m, self.recordings.values[c]) for c, m in zip(whole, means, strict=True)]
        runs.append((self._mean_and_tails(self.recordings.baseline)[0], self.recordings.baseline))
        found: list[tuple[Array, Array]] = []
        for mean, own in runs:
            pair = self._forward(own[:2])
            if (accidents(own[..., 0])[:2] == len(self.rungs)).sum() == 2:
                found.append((mean, (pair[0] - pair[1]) / np.sqrt(2)))
        if not found:
            return means, np.zeros_like(means)
        return np.stack([m for m, _ in found]), np.stack([n for _, n in found])

    @cached_property
    def _shared(self) -> Array:
        """[R, K]: by how much the first recorded seed is off for all configurations together, the second as much."""
        return np.asarray(self._pairs[1].mean(axis=0))

    @cached_property
    def _pool(self) -> tuple[Array, Array]:
        """Means and noises [P, R, K] of the recorded pairs, without what all of them share."""
        means, noises = self._pairs
        return means, noises - self._shared

    @cached_property
    def _spread(self) -> Array:
        spread = self._means[1].std(axis=0)
        return np.where(spread > 0, spread, 1.0)

    @cached_property
    def _surrogate(self) -> Surrogate:
        whole, means = self._means
        seeds = float(np.mean([len(runs) for runs in self.recordings.values]))
        noise = self._pool[1].reshape(len(self._pool[1]), -1) / np.sqrt(seeds)
        return Surrogate(self.recordings.unit[whole], means.reshape(len(means), -1), noise)

    @cached_property
    def _accidents(self) -> list[tuple[int, Array]]:
        """(rung, the scores from there on) of every recorded run that went astray."""
        found = []
        for runs in [*self.recordings.values, self.recordings.baseline]:
            for run, at in zip(runs, accidents(runs[..., 0]), strict=True):
                if at < len(self.rungs):
                    found.append((int(at), run[at:]))
        return found

    @cached_property
    def _accident_rate(self) -> float:
        runs = [*self.recordings.values, self.recordings.baseline]
        return len(self._accidents) / sum(len(own) for own in runs)
