"""Two studies side by side: what was set differently, whether their scores compare, and what each found."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ambient_ray.interval import Interval
from ambient_ray.tracking.drawing.galleries import BLUE, VERMILLION
from ambient_ray.tuning.pareto import hypervolume
from ambient_ray.tuning.records import Candidate

from ..comparison import copying, quality
from ..tables import Column, Table, front_table
from ..volume import bounds
from .document import Block, Document, Figure, Notice, Paragraph, Section
from .method import MACHINE, common_facts, short
from .recall import Recalled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def two_studies(a: Recalled, b: Recalled, now: float | None = None) -> Document:
    """The comparison of two studies; scores stand in one plane and in one sentence only where they compare.

    now: when it is made, in seconds since 1970; None: now.
    """
    made = datetime.fromtimestamp(now, UTC) if now is not None else datetime.now(UTC)
    differing = incomparable(a, b)
    opening: list[Block] = [
        Notice("Still running.", f"Study `{s.stored.name}` has not ended; its side is as it stands.")
        for s in (a, b)
        if s.stored.running
    ]
    if differing:
        text = f"They were not measured alike: {'; '.join(differing)}. Each answer holds within its own study."
        opening.append(Notice("The scores of these two studies do not compare.", text))
    else:
        opening.append(Paragraph(champions_sentence(a, b), "lead"))
    sections = [
        Section("What each found", _answers(a, b)),
        Section("The fronts", _fronts(a, b, alike=not differing)),
        Section("What was set differently", (differences(a, b),)),
    ]
    byline = f"{_name(a)} beside {_name(b)} · {made:%-d %B %Y}"
    return Document(f"{a.stored.name} and {b.stored.name}, side by side", byline, tuple(opening), tuple(sections))


def incomparable(a: Recalled, b: Recalled) -> tuple[str, ...]:
    """Why scores of the two do not compare, a text each; empty where they do (`ambient_ray.evaluation.comparable`)."""
    from ambient_ray.evaluation import comparable

    if not a.land.candidates or not b.land.candidates:
        empty = [s.stored.name for s in (a, b) if not s.land.candidates]
        return tuple(f"{name} has no scores yet" for name in empty)
    found = []
    if a.objectives != b.objectives:
        ours, theirs = (f"{s.objectives.fidelity} and {s.objectives.memorization}" for s in (a, b))
        found.append(f"the objectives are {ours} in one and {theirs} in the other")
    here, there = common_facts(a), common_facts(b)
    for key in comparable(here, there) or ():
        found.append(f"{key} is {_said(here.get(key))} in one and {_said(there.get(key))} in the other")
    return tuple(found)


def champions_sentence(a: Recalled, b: Recalled) -> str:
    """Both champions with their intervals, and what these carry: less copying counts where fidelity is not worse."""
    first, second = _champion(a), _champion(b)
    if first is None or second is None:
        return "At least one of the two has no champion, so there is nothing to compare."
    name, distance = a.objectives.memorization, a.objectives.fidelity
    text = (
        f"The champion of {a.stored.name} has {name} {first[1].text()} at {distance} {first[0].text('.3g')}, that of"
        f" {b.stored.name} {second[1].text()} at {second[0].text('.3g')}: "
    )
    pairs = ((a, first, second), (b, second, first))
    less = next(((study, ours, theirs) for study, ours, theirs in pairs if ours[1].below(theirs[1])), None)
    if less is None:
        text += "no evidence of a difference in copying (the 95 % intervals overlap, or one has none)."
    elif less[2][0].below(less[1][0]):
        text += f"that of {less[0].stored.name} copies less at a worse fidelity, so neither is the better one."
    else:
        text += f"that of {less[0].stored.name} copies less, and its fidelity is not shown to be worse."
    single = [study.stored.name for study in (a, b) if not study.verdict.confirmed]
    if single:
        text += (
            f" Not confirmed on fresh seeds: {' and '.join(single)}, whose numbers are of one run, the best of many."
        )
    return text


def differences(a: Recalled, b: Recalled) -> Table:
    """Every setting, data fact and version in which the two differ, but not where they ran."""
    rows = [
        (f"`{key}`", _said(ours), _said(theirs))
        for key, ours, theirs in ((key, *(_settings(s).get(key) for s in (a, b))) for key in _keys(a, b))
        if ours != theirs
    ]
    names = ("setting", a.stored.name, b.stored.name)
    caption = "Settings, data and versions that differ" if rows else "All settings, data and versions are the same"
    return Table(caption, tuple(Column(name, False) for name in names), tuple(rows))


def _answers(a: Recalled, b: Recalled) -> tuple[Block, ...]:
    sides = [_in_numbers(s) for s in (a, b)]
    rows = tuple((name, sides[0][name], sides[1][name]) for name in sides[0])
    names = ("", a.stored.name, b.stored.name)
    return (
        *(Paragraph(f"**{s.stored.name}:** {s.verdict.sentence}") for s in (a, b)),
        Table("Both studies in numbers", tuple(Column(name, False) for name in names), rows),
    )


def _in_numbers(study: Recalled) -> dict[str, str]:
    champion = _champion(study)
    return {
        "trials": f"{len(study.own)}",
        "replicas": f"{len(study.replicas)}",
        "candidates": f"{len(study.land.candidates)}",
        "champion": _where(study.verdict.champion),
        "its fidelity": champion[0].text(".3g") if champion else "–",
        "its memorization": champion[1].text() if champion else "–",
        "hypervolume": f"{study.land.hypervolume:.4g}" if study.land.reference else "–",
        "bounded by": bounds(study.land, study.objectives, study.delta) or "–",
    }


def _fronts(a: Recalled, b: Recalled, *, alike: bool) -> tuple[Block, ...]:
    found: list[Block] = []
    if alike:
        caption = f"Both fronts, with 95 % intervals over samples: {a.stored.name} solid with dots, {b.stored.name} "
        caption += "dashed with squares; pale marks are all other candidates. Left and down is better."
        found.append(Figure(both_fronts(a, b), caption, "Two fronts of fidelity against memorization"))
        if a.land.reference and b.land.reference:
            limit = max(a.land.reference, b.land.reference)
            volumes = [hypervolume([c.point for c in s.land.candidates], limit) for s in (a, b)]
            found.append(Paragraph(
                f"Under one bound, {a.objectives.fidelity} {limit[0]:.4g} and {a.objectives.memorization} {limit[1]:g},"
                f" {a.stored.name} dominates {volumes[0]:.4g} and {b.stored.name} {volumes[1]:.4g}.", "small"
            ))  # fmt: skip
    for study in (a, b):
        if study.land.front:
            table = front_table(study.land, study.objectives, study.verdict.champion)
            found.append(Table(f"{study.stored.name}: {table.caption}", table.columns, table.rows, table.marked))
    return tuple(found)


def both_fronts(a: Recalled, b: Recalled) -> bytes:
    """The two fronts in one plane, as a PNG: told apart by colour, mark and dash."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Canvas(figsize=(7.2, 4.6), dpi=160, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for study, colour, mark, dash in ((a, BLUE, "o", "-"), (b, VERMILLION, "s", (0, (5, 2)))):
        _draw(axes, study, colour, mark, dash)
    axes.set_xlabel(f"{a.objectives.fidelity}  (lower is better)")
    axes.set_ylabel(f"{a.objectives.memorization}  (lower is better)")
    xs = [c.fidelity for s in (a, b) for c in s.land.candidates]
    if min(xs) > 0 and max(xs) / min(xs) > 8:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(fontsize=8.5, frameon=False)
    stored = io.BytesIO()
    figure.savefig(stored)
    return stored.getvalue()


def _draw(axes: Axes, study: Recalled, colour: str, mark: str, dash: Any) -> None:
    every, front = study.land.candidates, study.land.front
    axes.scatter([c.fidelity for c in every], [c.memorization for c in every], s=13, marker=mark, color=colour,
                 alpha=0.25, linewidth=0)  # fmt: skip
    axes.step([c.fidelity for c in front], [c.memorization for c in front], where="post", color=colour, linestyle=dash,
              linewidth=1.5, marker=mark, markersize=5.5, label=study.stored.name)  # fmt: skip
    for candidate in front:
        interval = copying(candidate, study.objectives)
        if interval.low is not None and interval.high is not None:
            axes.plot([candidate.fidelity] * 2, [interval.low, interval.high], color=colour, linewidth=1, alpha=0.7)


def _champion(study: Recalled) -> tuple[Interval, Interval] | None:
    """(fidelity, memorization) of the champion, over fresh seeds where it was confirmed."""
    champion = study.verdict.champion
    if champion is None:
        return None
    point = next((p for p in study.verdict.confirmed if p.original == champion), champion)
    return quality(point, study.objectives), copying(point, study.objectives)


def _where(candidate: Candidate | None) -> str:
    if candidate is None:
        return "none"
    return f"trial {candidate.trial.number}, {candidate.trial.label}, {candidate.rung.images_seen:,} images"


def _settings(study: Recalled) -> dict[str, Any]:
    """All that might be set otherwise: settings, the data's hash, versions and the commit."""
    stored, data = study.stored, study.stored.dataset
    found = {k: short(k, v) if v is not None else None for k, v in stored.params.items()}
    found = {k: v for k, v in found.items() if k not in MACHINE and not k.startswith("tracking.")}
    if data is not None:
        found |= {"data": data.name, "data SHA-256": data.content_hash}
        found |= {f"data {key}": value for key, value in data.profile.items()}
    found |= {key.removeprefix("system."): v for key, v in stored.tags.items() if key.startswith("system.")}
    return found | {"git commit": stored.tags.get("mlflow.source.git.commit"), "searched": ", ".join(study.searched)}


def _keys(a: Recalled, b: Recalled) -> Sequence[str]:
    return [key for key in dict.fromkeys([*_settings(a), *_settings(b)]) if key != "study"]


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _name(study: Recalled) -> str:
    return f"Study `{study.stored.name}` ({len(study.own)} trials)"
