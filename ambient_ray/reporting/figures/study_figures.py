"""The pictures of a whole study, from its records: the same while it runs, when it ends, and from MLflow alone."""

from collections.abc import Callable, Collection
from pathlib import Path

from ambient_ray.tuning.records import Candidate

from .front import draw_front
from .hypervolume import hypervolume_curve, hypervolume_figure
from .importance_figure import importance_figure
from .interactive import interactive_front
from .response import response_figure
from .study_view import StudyView
from .survival import survival_figure
from .thumbnails import samples_thumbnail

__all__ = ["FIGURES", "StudyView", "draw_study", "hypervolume_curve", "samples_thumbnail"]

#: All that may be drawn, in the order in which one would look at them.
FIGURES = ("front.html", "front.png", "hypervolume.png", "importance.png", "response.png", "survival.png")


def draw_study(
    view: StudyView,
    folder: Path,
    *,
    thumbnail: Callable[[Candidate], bytes | None],
    only: Collection[str] | None = None,
) -> dict[str, Path]:
    """Draw a study's pictures into `folder`, which exists; file name -> path of those that were drawn.

    Left out is that for which there is nothing to draw yet: the hypervolume before there is a reference, importance and
    response before enough trials have been scored, all but the survival before there is a candidate. Any thread may
    call it, one at a time for a folder.

    Args:
        view: the study.
        folder: where to.
        thumbnail: a small PNG, JPEG or WebP of a few of a candidate's samples (`samples_thumbnail`), or None where they
            are gone; asked for 200 candidates at most, and only for front.html.
        only: names among `FIGURES`; None: all.

    Raises:
        ValueError: a name in `only` that is none of `FIGURES`.
    """
    unknown = sorted(set(only or ()) - set(FIGURES))
    if unknown:
        raise ValueError(f"there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    draw: dict[str, Callable[[Path], Path | None]] = {
        "front.html": lambda path: interactive_front(view, path, thumbnail=thumbnail),
        "front.png": lambda path: draw_front(view, path),
        "hypervolume.png": lambda path: hypervolume_figure(view, path),
        "importance.png": lambda path: importance_figure(view, path),
        "response.png": lambda path: response_figure(view, path),
        "survival.png": lambda path: survival_figure(view, path),
    }
    drawn = {name: draw[name](folder / name) for name in FIGURES if only is None or name in only}
    return {name: path for name, path in drawn.items() if path is not None}
