"""How alike the samples of a study's models are, drawn from the same latents: every pair, in numbers and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checkpoint import read_samples

if TYPE_CHECKING:
    from ambient_ray.evaluation import Estimate

_MOST = 24  # models in a picture


class Reproduced(NamedTuple):
    """RP of two models, and its null: the same of samples from different latents, which .6 may let pass."""

    rp: Estimate
    null: Estimate


def reproducibility_of_pairs(checkpoints: Mapping[str, Path]) -> dict[tuple[str, str], Reproduced]:
    """RP of every two models (`reproducibility`), by their names in the order given.

    checkpoints: folders of scored rungs, by name. Models whose features were not kept, or that were sampled in other
    numbers than the first, are left out.
    """
    from ambient_ray.evaluation import reproducibility

    kept: dict[str, Any] = {}
    for name, folder in checkpoints.items():
        samples = read_samples(folder)
        if samples is not None and samples.features is not None:
            features = samples.features.astype(np.float32)
            if not kept or features.shape == next(iter(kept.values())).shape:
                kept[name] = features
    return {
        (a, b): Reproduced(reproducibility(kept[a], kept[b]), reproducibility(kept[a], np.roll(kept[b], 1, axis=0)))
        for a, b in combinations(kept, 2)
    }


def reproducibility_figure(pairs: Mapping[tuple[str, str], Reproduced], path: Path) -> Path:
    """Write the pairs as a matrix of shares, a PNG, and return its path; the first 24 models, at least one pair."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for pair in pairs for name in pair))[:_MOST]
    values = np.full((len(names), len(names)), np.nan)
    for (a, b), found in pairs.items():
        if a in names and b in names:
            values[names.index(b), names.index(a)] = found.rp.value
    values, down, across = values[1:, :-1], names[1:], names[:-1]  # below the diagonal
    side = 3.4 + 0.42 * len(names)
    figure = Figure(figsize=(side + 2.4, side), dpi=140, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = axes.imshow(values, vmin=0, vmax=1, cmap="cividis")
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        share = values[row, column]
        axes.text(
            column, row, f"{share:.2f}".lstrip("0") or "0", ha="center", va="center", fontsize=7,
            color="black" if share > 0.5 else "white",
        )  # fmt: skip
    axes.set_xticks(range(len(across)), across, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(down)), down, fontsize=8)
    axes.spines[:].set_visible(False)
    null = float(np.mean([found.null.value for found in pairs.values()]))
    told = "Share of latents from which both models draw alike images\n"
    told += f"(cosine above .6; of different latents: {null:.2f})"
    figure.suptitle(told, fontsize=10)
    figure.colorbar(shown, ax=axes, shrink=0.7)
    figure.savefig(path, bbox_inches="tight")  # the layout does not foresee how far slanted names reach
    return path
