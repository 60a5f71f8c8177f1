"""The picture of a study: the plane of fidelity and memorization, its front, and DDPM's path through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.tracking.drawing.galleries import BLUE, GREEN, GREY, SKY, VERMILLION

from .canvas import new_figure, plain, save
from .study_view import StudyView, key_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FrontPoint:
    """One candidate: a trial at a rung. Both scores are minimised; low, high: CI of memorization."""

    fidelity: float
    memorization: float
    low: float | None = None
    high: float | None = None
    images_seen: int = 0
    trial: int = 0
    arm: str = "ambient"
    on_front: bool = False
    champion: bool = False


def front_figure(
    points: Sequence[FrontPoint],
    path: Path,
    *,
    fidelity: str = "Fréchet distance",
    memorization: str = "share of copied samples",
    null: float | None = None,
    title: str | None = None,
) -> Path:
    """Write the plane as a PNG and return its path.

    All candidates faint, the Pareto front as a step line with its intervals, DDPM's path through its rungs
    (of the first DDPM trial) with arrows and training lengths, the champion marked, the held-out null as a
    line. fidelity, memorization: axis labels. Points that are not finite are left out; ValueError if none is
    left.
    """
    shown = [p for p in points if abs(p.fidelity) < float("inf") and abs(p.memorization) < float("inf")]
    if not shown:
        raise ValueError("a front figure needs at least one point with finite scores")
    figure = new_figure(7.2, 4.8)
    axes = figure.add_axes((0.09, 0.11, 0.895, 0.83))
    _limits(axes, shown, null)
    _candidates(axes, shown)
    _front(axes, [p for p in shown if p.on_front])
    _ddpm_path(axes, [p for p in shown if p.arm == "ddpm"])
    for p in shown:
        if p.champion:
            axes.scatter(
                p.fidelity, p.memorization, s=260, marker="*", color="#F0E442", edgecolor="black",
                linewidth=0.9, zorder=8, label="champion",
            )  # fmt: skip
    if null is not None:
        axes.axhline(
            null,
            color="black",
            linewidth=0.9,
            linestyle=(0, (2, 3)),
            zorder=1,
            label="held-out images (null)",
        )
    axes.set_xlabel(f"{fidelity}  (lower is better)")
    axes.set_ylabel(f"{memorization}  (lower is better)")
    axes.set_title(title or "Fidelity against memorization", fontsize=11, loc="left", y=1.01)
    plain(axes)
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none", loc="upper right")
    return save(figure, path)


def draw_front(view: StudyView, path: Path) -> Path | None:
    """Write the plane of a study as a PNG; None before there is a candidate."""
    if not view.candidates:
        return None
    name = view.objectives.memorization
    front = {key_of(c) for c in view.front}
    points = [
        FrontPoint(
            c.fidelity, c.memorization, c.rung.scores.get(f"{name}_low"), c.rung.scores.get(f"{name}_high"),
            images_seen=c.rung.images_seen, trial=c.trial.number, arm=c.trial.arm, on_front=key_of(c) in front,
            champion=key_of(c) == view.champion,
        )
        for c in view.candidates
    ]  # fmt: skip
    return front_figure(
        points, path, fidelity=view.objectives.fidelity, memorization=name, null=heldout_null(view),
        title=f"Fidelity against memorization{view.unfinished}",
    )  # fmt: skip


def heldout_null(view: StudyView) -> float | None:
    """The memorization score of held-out real images, which cannot have been copied; None where nobody measured it."""
    key = f"{view.objectives.memorization}_heldout"
    return next((c.rung.scores[key] for c in view.candidates if key in c.rung.scores), None)


def _limits(axes: Axes, points: Sequence[FrontPoint], null: float | None) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = sorted(p.fidelity for p in points)
    tops = [p.memorization for p in points] + [p.high for p in points if p.high is not None and p.on_front]
    tops += [null] if null is not None else []
    if xs[0] > 0 and xs[-1] / xs[0] > 8:
        axes.set_xscale("log")
        axes.set_xlim(xs[0] / 1.12, xs[-1] * 1.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = 0.06 * (xs[-1] - xs[0]) or 0.05 * abs(xs[0]) or 1.0
        axes.set_xlim(xs[0] - room, xs[-1] + 1.5 * room)
    top, bottom = max(tops), min(p.memorization for p in points)
    room = 0.07 * (top - bottom) or 0.05
    axes.set_ylim(bottom - room, top + 1.6 * room)


def _candidates(axes: Axes, points: Sequence[FrontPoint]) -> None:
    path = min((p.trial for p in points if p.arm == "ddpm"), default=None)  # drawn by _ddpm_path
    arms = (("Ambient", SKY, "o", lambda arm: arm == "ambient"),
            ("DDPM", VERMILLION, "s", lambda arm: arm == "ddpm"),
            ("other", GREY, "^", lambda arm: arm not in ("ambient", "ddpm")))  # fmt: skip
    for name, colour, marker, belongs in arms:
        some = [p for p in points if belongs(p.arm) and p.trial != path]
        if some:
            axes.scatter(
                [p.fidelity for p in some], [p.memorization for p in some],
                s=20, marker=marker, color=colour, alpha=0.45, linewidth=0, zorder=2,
                label=f"{name}, every trial and rung",
            )  # fmt: skip


def _front(axes: Axes, front: Sequence[FrontPoint]) -> None:
    if not front:
        return
    front = sorted(front, key=lambda p: (p.fidelity, -p.memorization))
    xs, ys = [p.fidelity for p in front], [p.memorization for p in front]
    # What the front dominates begins at its points and goes right and up: the step falls at the next point's
    # fidelity.
    right, top = axes.get_xlim()[1], axes.get_ylim()[1]
    axes.step(
        [xs[0], *xs, right],
        [top, *ys, ys[-1]],
        where="post",
        color=BLUE,
        linewidth=1.6,
        zorder=4,
        label="Pareto front",
    )
    _intervals(axes, front, BLUE)
    looks = (("ddpm", VERMILLION, "s"), ("ambient", BLUE, "o"), ("", GREEN, "^"))
    for arm, colour, marker in looks:
        some = [p for p in front if (p.arm if p.arm in ("ddpm", "ambient") else "") == arm]
        axes.scatter(
            [p.fidelity for p in some], [p.memorization for p in some],
            s=46, marker=marker, color=colour, edgecolor="white", linewidth=0.8, zorder=6,
        )  # fmt: skip


def _intervals(axes: Axes, points: Sequence[FrontPoint], colour: str) -> None:
    """Intervals of memorization, where there are."""
    some = [(p.fidelity, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if some:
        axes.vlines(*zip(*some, strict=True), color=colour, linewidth=1.1, alpha=0.7, zorder=4)


def _ddpm_path(axes: Axes, points: Sequence[FrontPoint]) -> None:
    """The first DDPM trial's rungs, joined in the order of training."""
    if not points:
        return
    first = min(p.trial for p in points)
    rungs = sorted((p for p in points if p.trial == first), key=lambda p: p.images_seen)
    axes.plot(
        [p.fidelity for p in rungs], [p.memorization for p in rungs], color=VERMILLION, linewidth=1.2,
        linestyle=(0, (5, 2)), marker="s", markersize=5, zorder=5, label="DDPM as it trains (images seen)",
    )  # fmt: skip
    for a, b in pairwise(rungs):
        axes.annotate(
            "",
            xy=(b.fidelity, b.memorization),
            xytext=(a.fidelity, a.memorization),
            arrowprops={"arrowstyle": "-|>", "color": VERMILLION, "linewidth": 0, "shrinkA": 0, "shrinkB": 4},
            zorder=5,
        )
    _intervals(axes, rungs, VERMILLION)
    for p in rungs:
        axes.annotate(
            short_count(p.images_seen), (p.fidelity, p.memorization), textcoords="offset points",
            xytext=(6, 5), fontsize=8, color="#8F3F00", zorder=7,
        )  # fmt: skip


def short_count(images: int) -> str:
    """`512`, `64k`, `1.5M`."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if images >= size:
            return f"{images / size:.3g}{unit}"
    return str(images)
