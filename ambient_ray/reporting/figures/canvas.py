"""What all pictures of a study share: figures that any thread may draw, arms told apart by colour and by shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ambient_ray.tracking.drawing.galleries import BLUE, GREEN, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 160


class Arm(NamedTuple):
    """How an arm is called and drawn."""

    name: str
    colour: str
    marker: str


ARMS = {
    "ddpm": Arm("DDPM", VERMILLION, "s"),
    "rival": Arm("DDPM with other settings", GREEN, "^"),
    "ambient": Arm("Ambient", BLUE, "o"),
}


def new_figure(width: float, height: float) -> Figure:
    """A figure of width x height inches on its own canvas: without pyplot, whose state is one for all threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG and return its path."""
    figure.savefig(path, pil_kwargs={"compress_level": 3})  # a third of the time of 6, a few per cent larger
    return path


def plain(axes: Axes) -> None:
    """No frame at the top and right, a faint grid below what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def few_ticks(axis: Axis, *, log: bool = False) -> None:
    """Four or so ticks and no minor ones, which take longer to draw than all else. log: at 1 and 3 of every decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 3), numticks=9) if log else MaxNLocator(4))
    if log:
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())


def titled(figure: Figure, title: str, line: str = "") -> None:
    """A title at the top left, and a line of words below it."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.09 / height, title, fontsize=11, va="top")
    figure.text(0.012, 1 - 0.33 / height, line, fontsize=8, color="#444444", va="top")
