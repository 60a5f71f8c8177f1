"""How a search stands, for a person at a terminal: the words and the table of `ambient-status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_SHOWN = 40  # running trials, and points of the front


def page(found: Mapping[str, Any]) -> Group:
    """What `standing` found, as lines and a table."""
    parts: list[RenderableType] = [Text(line) for line in _head(found)]
    if found["running"]:
        parts.append(_table(found))
    parts += [Text(line) for line in _foot(found)]
    return Group(*parts)


def _head(found: Mapping[str, Any]) -> list[str]:
    driver, trials = found["driver"], found["trials"]
    words = {"alive": "the driver lives", "dead": "no driver lives", "unknown": "whether its driver lives is unknown"}
    ended = sum(trials[state] for state in ("finished", "stopped", "failed"))
    planned = f" of {trials['planned']}" if trials["planned"] is not None else ""
    confirmed = f", {trials['replicas_ended']} of {trials['replicas']} replicas ended" if trials["replicas"] else ""
    phase = f" · {driver['phase']}" if driver["phase"] else ""
    return [
        f"study {found['study']} · {words[driver['life']]}: {driver['why']}{phase}",
        f"{ended}{planned} trials ended ({trials['finished']} finished, {trials['stopped']} stopped by the judge,"
        f" {trials['failed']} failed), {trials['running']} running{confirmed} · {found['rungs_done']} rungs done"
        f" · {found['images_seen']:,} images in them · searched for {duration(found['searched_seconds'])}",
    ]


def _table(found: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", "configuration", "doing", "where", "rung", "images", "img/s", "loss", "silent", "left"):
        table.add_column(column, no_wrap=column not in {"configuration", "where"})
    for one in found["running"][:_SHOWN]:
        following = f" of {one['next_rung']:,}" if one["next_rung"] is not None else ""
        table.add_row(
            str(one["trial"]), one["label"], one["doing"], "\n".join(map(_place, one["where"])),
            f"{one['rung']}/{one['rungs']}", f"{one['images']:,}{following}",
            "" if one["images_per_second"] is None else f"{one['images_per_second']:.3g}",
            "" if one["loss"] is None else f"{one['loss']:.3f}",
            "" if one["silent_seconds"] is None else duration(one["silent_seconds"]),
            "" if one["eta_seconds"] is None else f"≤ {duration(one['eta_seconds'])}",
        )  # fmt: skip
    return table


def _place(place: Mapping[str, Any]) -> str:
    gpus = place.get("gpus") or []
    what = f"GPU {','.join(map(str, gpus))}" if gpus else f"pid {place['pid']}"
    return f"{place['address']} {what}"


def _foot(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if (hidden := len(found["running"]) - _SHOWN) > 0:
        lines.append(f"and {hidden} more running trials")
    for what, numbers in found["waiting"].items():
        if numbers:
            lines.append(f"waiting for {what}: trial {', '.join(map(str, numbers))}")
    lines += [f"trial {one['trial']} {one['waits_for']}" for one in found["running"] if one["waits_for"]]
    for cause, of in found["failures"].items():
        ended = f"failed: {', '.join(of['trials'])}" if of["trials"] else ""
        survived = f"survived {of['survived']} times" if of["survived"] else ""
        lines.append(f"{cause} · {', '.join(filter(None, (ended and 'trials ' + ended, survived)))}")
        lines += [f"  trial {number}: {reason}" for number, reason in of["trials"].items()]
    lines += _front(found["front"])
    lines += _mlflow(found["mlflow"])
    eta = found["eta"]
    left = "time left" if eta["seconds"] is None else f"about {duration(eta['seconds'])} left"
    return [*lines, f"{left}: {eta['rests_on']}"]


def _front(front: Mapping[str, Any] | None) -> list[str]:
    if front is None or not front["points"]:
        return ["front: nothing is scored yet"]
    names = front["objectives"]
    lines = [
        f"front of {len(front['points'])} among {front['candidates']} candidates, hypervolume"
        f" {front['hypervolume']:.3g} ({names[0]}, {names[1]}):"
    ]
    for point in front["points"][:_SHOWN]:
        scores = ", ".join(f"{score:.3g}" for score in point["scores"])
        lines.append(f"  {scores} · trial {point['trial']} · {point['label']} · {point['images']:,} images")
    return lines


def _mlflow(mlflow: Mapping[str, Any]) -> list[str]:
    waiting = mlflow["spooled"] if mlflow["queued"] is None else max(mlflow["queued"], mlflow["spooled"])
    if mlflow["away_seconds"] is not None:
        return [f"MLflow has been away for {duration(mlflow['away_seconds'])}: {waiting} events wait"]
    return [f"MLflow: {waiting} events wait"] if waiting else []


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, to two figures or so."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}" if unit != "h" else f"{seconds / size:.1f} h"
    return f"{seconds / 86400:.1f} days"
