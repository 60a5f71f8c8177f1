"""What the search has gained for the images that it trained on: the hypervolume of its front as it grew."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ambient_ray.tracking.drawing.galleries import BLUE, VERMILLION
from ambient_ray.tuning.pareto import hypervolume
from ambient_ray.tuning.records import RungRecord, TrialRecord

from .canvas import ARMS, new_figure, plain, save, titled
from .front import short_count
from .study_view import StudyView, finite_candidates, key_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def hypervolume_curve(view: StudyView) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(images [k], volume [k]) after each of the k rungs of the search, in the order in which it heard of them.

    images: trained on so far by the search's trials, replicas not counted; volume: of the front so far, below the
    study's reference, also before that was settled. A rung without finite scores costs its images and adds nothing.
    Rungs whose time nobody noted come first, by trial number. Both are empty before there is a reference.
    """
    if view.reference is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    points = {key_of(c): c.point for c in view.candidates}
    spent, front, images, volumes = 0, GrowingFront(view.reference), [], []
    for trial, rung, cost in rungs_in_order(view.own):
        spent += cost
        point = points.get((trial.number, rung.rung))
        if point is not None:
            front.add(point)
        images.append(spent)
        volumes.append(front.volume)
    return np.array(images, dtype=np.int64), np.array(volumes)


def rungs_in_order(trials: Iterable[TrialRecord]) -> list[tuple[TrialRecord, RungRecord, int]]:
    """Every rung with its trial and the images that it added to the trial's training, as they became known."""
    found = []
    for trial in trials:
        before = 0
        for rung in trial.rungs:
            found.append((trial, rung, max(rung.images_seen - before, 0)))
            before = max(rung.images_seen, before)
    return sorted(found, key=lambda item: (item[1].at, item[0].number, item[1].rung))


class GrowingFront:
    """A front of two minimised objectives and the area that it dominates, point after point.

    A point costs the logarithm of the front's size, and what it throws out; all points together O(n log n).

    Args:
        reference: what bounds the area; points that do not beat it in both objectives add nothing.
    """

    def __init__(self, reference: tuple[float, float]) -> None:
        self._right, self._top = reference
        self._xs: list[float] = []  # rising, and the ys falling
        self._ys: list[float] = []
        self.volume = 0.0

    def add(self, point: tuple[float, float]) -> bool:
        """Add a point; whether the front has grown."""
        x, y = point
        if x >= self._right or y >= self._top:
            return False
        at = bisect_left(self._xs, x)
        if (at > 0 and self._ys[at - 1] <= y) or (at < len(self._xs) and self._xs[at] == x and self._ys[at] <= y):
            return False
        ceiling, left, end = self._ys[at - 1] if at else self._top, x, at
        while end < len(self._xs) and self._ys[end] >= y:  # those that it dominates
            self.volume += (self._xs[end] - left) * (ceiling - y)
            ceiling, left, end = self._ys[end], self._xs[end], end + 1
        right = self._xs[end] if end < len(self._xs) else self._right
        self.volume += (right - left) * (ceiling - y)
        self._xs[at:end], self._ys[at:end] = [x], [y]
        return True


def hypervolume_figure(view: StudyView, path: Path) -> Path | None:
    """Write the curve as a PNG, with the volume that DDPM reaches alone; None before there is a reference.

    Steps are marked by the arm whose point made them. DDPM's line is its first baseline's volume over all of its stops;
    where DDPM was trained again on other seeds to the same length, the band says how far that volume moves by chance.
    """
    images, volumes = hypervolume_curve(view)
    if not len(images) or view.reference is None:
        return None
    figure = new_figure(7.2, 4.2)
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.7))
    axes.step([0, *images], [0.0, *volumes], where="post", color=BLUE, linewidth=1.8, zorder=3, label="the search")
    _steps(axes, view, images, volumes)
    alone = _ddpm_alone(axes, view)
    plain(axes)
    if images[-1] > 30 * max(view.rungs, default=images[-1]):  # of many trials, most is gained by the first
        axes.set_xscale("log")
        axes.set_xlim(images[0], images[-1] * 1.1)
    else:
        axes.set_xlim(0, images[-1] * 1.02)
    axes.set_ylim(0, max([*volumes, *alone, 1e-12]) * 1.12)
    axes.xaxis.set_major_formatter(lambda x, _: short_count(round(x)))
    axes.set_xlabel("images trained on by the search, all trials together", fontsize=9)
    axes.set_ylabel("hypervolume (larger is better)", fontsize=9)
    right, top = view.reference
    limit = f"{view.objectives.fidelity} {right:.4g} and {view.objectives.memorization} {top:g}"
    line = f"{volumes[-1]:.4g} after {short_count(int(images[-1]))} images and {len(images)} scored rungs"
    line += f"; {alone[0]:.4g} for DDPM alone" if alone else ""
    titled(figure, f"What the search has gained{view.unfinished}", f"{line}. Bounded by {limit}.")
    axes.legend(fontsize=8, loc="lower right", framealpha=0.9, edgecolor="none")
    return save(figure, path)


def _steps(axes: Axes, view: StudyView, images: NDArray[np.int64], volumes: NDArray[np.float64]) -> None:
    """A mark at each rung that enlarged the front, by arm."""
    grown = np.flatnonzero(np.diff(volumes, prepend=0.0) > 0)
    arms = [trial.arm for trial, _, _ in rungs_in_order(view.own)]
    for key, arm in ARMS.items():
        at = [i for i in grown if arms[i] == key]
        if at:
            axes.plot(
                images[at], volumes[at], arm.marker, color=arm.colour, markersize=4.5, markeredgecolor="white",
                markeredgewidth=0.5, linestyle="none", zorder=5, label=f"enlarged by {arm.name}",
            )  # fmt: skip


def _ddpm_alone(axes: Axes, view: StudyView) -> list[float]:
    """Draw DDPM's own volume, and its range over other seeds; the volumes, the baseline's first."""
    if not view.ddpm or view.reference is None:
        return []
    volumes = [hypervolume([c.point for c in view.ddpm], view.reference)]
    axes.axhline(volumes[0], color=VERMILLION, linewidth=1.4, linestyle=(0, (5, 2)), zorder=4, label="DDPM alone")
    baseline, reached = view.ddpm[0].trial.number, view.ddpm[-1].rung.rung
    again = [t for t in view.trials if t.replica_of == baseline and t.rungs and t.rungs[-1].rung >= reached]
    for replica in again:
        stops = [c.point for c in finite_candidates([replica], view.objectives)]
        volumes.append(hypervolume(stops, view.reference))
    if again:
        axes.axhspan(
            min(volumes), max(volumes), color=VERMILLION, alpha=0.13, linewidth=0, zorder=1,
            label=f"DDPM on {len(volumes)} training seeds",
        )  # fmt: skip
    return volumes
