"""Checks of a search that need no Ray: what would go wrong later is said now, in one sentence."""

import fcntl
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ambient_ray.data import Split
from ambient_ray.errors import UserError
from ambient_ray.evaluation import PixelExtractor, References, evaluate, fidelity_key
from ambient_ray.training import TrainingData, TrainSettings
from ambient_ray.training.state import build_model, image_facts
from ambient_ray.tuning.space import Choice, Space


class OutputFolderError(UserError):
    """The output folder cannot be written."""


class StudyBusyError(UserError):
    """Another process searches this study already."""


class ImageShapeError(UserError):
    """Images that the network cannot take."""


class RungPolicyError(UserError):
    """A rung is to be judged by a score that nobody computes."""


def check_writable(folder: Path) -> None:
    """Make the folder and write a file in it.

    Raises:
        OutputFolderError: with the reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputFolderError(f"output_dir={folder} cannot be written: {error.strerror or error}") from error


def lock_study(folder: Path) -> IO[str]:
    """Take the study for this process. The system gives it back when the process ends, however it ends.

    Raises:
        StudyBusyError: another process has it.
    """
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        raise StudyBusyError(
            f"study {folder.name!r} is being searched by process {file.read().strip() or 'unknown'} already;"
            " wait for it, stop it, or choose another name with study="
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def check_network(settings: TrainSettings, subsets: Split) -> None:
    """Build the network once, so that a wrong size stops the search here and not every trial."""
    data = TrainingData(subsets.train, subsets.heldout)
    _, height, width = subsets.train.shape
    if height != width:
        raise ImageShapeError(
            f"the images are {width} x {height} and the network takes squares: set dataset.resolution, e.g."
            f" dataset.resolution={min(height, width)}, for a centre crop"
        )
    build_model(settings, image_facts(settings, data), 0.5)


def check_space_values(settings: TrainSettings, space: Space) -> None:
    """The corners of the space must be settings that can be trained."""
    for baseline in space.baselines:
        settings.overlaid({**space.fixed, **baseline})
    for pick in (0, -1):
        corner = {
            name: p.choices[pick] if isinstance(p, Choice) else (p.low, p.high)[pick]
            for name, p in space.parameters.items()
        }
        settings.overlaid({**space.fixed, **corner})


def check_scores(needed: Sequence[str], extractor: str, subsets: Split, reference: str) -> None:
    """Every score that the search needs is one that a rung computes; scoring a handful of images shows the names."""
    few = [images.subset(range(min(4, len(images)))) for images in (subsets.train, subsets.heldout)]
    pixels = PixelExtractor()
    found = evaluate(
        few[1].images, pixels, References.build(pixels, *few, full=few[1] if reference == "full" else None)
    ).values
    own, other = fidelity_key(extractor), fidelity_key(pixels.name)
    names = {name.replace(other, own) for name in found} | {"gap"}
    for name in needed:
        if name not in names:
            shown = ", ".join(sorted(n for n in names if not n.endswith(("_low", "_high"))))
            raise RungPolicyError(
                f"nobody computes the score {name!r}, which the search is to minimise or judge by; there are {shown}"
            )
