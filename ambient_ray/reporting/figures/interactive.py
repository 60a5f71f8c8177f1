"""The front as a page of its own: every candidate under the pointer, with its numbers and samples of its model."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ambient_ray.tracking.drawing.galleries import BLUE, GREY, SKY, VERMILLION
from ambient_ray.tuning.pareto import front_ranks
from ambient_ray.tuning.records import Candidate, TrialRecord

from .canvas import ARMS
from .front import heldout_null, short_count
from .study_view import StudyView, key_of
from .thumbnails import image_type

Thumbnail = Callable[[Candidate], bytes | None]

IMAGES = 200  # candidates shown with samples, at most
_BYTES = 1_750_000  # of their pictures: with plotly.js, and 1,000 trials' numbers, the page stays below 8 MB
_SYMBOLS = {"ddpm": "square", "rival": "triangle-up", "ambient": "circle"}
_STYLE = """
body { margin: 0; font-family: "DejaVu Sans", Verdana, sans-serif; background: white; }
#front-card { position: absolute; z-index: 10; box-sizing: border-box; width: 300px; padding: 8px; background: white;
  border: 1px solid #555; border-radius: 4px; box-shadow: 0 2px 8px rgba(0, 0, 0, 0.25); font-size: 12px;
  pointer-events: none; }
#front-card.kept { border: 2px solid black; }
#front-card .head { font-weight: bold; margin-bottom: 4px; overflow-wrap: anywhere; }
#front-card table { border-collapse: collapse; margin-bottom: 6px; }
#front-card td { padding: 0 8px 1px 0; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; }
#front-card td:first-child { color: #444; white-space: nowrap; }
#front-card img { width: 208px; height: auto; border: 1px solid #ccc; }
#front-card .caption { color: #444; }
"""


def interactive_front(view: StudyView, path: Path, *, thumbnail: Thumbnail) -> Path | None:
    """Write the plane of a study as one HTML file that needs no network; None before there is a candidate.

    All candidates by arm, the front as a step line, DDPM's path through its stops, the champion, intervals, and the
    held-out null; each can be switched off in the legend. The pointer shows a candidate's numbers beside it, and its
    samples, or those of its trial's best rung. There are pictures of the front, of DDPM's stops, and of each trial's
    best rung, the nearest to the front first: at most 200 of them in at most 1.75 MB.
    """
    if not view.candidates:
        return None
    import plotly.io

    pictures = _pictures(view, thumbnail)
    data = json.dumps(_hover(view, pictures), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    script = Path(__file__).with_name("hover.js").read_text(encoding="utf-8").replace("__DATA__", data, 1)
    page = plotly.io.to_html(
        {"data": _traces(view), "layout": _layout(view)},
        # Nobody's unpublished results are one click away from another company's cloud.
        config={
            "displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["sendChartToCloud", "sendDataToCloud"],
            "plotlyServerURL": "",
        },
        include_plotlyjs=True,
        post_script=script,
        div_id="front",
        default_height="98vh",
        validate=False,  # of thousands of points, a second; the tests validate
    )  # fmt: skip
    title = html.escape(f"{view.name}: fidelity against memorization")
    page = page.replace("<html>", '<!DOCTYPE html>\n<html lang="en">', 1)
    page = page.replace("<head>", f"<head><title>{title}</title><style>{_STYLE}</style>", 1)
    path.write_text(page, encoding="utf-8")
    return path


def shown_first(view: StudyView) -> list[Candidate]:
    """The candidates in the order in which they get pictures: front, champion, DDPM's stops, each trial's best rung."""
    ranks = front_ranks([c.point for c in view.best])
    best = [c for _, _, c in sorted(zip(ranks, range(len(ranks)), view.best, strict=True), key=lambda item: item[:2])]
    champion = [c for c in view.candidates if key_of(c) == view.champion]
    order = {key_of(c): c for c in [*view.front, *champion, *view.ddpm, *best]}
    return list(order.values())


def _pictures(view: StudyView, thumbnail: Thumbnail) -> dict[tuple[int, int], str]:
    """Data URLs by candidate, as many as the page has room for."""
    found: dict[tuple[int, int], str] = {}
    room = _BYTES
    for candidate in shown_first(view)[:IMAGES]:
        picture = thumbnail(candidate)
        if picture is not None and len(picture) <= room:
            room -= len(picture)
            found[key_of(candidate)] = f"data:{image_type(picture)};base64,{base64.b64encode(picture).decode()}"
    return found


def _hover(view: StudyView, pictures: dict[tuple[int, int], str]) -> dict[str, Any]:
    """What the script knows: a line a candidate, what its trial is, and the pictures."""
    place = {key: k for k, key in enumerate(pictures)}
    instead: dict[int, tuple[int, int]] = {}  # of a trial: whose picture stands for those that have none
    for key in [*pictures, *(k for k in map(key_of, view.best) if k in pictures)]:
        instead[key[0]] = key
    seen = {key_of(c): short_count(c.rung.images_seen) for c in view.candidates}
    points = []
    for c in view.candidates:
        shown = key_of(c) if key_of(c) in place else instead.get(c.trial.number)
        ends = [_ends(c, name) for name in (view.objectives.fidelity, view.objectives.memorization)]
        points.append([
            c.trial.number, c.rung.rung, seen[key_of(c)],
            _short(c.fidelity), *ends[0], _short(c.memorization), *ends[1],
            None if shown is None else place[shown], None if shown is None else seen[shown],
        ])  # fmt: skip
    return {
        "fidelity": view.objectives.fidelity,
        "memorization": view.objectives.memorization,
        "rungs": len(view.rungs),
        "points": points,
        "trials": {c.trial.number: _about(view, c.trial) for c in view.candidates},
        "images": list(pictures.values()),
    }


def _about(view: StudyView, trial: TrialRecord) -> dict[str, Any]:
    arm = ARMS[trial.arm].name if trial.arm in ARMS else trial.arm
    settings = [[name, _text(trial.settings[name])] for name in view.searched if name in trial.settings]
    state = f"{trial.state}: {trial.reason}" if trial.reason else trial.state
    return {"label": f"{arm} · trial {trial.number}", "state": state, "settings": settings}


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _ends(candidate: Candidate, name: str) -> list[float | None]:
    """Low and high end of a score's interval, None where there is none."""
    found = [candidate.rung.scores.get(f"{name}_{end}") for end in ("low", "high")]
    return [None if end is None or end != end else _short(end) for end in found]


def _traces(view: StudyView) -> list[dict[str, Any]]:
    index = {key_of(c): k for k, c in enumerate(view.candidates)}
    path = view.ddpm[0].trial.number if view.ddpm else None
    traces = []
    for key, arm in ARMS.items():
        some = [c for c in view.candidates if c.trial.arm == key and c.trial.number != path]
        look = {"symbol": _SYMBOLS[key], "color": SKY if key == "ambient" else arm.colour, "size": 6, "opacity": 0.6}
        if some:
            traces.append(_points(some, index, name=f"{arm.name}, every trial and rung", marker=look))
    traces += _front(view, index)
    if view.ddpm:
        line = {"color": VERMILLION, "width": 1.6, "dash": "dash"}
        stops = {
            "mode": "lines+markers+text", "line": line, "textposition": "top right",
            "text": [short_count(c.rung.images_seen) for c in view.ddpm], "textfont": {"size": 11, "color": "#8F3F00"},
            "marker": {"symbol": "square", "size": 8, "color": VERMILLION},
        }  # fmt: skip
        traces.append(_points(view.ddpm, index, name="DDPM as it trains (images seen)", **stops))
    champion = [c for c in view.candidates if key_of(c) == view.champion]
    if champion:
        star = {"symbol": "star", "size": 18, "color": "#F0E442", "line": {"color": "black", "width": 1}}
        traces.append(_points(champion, index, name="champion", marker=star))
    null, xs = heldout_null(view), [c.fidelity for c in view.candidates]
    if null is not None:
        line = {"color": "black", "width": 1.2, "dash": "dot"}
        held = {"x": [min(xs), max(xs)], "y": [_short(null)] * 2, "name": "held-out images (null)"}
        traces.append({"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": line, **held})
    return traces


def _points(some: Sequence[Candidate], index: dict[tuple[int, int], int], **look: Any) -> dict[str, Any]:
    """A trace of candidates that the script can tell apart."""
    return {
        "type": "scatter", "mode": "markers", "hoverinfo": "none", "x": [_short(c.fidelity) for c in some],
        "y": [_short(c.memorization) for c in some], "customdata": [index[key_of(c)] for c in some], **look,
    }  # fmt: skip


def _front(view: StudyView, index: dict[tuple[int, int], int]) -> Iterable[dict[str, Any]]:
    """The step line with its points, and the intervals of the front's and DDPM's scores."""
    front = view.front
    xs, ys = [_short(c.fidelity) for c in front], [_short(c.memorization) for c in front]
    right = max(c.fidelity for c in view.candidates)
    top = max(c.memorization for c in view.candidates)
    yield {
        "type": "scatter", "mode": "lines", "x": [xs[0], *xs, max(right, xs[-1])], "y": [max(top, ys[0]), *ys, ys[-1]],
        "line": {"shape": "hv", "color": BLUE, "width": 2}, "hoverinfo": "skip", "name": "Pareto front",
        "legendgroup": "front",
    }  # fmt: skip
    both = {key_of(c): c for c in [*front, *view.ddpm]}.values()
    for axis, name in enumerate((view.objectives.memorization, view.objectives.fidelity)):
        across: list[float | None] = []
        along: list[float | None] = []
        for c in both:
            low, high = _ends(c, name)
            if low is not None and high is not None:
                across += [_short(c.point[axis]), _short(c.point[axis]), None]
                along += [low, high, None]
        if along:
            yield {
                "type": "scatter", "mode": "lines", "hoverinfo": "skip", "name": f"95 % intervals of {name}",
                "x": along if axis else across, "y": across if axis else along, "opacity": 0.75,
                "line": {"color": GREY, "width": 2}, "visible": "legendonly" if axis else True,
            }  # fmt: skip
    arms = [c.trial.arm if c.trial.arm in ARMS else "ambient" for c in front]
    marker = {
        "symbol": [_SYMBOLS[arm] for arm in arms], "color": [ARMS[arm].colour for arm in arms], "size": 10,
        "line": {"color": "white", "width": 1},
    }  # fmt: skip
    yield _points(front, index, name="front", marker=marker, legendgroup="front", showlegend=False)


def _layout(view: StudyView) -> dict[str, Any]:
    xs = [c.fidelity for c in view.candidates]
    logarithmic = min(xs) > 0 and max(xs) > 8 * min(xs)
    axis = {"showline": True, "linecolor": "black", "gridcolor": "#E4E4E4", "zeroline": False, "ticks": "outside"}
    trials = len({c.trial.number for c in view.candidates})
    told = f"{len(view.candidates)} candidates of {trials} trials. Point at one to see it, click to keep it shown."
    layout = {
        "title": {
            "text": f"Fidelity against memorization{view.unfinished}<br><sup>{told}</sup>",
            "x": 0.01, "xanchor": "left", "font": {"size": 17},
        },
        "xaxis": {
            "title": {"text": f"{html.escape(view.objectives.fidelity)}  (lower is better)"},
            "type": "log" if logarithmic else "linear", **axis, **(_log_ticks(xs) if min(xs) > 0 else {}),
            "tickmode": "array" if logarithmic else "auto",
        },
        "yaxis": {"title": {"text": f"{html.escape(view.objectives.memorization)}  (lower is better)"}, **axis},
        "font": {"family": "DejaVu Sans, Verdana, sans-serif", "size": 13},
        "plot_bgcolor": "white", "hovermode": "closest", "hoverdistance": 12,
        "legend": {"x": 1, "xanchor": "right", "y": 1, "bgcolor": "rgba(255,255,255,0.8)"},
        "margin": {"l": 70, "r": 20, "t": 80, "b": 60},
    }  # fmt: skip
    if min(xs) > 0:
        layout["updatemenus"] = [_scale_menu(logarithmic)]
    return layout


def _log_ticks(xs: Sequence[float]) -> dict[str, Any]:
    """Whole numbers along a logarithmic axis: plotly's own would leave out their tens."""
    low, high = math.log10(min(xs)), math.log10(max(xs))
    steps = (1, 2, 5) if high - low > 1.2 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    values = [step * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 2) for step in steps]
    return {"tickvals": values, "ticktext": [f"{value:.6g}" for value in values]}


def _scale_menu(logarithmic: bool) -> dict[str, Any]:
    """Two buttons for the scale of fidelity."""
    kinds = [("log", "array"), ("linear", "auto")]
    buttons = [
        {"label": kind, "method": "relayout", "args": [{"xaxis.type": kind, "xaxis.tickmode": ticks}]}
        for kind, ticks in (kinds if logarithmic else reversed(kinds))
    ]
    return {
        "type": "buttons", "direction": "right", "buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02,
        "yanchor": "bottom", "font": {"size": 11}, "pad": {"r": 0, "t": 0},
    }  # fmt: skip
