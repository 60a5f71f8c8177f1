"""The tables of a study as plain data: the terminal, the page and the PDF show the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.interval import Interval
from ambient_ray.tuning.confirmation import Confirmed
from ambient_ray.tuning.records import Candidate, Landscape, Objectives, TrialRecord

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


def rival_table(land: Landscape, objectives: Objectives) -> Table:
    """Every rival at the stop where it does best (`Landscape.best_of`), the least copying first."""
    rivals = {c.trial.number: c.trial for c in land.candidates if c.trial.arm == "rival"}
    best = [land.best_of(trial) for trial in rivals.values()]
    rows = [
        (
            str(c.trial.number),
            c.trial.label,
            f"{c.rung.images_seen:,}",
            quality(c, objectives).text(".3g"),
            copying(c, objectives).text(),
        )
        for c in sorted((c for c in best if c is not None), key=lambda c: (c.memorization, c.fidelity))
    ]
    return _table(
        "Rivals of Ambient: DDPM with other settings, each at its best stop",
        ("trial", "rival", "images seen", objectives.fidelity, objectives.memorization),
        rows,
        words=("rival",),
    )


def trial_table(trials: Sequence[TrialRecord], objectives: Objectives) -> Table:
    """All trials and replicas by number, each with its last rung's scores and what became of it."""
    rows = []
    for trial in trials:
        last = [Candidate(trial, r, *objectives.of(r.scores)) for r in trial.rungs[-1:]]
        scores = [(f"{c.fidelity:.3g}", copying(c, objectives).text()) for c in last] or [("–", "–")]
        seen = f"{trial.rungs[-1].images_seen:,}" if last else "0"
        again = f", of trial {trial.replica_of}" if trial.replica_of is not None else ""
        rows.append((str(trial.number), trial.label + again, str(len(trial.rungs)), seen, *scores[0], _end(trial)))
    return _table(
        "All trials and replicas of the study, with the scores of their last rung",
        ("trial", "configuration", "rungs", "images seen", objectives.fidelity, objectives.memorization, "ended"),
        rows,
        words=("configuration", "ended"),
    )


def _end(trial: TrialRecord) -> str:
    if trial.state == "running":
        return "not ended"
    return f"{trial.state}: {trial.reason}" if trial.state == "failed" and trial.reason else trial.state


def _table(caption: str, names: Sequence[str], rows: Sequence[tuple[str, ...]], *, words: Sequence[str]) -> Table:
    """A table in which all but the columns of `words` hold numbers; a champion's row is marked.

    A first column without a name holds that mark, and is left out where no row has it.
    """
    marked = frozenset(i for i, row in enumerate(rows) if row[0] == CHAMPION)
    if names[0] == "" and not marked:
        names, rows = names[1:], [row[1:] for row in rows]
    return Table(caption, tuple(Column(name, name not in words) for name in names), tuple(rows), marked)


def _seeds(interval: Interval, form: str) -> str:
    return interval.text(form) if interval.low is not None else f"{interval.text(form)} (no interval)"
