"""Checks of a search that need no Ray: what would go wrong later is said now, in one sentence."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ambient_ray.data import Split
from ambient_ray.errors import UserError
from ambient_ray.evaluation import LARGER_IS_BETTER, LIMIT_FROM, PixelExtractor, References, evaluate, fidelity_key
from ambient_ray.training import TrainingData, TrainSettings, TrainSettingsError
from ambient_ray.training.resident import check_images
from ambient_ray.training.state import check_model, image_facts
from ambient_ray.tuning.journal import NO_LOCKS
from ambient_ray.tuning.lease import StudyBusyError
from ambient_ray.tuning.space import Choice, Parameter, Space


class ImageShapeError(UserError):
    """Images that the network cannot take."""


class RungPolicyError(UserError):
    """A rung is to be judged by a score that nobody computes."""


class WorkersError(UserError):
    """More workers than a batch has images."""


def lock_study(folder: Path) -> IO[str]:
    """Take the study's folder for this process. The system gives it back when the process ends, however it ends.

    Over NFS the lock holds between machines where the server knows locks; where the file system has none, nothing is
    locked, and the study's lease (`ambient_ray.tuning.lease`) keeps two searches apart.

    Raises:
        StudyBusyError: another process has it.
    """
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise StudyBusyError(
            f"study {folder.name!r} is being searched by process {file.read().strip() or 'unknown'} already;"
            " wait for it, stop it, or choose another name with study="
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def check_network(settings: TrainSettings, subsets: Split) -> None:
    """A network of a wrong size stops the search here and not every trial."""
    data = TrainingData(subsets.train, subsets.heldout)
    _, height, width = subsets.train.shape
    if height != width:
        raise ImageShapeError(
            f"the images are {width} x {height} and the network takes squares: set dataset.resolution, e.g."
            f" dataset.resolution={min(height, width)}, for a centre crop"
        )
    check_model(settings, image_facts(settings, data))


def check_space_values(settings: TrainSettings, space: Space) -> None:
    """The baselines and the corners of the space must be settings that can be trained."""
    for own in corners(space):
        settings.overlaid(own)


def check_shares(settings: TrainSettings, space: Space, workers: int) -> None:
    """A batch that cannot be shared by a trial's workers stops the search here and not every trial of it."""
    smallest = min(settings.overlaid(corner).batch_size for corner in [{}, *corners(space)])
    if smallest < workers:
        raise WorkersError(
            f"trial.workers={workers}, but a batch of {smallest} images gives work to {smallest} of them;"
            " lower trial.workers or raise training.batch_size"
        )


def check_space_data(settings: TrainSettings, space: Space, subsets: Split) -> None:
    """The images must be enough for the baselines and corners of the space, and its networks must fit them.

    Raises:
        TrainSettingsError: more images are asked for than there are.
        TrialInputError: a network cannot be built, or images are too small for what is done to them.
    """
    data = TrainingData(subsets.train, subsets.heldout)
    checked: list[object] = [settings.backbone]  # here or by `check_network`
    for own in corners(space):
        trial = settings.overlaid(own)
        if trial.n_train is not None and trial.n_train > len(subsets.train):
            raise TrainSettingsError(
                f"the search space {space.name!r} asks for n_train={trial.n_train} and dataset.n_train is"
                f" {len(subsets.train)}: raise dataset.n_train, or lower the space's with"
                f" +space.n_train.high={len(subsets.train)}"
            )
        check_images(trial, data)
        network = {key: value for key, value in trial.backbone.items() if key != "dropout"}
        if network not in checked:
            check_model(trial, image_facts(trial, data))
            checked.append(network)


def corners(space: Space) -> list[dict[str, Any]]:
    """Configurations at the space's edges: the baselines, all parameters low, all high, and each choice by itself.

    Every one holds the fixed settings, and only parameters that exist under its other values.
    """
    first, last = ({name: _ends(p)[end] for name, p in space.parameters.items()} for end in (0, -1))
    edges = [first, last]
    for name, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            edges += [{**other, name: choice} for choice in parameter.choices for other in (first, last)]
    found: list[dict[str, Any]] = [{**space.fixed, **baseline} for baseline in space.baselines]
    for edge in edges:
        own = dict(space.fixed)
        for name in space.order:
            if space.active(name, own):
                own[name] = edge[name]
        if own not in found:
            found.append(own)
    return found


def augmentation(settings: TrainSettings, space: Space) -> tuple[bool, int]:
    """What any trial of the space may do to its images: (whether some mirror, the most pixels that some move by).

    Copies are looked for through all of it in every trial, so that augmentation does not pass for less copying.
    """
    trials = [settings.overlaid(own) for own in corners(space)] or [settings]
    return any(trial.flip for trial in trials), max(trial.shift_pixels for trial in trials)


def _ends(parameter: Parameter) -> Sequence[Any]:
    if isinstance(parameter, Choice):
        return parameter.choices
    return [int(v) if parameter.integer else v for v in (parameter.low, parameter.high)]


def check_scores(needed: Sequence[str], extractor: str, subsets: Split, reference: str) -> None:
    """Every score that the search needs is one that a rung computes; scoring a few images shows the names."""
    few = [images.subset(range(min(LIMIT_FROM, len(images)))) for images in (subsets.train, subsets.heldout)]
    pixels = PixelExtractor()
    shown = {name: few[1] if reference == name else None for name in ("full", "other")}
    references = References.build(pixels, *few, full=shown["full"], other=shown["other"])
    found = evaluate(few[1].images, pixels, references).values
    own, other = fidelity_key(extractor), fidelity_key(pixels.name)
    names = {name.replace(other, own) for name in found} | {"gap"}
    for name in needed:
        if name.removesuffix("_low").removesuffix("_high") in LARGER_IS_BETTER:
            raise RungPolicyError(f"the score {name!r} is better where it is larger, and the search only minimises")
        if name not in names:
            computed = ", ".join(sorted(n for n in names if not n.endswith(("_low", "_high"))))
            raise RungPolicyError(
                f"nobody computes the score {name!r}, which the search is to minimise or judge by; there are {computed}"
            )
