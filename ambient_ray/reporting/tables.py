"""The tables of a study as plain data: the terminal, the page and the PDF show the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.interval import Interval
from ambient_ray.tuning.confirmation import Confirmed
from ambient_ray.tuning.records import Candidate, Landscape, Objectives

from .comparison import copying, percent, quality
from .verdict import Match, memorization

CHAMPION = "champion"


@dataclass(frozen=True)
class Column:
    """A column: its heading, and whether it holds numbers, which are set to the right."""

    name: str
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    columns: in order; rows: of as many texts each; marked: indices of rows that stand out; notes: what a reader must
    know to read it, a sentence or more.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()
    notes: str = ""


def front_table(land: Landscape, objectives: Objectives, champion: Candidate | None) -> Table:
    """The front, best fidelity first, both scores with 95 % intervals over samples, and the champion marked."""
    rows = [
        (
            CHAMPION if candidate == champion else "",
            str(candidate.trial.number),
            candidate.trial.label,
            f"{candidate.rung.images_seen:,}",
            quality(candidate, objectives).text(".3g"),
            copying(candidate, objectives).text(),
        )
        for candidate in land.front
    ]
    return _table(
        "Pareto front: fidelity against memorization, both lower is better",
        ("", "trial", "configuration", "images seen", objectives.fidelity, objectives.memorization),
        rows,
        words=("", "configuration"),
    )


def match_table(found: Sequence[Match], objectives: Objectives, tolerance: float) -> Table:
    """DDPM's stops, each beside the least copying Ambient candidate at no worse a fidelity."""
    fidelity, copied = objectives.fidelity, objectives.memorization
    ours = "least copying Ambient candidate"
    rows = []
    for match in found:
        ambient = match.ambient
        where = f"{ambient.trial.label}, {ambient.rung.images_seen:,}" if ambient else "none comes as near"
        scores = (f"{ambient.fidelity:.3g}", memorization(ambient, objectives)) if ambient else ("", "")
        stop = (f"{match.ddpm.rung.images_seen:,}", f"{match.ddpm.fidelity:.3g}", memorization(match.ddpm, objectives))
        rows.append((*stop, where, *scores, match.word))
    return _table(
        f"The search's runs at the fidelity of each DDPM stop (within {percent(tolerance)})",
        ("DDPM stopped at", fidelity, copied, ours, fidelity, copied, "Ambient copies"),
        rows,
        words=(ours, "Ambient copies"),
    )


def confirmed_table(found: Sequence[Confirmed], objectives: Objectives, champion: Candidate | None) -> Table:
    """What was trained again on fresh seeds, the least copying first: both means with their 95 % intervals.

    Configurations at the rung that they were to be confirmed at, and DDPM at all of its stops, which compete.
    """
    rows = []
    for point in sorted((p for p in found if p.planned), key=lambda p: (p.memorization, p.fidelity)):
        lost = [f"{n} {word}" for n, word in ((point.diverged, "diverged"), (point.failed, "failed")) if n]
        rows.append((
            CHAMPION if point.original == champion else "",
            str(point.original.trial.number),
            point.original.trial.label,
            f"{point.original.rung.images_seen:,}",
            _seeds(point.of_fidelity, ".3g"),
            _seeds(point.of_memorization, ".3f"),
            "; ".join([", ".join(map(str, point.seeds)), *lost]),
        ))  # fmt: skip
    return _table(
        "Confirmed on fresh training seeds: means and 95 % intervals",
        ("", "trial", "configuration", "images seen", objectives.fidelity, objectives.memorization, "seeds"),
        rows,
        words=("", "configuration", "seeds"),
    )


def _table(
    caption: str, names: Sequence[str], rows: Sequence[tuple[str, ...]], *, words: Sequence[str], notes: str = ""
) -> Table:
    """A table in which all but the columns of `words` hold numbers; a champion's row is marked."""
    marked = frozenset(i for i, row in enumerate(rows) if row[0] == CHAMPION)
    return Table(caption, tuple(Column(name, name not in words) for name in names), tuple(rows), marked, notes)


def _seeds(interval: Interval, form: str) -> str:
    return interval.text(form) if interval.low is not None else f"{interval.text(form)} (no interval)"
