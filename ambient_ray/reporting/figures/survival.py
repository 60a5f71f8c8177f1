"""How many trials each rung let through, and the training that stopping the others has spared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ambient_ray.tracking.drawing.galleries import BLUE, ORANGE, SKY
from ambient_ray.tuning.records import TrialRecord

from .canvas import ARMS, new_figure, plain, save, titled
from .front import short_count
from .study_view import StudyView

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Survival:
    """What became of an arm's trials at one rung; reached = scored + running + failed.

    Attributes:
        reached: trials that began to train towards it.
        scored: of those, how many were scored at it.
        went_on: of those scored, how many were let go on, or had nothing left to do.
        stopped: of those scored, how many the judge stopped there.
        failed: how many failed on the way to it.
        running: how many are on the way to it.
    """

    reached: int
    scored: int
    went_on: int
    stopped: int
    failed: int
    running: int


def survival(trials: Sequence[TrialRecord], rungs: int) -> tuple[Survival, ...]:
    """One entry a rung, of these trials.

    A trial is at the rung after the last that it was scored at: failed there or running towards it, unless it was
    stopped or has finished.

    Args:
        trials: any, e.g. those of one arm.
        rungs: how many there are.
    """
    found = []
    for rung in range(rungs):
        scored = [t for t in trials if _passed(t) > rung]
        stopped = sum(t.state == "stopped" for t in scored if _passed(t) == rung + 1)
        here = [t for t in trials if _passed(t) == rung]
        failed, running = sum(t.state == "failed" for t in here), sum(t.state == "running" for t in here)
        reached = len(scored) + failed + running
        found.append(Survival(reached, len(scored), len(scored) - stopped, stopped, failed, running))
    return tuple(found)


def _passed(trial: TrialRecord) -> int:
    """How many rungs it was scored at: a record that was lost on the way counts as scored."""
    return trial.rungs[-1].rung + 1 if trial.rungs else 0


def spared_images(view: StudyView) -> tuple[int, int]:
    """(images that stopping spared, images of all the search's trials if none had been stopped)."""
    stopped = [t for t in view.own if t.state == "stopped"]
    whole = view.rungs[-1] if view.rungs else 0
    spared = sum(whole - (t.rungs[-1].images_seen if t.rungs else 0) for t in stopped)
    ran = sum(t.rungs[-1].images_seen for t in view.own if t.rungs)
    return spared, ran + spared


def survival_figure(view: StudyView, path: Path) -> Path | None:
    """Write the rungs' survival as a PNG; None before a trial has begun.

    A bar a rung and arm, as a share of the arm's trials, with the counts inside.
    """
    arms = {key: [t for t in view.own if t.arm == key] for key in ARMS}
    arms = {key: trials for key, trials in arms.items() if trials}
    if not arms or not view.rungs:
        return None
    rows = len(view.rungs)
    height = 1.65 + sum(0.34 + 0.27 * rows for _ in arms)
    figure = new_figure(7.2, height)
    axes = figure.add_axes((0.135, 0.8 / height, 0.495, 1 - 1.38 / height))
    place, ticks, labels = 0.0, [], []
    for key, trials in arms.items():
        axes.text(0, place, f"{ARMS[key].name}: {_trials(len(trials))}", fontsize=8.5, va="center", weight="bold")
        axes.text(101, place, _row(_TABLE), color="#444444", va="center", **_MONO)
        found = survival(trials, rows)
        places = [place + 1 + k for k in range(rows)]
        _bars(axes, places, found, len(trials))
        ticks += places
        labels += [f"{short_count(n)} images" for n in view.rungs]
        place += rows + 1.3
    axes.set_ylim(place - 0.8, -0.7)
    axes.set_xlim(0, 100)
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the arm's trials in %, with their number", fontsize=9)
    figure.legend(*axes.get_legend_handles_labels(), loc="lower center", ncol=5, fontsize=8, frameon=False)
    spared, whole = spared_images(view)
    line = "No trial was stopped." if not spared else (
        f"Stopping spared {short_count(spared)} of {short_count(whole)} training images ({100 * spared / whole:.0f} %)."
    )  # fmt: skip
    titled(figure, f"What became of the trials at each rung{view.unfinished}", line)
    return save(figure, path)


# Told apart in grey by lightness and hatching.
_KINDS = (
    ("went_on", "went on, or finished", BLUE, "", "white"),
    ("stopped", "stopped by the judge", ORANGE, "////", "black"),
    ("running", "running", SKY, "..", "black"),
    ("failed", "failed", "black", "", "white"),
)


def _bars(axes: Axes, places: Sequence[float], found: Sequence[Survival], trials: int) -> None:
    left = [0.0] * len(found)
    named = set(axes.get_legend_handles_labels()[1])
    for kind, name, colour, hatch, ink in _KINDS:
        counts = [getattr(entry, kind) for entry in found]
        widths = [100 * count / trials for count in counts]
        axes.barh(
            places, widths, 0.78, left, color=colour, hatch=hatch, edgecolor="white" if not hatch else "#555555",
            linewidth=0.5, label=None if name in named else name,
        )  # fmt: skip
        for place, start, width, count in zip(places, left, widths, counts, strict=True):
            if count and width >= 1.6 + 1.7 * len(str(count)):
                box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if hatch else None
                axes.text(
                    start + width / 2, place, str(count), fontsize=7.5, color=ink, ha="center", va="center", bbox=box
                )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, entry in zip(places, found, strict=True):
        counts = [getattr(entry, name) for name in _TABLE]
        axes.text(101, place, _row([str(n) if n else "·" for n in counts]), va="center", **_MONO)


#: The numbers themselves, since a small share has no room for its own.
_TABLE = ("reached", "scored", "stopped", "failed", "running")


_MONO: dict[str, Any] = {"fontsize": 7, "family": "DejaVu Sans Mono"}


def _row(cells: Sequence[str]) -> str:
    """A line of the table, as one text: forty of them would take longer than all bars."""
    return "".join(f"{cell:>8}" for cell in cells)


def _trials(n: int) -> str:
    return f"{n} trial" if n == 1 else f"{n} trials"
