"""How the two objectives answer to the noise level and the share of noisy images, rung by rung."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.tracking.drawing.galleries import BLUE, VERMILLION
from ambient_ray.tuning.records import Candidate

from .canvas import few_ticks, new_figure, plain, save, titled
from .front import short_count
from .importance import numeric
from .study_view import StudyView
from .surface import Surface, fit_surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_LEAST = 4  # trials, and different values of a parameter
_ENOUGH = 8  # trials for a surface to be worth a look
_TOLD = 12  # points with their values beside them, at most
_GRID = 48
_FIRST = ("sigma_tn", "noisy_ratio")  # where they are searched, these are what one asks about


@dataclass(frozen=True)
class Scale:
    """An axis: a parameter's measured range, linear or logarithmic, and where it lies in [-1, 1]."""

    name: str
    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, name: str, values: Array) -> Scale:
        """Logarithmic for positive values over more than a decade, most of which lie in the range's lowest third."""
        low, high = float(values.min()), float(values.max())
        log = low > 0 and high > 10 * low and float(np.median(values)) < low + (high - low) / 3
        return cls(name, low, high, log)

    def unit(self, values: Array) -> Array:
        """Values -> [-1, 1]."""
        low, high, at = (np.log(v) if self.log else v for v in (self.low, self.high, np.asarray(values)))
        return np.asarray(2 * (at - low) / (high - low) - 1)

    def value(self, unit: Array) -> Array:
        """[-1, 1] -> values."""
        low, high = (np.log(v) if self.log else v for v in (self.low, self.high))
        at = low + (unit + 1) / 2 * (high - low)
        return np.asarray(np.exp(at) if self.log else at)


@dataclass(frozen=True)
class Response:
    """What was measured at one rung. points: [n, d] parameters; values: [n]; ddpm: plain DDPM's value there."""

    images: int
    points: Array
    values: Array
    ddpm: float | None


def axes_of(view: StudyView) -> tuple[Scale, ...]:
    """The one or two parameters to draw over: sigma_tn and noisy_ratio, or the first that are searched continuously."""
    searched = sorted(view.searched, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    scales = []
    for name in searched:
        values = [c.trial.settings[name] for c in view.best if name in c.trial.settings and c.trial.arm != "ddpm"]
        if numeric(values) and len(set(values)) >= _LEAST:
            scales.append(Scale.of(name, np.array(values, dtype=float)))
    return tuple(scales[:2])


def responses(view: StudyView, scales: Sequence[Scale], objective: Callable[[Candidate], float]) -> list[Response]:
    """An objective at the first rung, at the last that has eight trials, and at the last.

    Of all trials that were scored there and have these parameters. Rungs apart, since a trial that was stopped early
    would otherwise look as if its parameters did not copy.
    """
    rungs: dict[int, list[Candidate]] = {}
    for candidate in view.candidates:
        rungs.setdefault(candidate.rung.rung, []).append(candidate)
    alone = {c.rung.rung: objective(c) for c in view.ddpm}
    found = []
    for rung, candidates in sorted(rungs.items()):
        some = [c for c in candidates if c.trial.arm != "ddpm" and all(s.name in c.trial.settings for s in scales)]
        if some:
            points = np.array([[float(c.trial.settings[s.name]) for s in scales] for c in some])
            values = np.array([objective(c) for c in some])
            found.append(Response(some[0].rung.images_seen, points, values, alone.get(rung)))
    enough = [k for k, response in enumerate(found) if len(response.values) >= _ENOUGH]
    kept = {0, *enough[-1:], len(found) - 1} if found else set()
    return [found[k] for k in sorted(kept)]


def response_figure(view: StudyView, path: Path) -> Path | None:
    """Write fidelity (above) and memorization (below) over the parameters as a PNG, a column a rung.

    A surface lies below the points where one predicts left-out trials better than their mean does, and only near to
    measurements. None without a parameter that is searched continuously and has four different values.
    """
    scales = axes_of(view)
    if not scales:
        return None
    kinds = ((view.objectives.fidelity, lambda c: c.fidelity), (view.objectives.memorization, lambda c: c.memorization))
    rows = [(name, responses(view, scales, objective)) for name, objective in kinds]
    columns = len(rows[0][1])
    figure = new_figure(0.4 + 3.4 * columns, 6.3)
    for row, (name, found) in enumerate(rows):
        for column, response in enumerate(found):
            box = (0.6 + column * 3.4, 0.58 + (1 - row) * 2.75, 2.22, 2.1)
            axes = figure.add_axes(_share(figure, box))
            norm, logarithmic = _norm(response)
            fitted = _fitted(scales, response, logarithmic)
            draw = _plane if len(scales) == 2 else _line
            draw(axes, scales, response, fitted, norm, logarithmic)
            _label(axes, scales, name, response, fitted, logarithmic, last=row == 1)
    over = " and ".join(scale.name for scale in scales)
    line = "Rungs apart: later ones hold only trials that were not stopped. All other parameters vary along."
    titled(figure, f"{rows[0][0]} and {rows[1][0]} over {over}{view.unfinished}", line)
    return save(figure, path)


def _share(figure: Figure, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box in inches as shares of the figure."""
    wide, high = figure.get_size_inches()
    return box[0] / wide, box[1] / high, box[2] / wide, box[3] / high


def _norm(response: Response) -> tuple[Normalize, bool]:
    """A panel's scale of colours, DDPM's value included; logarithmic for positive values over most of a decade."""
    from matplotlib.colors import LogNorm, Normalize

    values = [*response.values, *([] if response.ddpm is None else [response.ddpm])]
    low, high = float(min(values)), float(max(values))
    if low > 0 and high > 8 * low:
        return LogNorm(low, high), True
    return Normalize(low, high if high > low else low + (0.1 * abs(low) or 0.1)), False


def _fitted(scales: Sequence[Scale], response: Response, logarithmic: bool) -> Surface | None:
    if len(response.values) < _ENOUGH:
        return None
    units = np.stack([s.unit(column) for s, column in zip(scales, response.points.T, strict=True)], axis=1)
    return fit_surface(units, np.log(response.values) if logarithmic else response.values)


def _plane(
    axes: Axes, scales: Sequence[Scale], response: Response, fitted: Surface | None, norm: Any, logarithmic: bool
) -> None:
    """Points, coloured by their values, on the surface in the same colours; DDPM as a strip at the left."""
    look: dict[str, Any] = {"cmap": "cividis", "norm": norm}
    if fitted is not None:
        side = np.linspace(-1, 1, _GRID)
        grid = np.stack(np.meshgrid(side, side), axis=2).reshape(-1, 2)
        heights = np.exp(fitted(grid)) if logarithmic else fitted(grid)
        shown = np.ma.masked_where(~fitted.near(grid), heights).reshape(_GRID, _GRID)
        axes.pcolormesh(scales[0].value(side), scales[1].value(side), shown, shading="nearest", **look, zorder=1)
    size = float(np.clip(500 / len(response.values), 5, 30))
    edge = 0.5 if len(response.values) < 300 else 0.15
    x, y = response.points.T
    drawn = axes.scatter(x, y, s=size, c=response.values, edgecolor="white", linewidth=edge, zorder=3, **look)
    if len(response.values) <= _TOLD:
        for point, value in zip(response.points, response.values, strict=True):
            axes.annotate(
                f"{value:.3g}", point, textcoords="offset points", xytext=(0, 5), ha="center", fontsize=6.5, zorder=4
            )
    bar = axes.figure.colorbar(drawn, ax=axes, cax=axes.inset_axes((1.03, 0, 0.045, 1)))
    bar.ax.tick_params(labelsize=7)
    few_ticks(bar.ax.yaxis, log=logarithmic)
    if response.ddpm is not None and scales[0].name == "sigma_tn":
        _ddpm_strip(axes, scales[0], response.ddpm, norm)


def _ddpm_strip(axes: Axes, scale: Scale, value: float, norm: Any) -> None:
    """Plain DDPM, in its value's colour: sigma_tn = 0 is left of every other, whatever the rest."""
    left, middle, right = scale.value(np.array([-1.36, -1.27, -1.18]))
    axes.axvspan(left, right, facecolor=_colour(value, norm), edgecolor=VERMILLION, linewidth=1.2, zorder=2)
    axes.text(
        middle, 0.5, f"DDPM {value:.3g}", rotation=90, fontsize=6.5, ha="center", va="center", zorder=4,
        transform=axes.get_xaxis_transform(),
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.7, "alpha": 0.85},
    )  # fmt: skip


def _colour(value: float, norm: Any) -> Any:
    from matplotlib import colormaps

    return colormaps["cividis"](norm(value))


def _line(
    axes: Axes, scales: Sequence[Scale], response: Response, fitted: Surface | None, norm: Any, logarithmic: bool
) -> None:
    """Points and the curve through them, with what it is off by at a point that was left out; DDPM as a line."""
    if fitted is not None:
        side = np.linspace(-1, 1, 4 * _GRID)[:, None]
        side = side[fitted.near(side)]
        middle = fitted(side)
        back: Callable[[Array], Array] = np.exp if logarithmic else np.asarray
        at = scales[0].value(side[:, 0])
        axes.fill_between(
            at, back(middle - fitted.error), back(middle + fitted.error), color=BLUE, alpha=0.18, linewidth=0
        )
        axes.plot(at, back(middle), color=BLUE, linewidth=1.4)
    size = float(np.clip(500 / len(response.values), 5, 24))
    axes.scatter(response.points[:, 0], response.values, s=size, color=BLUE, edgecolor="white", linewidth=0.4, zorder=3)
    if response.ddpm is not None:
        axes.axhline(response.ddpm, color=VERMILLION, linestyle=(0, (5, 2)), linewidth=1.2)
    if logarithmic:
        axes.set_yscale("log")
    few_ticks(axes.yaxis, log=logarithmic)
    room = 0.05 * (norm.vmax - norm.vmin)
    axes.set_ylim(*((norm.vmin / 1.1, norm.vmax * 1.1) if logarithmic else (norm.vmin - room, norm.vmax + room)))


def _label(
    axes: Axes, scales: Sequence[Scale], name: str, response: Response, fitted: Surface | None, logarithmic: bool,
    *, last: bool,
) -> None:  # fmt: skip
    """The axes of a panel, and above it: how many trials, and what a left-out one is predicted to within."""
    plain(axes)
    left = -1.4 if response.ddpm is not None and scales[0].name == "sigma_tn" and len(scales) == 2 else -1.06
    if len(scales) == 2:
        axes.grid(visible=False)
        axes.set_yscale("log" if scales[1].log else "linear")
        axes.set_ylim(*scales[1].value(np.array([-1.06, 1.13])))
        few_ticks(axes.yaxis, log=scales[1].log)
    axes.set_xscale("log" if scales[0].log else "linear")
    axes.set_xlim(*scales[0].value(np.array([left, 1.1])))
    few_ticks(axes.xaxis, log=scales[0].log)
    axes.tick_params(labelsize=7.5, labelbottom=last)
    axes.set_xlabel(scales[0].name if last else "", fontsize=8.5)
    axes.set_ylabel(scales[1].name if len(scales) == 2 else name, fontsize=8.5)
    n = len(response.values)
    ddpm = "" if response.ddpm is None or left < -1.1 else f", DDPM {response.ddpm:.3g}"
    head = f"{name}, {short_count(response.images)} images, {n} trial{'s' if n > 1 else ''}{ddpm}"
    axes.set_title(
        f"{head}\n{_error(response, fitted, logarithmic)}", fontsize=7.5, loc="left", y=1.01, linespacing=1.25
    )


def _error(response: Response, fitted: Surface | None, logarithmic: bool) -> str:
    """What the surface is worth."""
    if len(response.values) < _ENOUGH:
        return "too few trials for a surface"
    if fitted is None:
        return "no surface is better than the mean"
    errors = (fitted.error, fitted.mean_error)
    off, mean = (f"{100 * np.expm1(e):.0f} %" if logarithmic else f"{e:.2g}" for e in errors)
    return f"left-out trials are off by {off} (by their mean: {mean})"
