"""The picture of which parameter matters for which objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ambient_ray.tracking.drawing.galleries import BLUE, SKY
from ambient_ray.tuning.records import Candidate

from .canvas import new_figure, plain, save, titled
from .front import short_count
from .importance import ABSENT, Importances, importances
from .study_view import StudyView

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AtRung:
    """The importances for an objective among the trials that were scored at one rung. images: its training length."""

    images: int
    of: Importances


def study_importances(view: StudyView, objective: Callable[[Candidate], float]) -> tuple[AtRung, ...]:
    """Each searched parameter's importance for an objective, at the first and at the last rung where it can be told.

    Trials are compared at the same training length, where most of what makes them differ is the parameters. (At each
    trial's best rung it is the length: one that was stopped early has copied little, and that is not the merit of its
    parameters.) At the first rung there are all trials, at the last those that were not stopped. Plain DDPM lies
    outside of the space and is left out.
    """
    rungs: dict[int, list[Candidate]] = {}
    for candidate in view.candidates:
        if candidate.trial.arm != "ddpm":
            rungs.setdefault(candidate.rung.rung, []).append(candidate)

    def told(order: Iterable[int]) -> AtRung | None:
        return next((at for rung in order if (at := _at(view, rungs[rung], objective)) is not None), None)

    first, last = told(sorted(rungs)), told(sorted(rungs, reverse=True))
    if first is None or last is None:
        return ()
    return (first,) if first.images == last.images else (first, last)


def _at(view: StudyView, some: Sequence[Candidate], objective: Callable[[Candidate], float]) -> AtRung | None:
    columns = {name: [c.trial.settings.get(name, ABSENT) for c in some] for name in view.searched}
    of = importances(columns, np.array([objective(c) for c in some]))
    return None if of is None else AtRung(some[0].rung.images_seen, of)


def importance_figure(view: StudyView, path: Path) -> Path | None:
    """Write each parameter's importance for both objectives as a PNG; None where none can be told yet."""
    found = (study_importances(view, lambda c: c.fidelity), study_importances(view, lambda c: c.memorization))
    known = [at for both in found for at in both]
    if not known:
        return None
    names = _order(found)
    top = 0.76 + 0.15 * max(map(len, found))
    height = 0.78 + top + 0.36 * len(names)
    figure = new_figure(7.2, height)
    wide = 0.02 + 0.0095 * max(map(len, names))
    panels = (0.97 - wide - 0.04) / 2
    objectives = (view.objectives.fidelity, view.objectives.memorization)
    for k, (both, objective) in enumerate(zip(found, objectives, strict=True)):
        axes = figure.add_axes((wide + k * (panels + 0.04), 0.78 / height, panels, 1 - (top + 0.78) / height))
        _panel(axes, names, both)
        axes.set_title(_head(objective, both), fontsize=8, loc="left", y=1.01, linespacing=1.25)
        axes.set_yticks(range(len(names)), names if k == 0 else [""] * len(names))
        axes.set_xlim(0, 106 * max(each.high for at in known for each in at.of.each))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("share of how trials differ, in %", fontsize=8.5)
    figure.legend(handles=_legend(found), loc="lower center", ncol=4, fontsize=8, frameon=False)
    straight = any(at.of.degree == 1 for at in known)
    line = "Trials at the same training length; main effects on a score's rank, with 95 % intervals."
    line += " Few trials: straight trends only." if straight else ""
    titled(figure, f"How much each parameter matters for each objective{view.unfinished}", line)
    return save(figure, path)


def _order(found: Sequence[Sequence[AtRung]]) -> list[str]:
    """The parameters, those first that matter most for either objective at either rung."""
    shares: dict[str, float] = {}
    for both in found:
        for at in both:
            for each in at.of.each:
                shares[each.name] = max(shares.get(each.name, 0.0), each.share)
    return sorted(shares, key=lambda name: -shares[name])


def _head(objective: str, both: Sequence[AtRung]) -> str:
    if not both:
        return f"{objective}\nall trials have the same value"
    told = [f"{at.of.n} trials at {short_count(at.images)} images: {100 * at.of.explained:.0f} %" for at in both]
    return "\n".join([f"{objective}, all parameters together", *told])


#: The last rung and the first, with the colours of their bars.
_LOOKS = ((-1, BLUE), (0, SKY))


def _panel(axes: Axes, names: Sequence[str], both: Sequence[AtRung]) -> None:
    plain(axes)
    axes.grid(visible=False, axis="y")
    rows = {name: row for row, name in enumerate(names)}
    for which, colour in _LOOKS[: len(both)]:
        at, high = both[which], 0.32 / len(both)
        off = 0.0 if len(both) == 1 else (-0.2 if which else 0.2)
        places = np.array([rows[e.name] + off for e in at.of.each])
        sure = [e.found for e in at.of.each]
        axes.barh(
            places, [100 * e.share for e in at.of.each], 2 * high, color=[colour if s else "white" for s in sure],
            edgecolor=colour, hatch=["" if s else "////" for s in sure], linewidth=0.8,
        )  # fmt: skip
        axes.hlines(places, *(100 * np.array([[e.low, e.high] for e in at.of.each]).T), color="black", linewidth=0.9)
        nulls = 100 * np.array([e.null for e in at.of.each])
        axes.vlines(nulls, places - high - 0.03, places + high + 0.03, color="black", linewidth=2.0)


def _legend(found: Sequence[Sequence[AtRung]]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    most = max(found, key=len)
    handles: list[Any] = [Patch(color=BLUE, label=f"at {short_count(most[-1].images)} images")]
    if len(most) > 1:
        handles.append(Patch(color=SKY, label=f"at {short_count(most[0].images)} images"))
    handles.append(Patch(facecolor="white", edgecolor=BLUE, hatch="////", label="no more than chance"))
    tick: dict[str, Any] = {"marker": "|", "markersize": 11, "markeredgewidth": 2.0, "linestyle": "none"}
    return [*handles, Line2D([], [], color="black", label="chance exceeds this in 1 of 20", **tick)]
