"""What an audit looks at: generated images or a model that draws them, and real images to compare them with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.data import BUILT_IN, ImageSet, TooFewImagesError, load_images
from ambient_ray.data.image_set import content_hash
from ambient_ray.data.picture import Fit, fit_array
from ambient_ray.data.readers.layout import LabelSource
from ambient_ray.data.split import without_duplicates
from ambient_ray.data.subsets import read_list, split_by
from ambient_ray.errors import UserError

if TYPE_CHECKING:
    from ambient_ray.tracking.standalone.generator import Generator

FEWEST = 3
_MODEL_FILES = ("checkpoint.json", "MLmodel", "load.py", "model_index.json")


class AuditInputError(UserError):
    """What is to be audited, and what it is to be compared with, do not fit together or are too few."""


class AuditFolderError(UserError):
    """The folder of an audit's report cannot be written."""


@dataclass(frozen=True)
class Reading:
    """How images are read: the options of `load_images`."""

    resolution: int | None = None
    channels: int | None = None
    labels: LabelSource = "auto"
    skip_broken: bool = False

    def read(self, source: str) -> ImageSet:
        """The images at a path, or of a named set."""
        return load_images(
            source,
            resolution=self.resolution,
            channels=self.channels,
            labels=self.labels,
            skip_broken=self.skip_broken,
        )


@dataclass(frozen=True)
class RealImages:
    """The training images, and what was held out, if anything; exact duplicates are in neither.

    whole: the set that the training images come from, with its labels, for a classifier's features; duplicates: how
    many images of it equal another; heldout_source: in words; trained_on: held-out images that were left out because
    they equal a training image; skipped: broken files.
    """

    source: str
    train: ImageSet
    whole: ImageSet
    heldout: ImageSet | None = None
    heldout_source: str | None = None
    subset: str | None = None
    duplicates: int = 0
    trained_on: int = 0
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generated:
    """The images to audit: uint8 [n,H,W,C], where they come from, and how many of them are different.

    ids: the images' names, for a model their numbers. model: for a model, its own scores and facts, and the seed; None
    for images.
    """

    source: str
    images: NDArray[np.uint8]
    ids: Sequence[str]
    content_hash: str
    different: int
    skipped: tuple[str, ...] = ()
    model: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model to sample from, and what it says about itself. facts and scores are empty where it says nothing."""

    uri: str
    generator: Generator = field(repr=False)
    facts: Mapping[str, Any]
    scores: Mapping[str, float]

    def fresh_seed(self) -> int:
        """A seed whose samples nobody has chosen this model by: not that of the latents that a search scored it by."""
        return int(self.facts.get("latent_seed", -1)) + 1


def is_model(text: str) -> bool:
    """Whether MODEL is a registered model's URI or the folder of a model or checkpoint, and not a set of images."""
    if text.startswith(("models:/", "runs:/")):
        return True
    folder = Path(text.removeprefix("file://")).expanduser()
    return folder.is_dir() and any((folder / name).is_file() for name in _MODEL_FILES)


def check_exists(text: str) -> None:
    """Refuse a MODEL that is neither a model nor there. Raises AuditInputError."""
    path = Path(text).expanduser()
    inside_zip = any(parent.suffix.lower() == ".zip" and parent.is_file() for parent in path.parents)
    if not (is_model(text) or text in BUILT_IN or path.exists() or inside_zip):
        raise AuditInputError(
            f"there is nothing to audit at {text}: give a folder, zip, .npz or .npy of generated images, "
            "models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID/NAME, or a model's or checkpoint's folder"
        )


def check_folder(folder: Path) -> None:
    """Make the folder and see that it can be written, before anything is computed. Raises AuditFolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".ambient-write-test").touch()
        (folder / ".ambient-write-test").unlink()
    except OSError as error:
        raise AuditFolderError(f"--to {folder} cannot be written to: {error.strerror or error}") from error


def load_generator(uri: str, *, tracking_uri: str | None, device: str | None) -> LoadedModel:
    """The model that `ambient_ray.tracking.load_model` finds. Raises what that raises, one sentence each."""
    from ambient_ray.tracking import load_model

    generator = load_model(uri, tracking_uri=tracking_uri, device=device)
    return LoadedModel(uri, generator, generator.facts, generator.scores)


def read_real(train: str, reading: Reading, *, subset: Path | None, heldout: str | None) -> RealImages:
    """The training images, as --train, --subset and --heldout name them.

    With a subset the other images of the set were not trained on: they are the held-out ones, unless --heldout names
    others. Raises AuditInputError, and one of the errors of ambient_ray.data.
    """
    whole = reading.read(train)
    if subset is None:
        unique, duplicates = without_duplicates(whole)
        real = RealImages(
            train, whole.subset(unique), whole,
            duplicates=sum(len(group) - 1 for group in duplicates), skipped=whole.skipped,
        )  # fmt: skip
    else:
        try:
            parts = split_by(read_list(subset), whole, where=str(subset))
        except TooFewImagesError as error:
            raise AuditInputError(f"--subset {subset} lists all images of {train}: leave it out") from error
        rest = parts.heldout if heldout is None and len(parts.heldout) >= FEWEST else None
        real = RealImages(
            train, parts.train, whole, rest,
            None if rest is None else f"the images of {train} that {subset.name} does not list",
            subset=str(subset), duplicates=parts.dropped, skipped=whole.skipped,
        )  # fmt: skip
    if len(real.train) < FEWEST:
        raise AuditInputError(
            f"{train} holds {_images(len(real.train))} to compare with, and the scores need at least {FEWEST}"
        )
    return real if heldout is None else _with_heldout(real, heldout, reading)


def _with_heldout(real: RealImages, source: str, reading: Reading) -> RealImages:
    given = reading.read(source)
    _check_shape(given.shape, f"the images of {source}", real.train.shape)
    unique, _ = without_duplicates(given)
    trained = {_digest(image) for image in real.train.images}
    kept = [place for place in unique if _digest(given.images[place]) not in trained]
    if len(kept) < FEWEST:
        why = (
            f", as {len(unique) - len(kept):,} of its images equal a training image" if len(kept) < len(unique) else ""
        )
        raise AuditInputError(
            f"--heldout {source} leaves {_images(len(kept))} that were not trained on{why}; the scores need at least "
            f"{FEWEST}: give others, or leave --heldout out"
        )
    return replace(
        real, heldout=given.subset(kept), heldout_source=source, trained_on=len(unique) - len(kept),
        skipped=real.skipped + given.skipped,
    )  # fmt: skip


def read_generated(source: str, reading: Reading, real: RealImages) -> Generated:
    """The generated images at a path. Raises AuditInputError (too few, another shape), and those of the data room."""
    found = replace(reading, labels="none").read(source)
    _check_shape(found.shape, f"the images of {source}", real.train.shape)
    if len(found) < FEWEST:
        raise AuditInputError(f"{source} holds {_images(len(found))}, and the scores need at least {FEWEST}")
    return Generated(source, found.images, found.ids, found.content_hash, _different(found.images), found.skipped)


def draw(model: LoadedModel, n: int, seed: int, reading: Reading, real: RealImages) -> Generated:
    """n images of a model, brought to the resolution and channels that were asked for. Raises AuditInputError."""
    fit = Fit(reading.resolution, reading.channels)
    channels, height, width = (int(size) for size in model.generator.shape)
    shape = (fit.channels or channels, fit.resolution or height, fit.resolution or width)
    _check_shape(shape, f"what {model.uri} draws", real.train.shape)
    try:
        images = fit_array(model.generator.sample(n, seed=seed), fit)
    except ValueError as error:
        raise AuditInputError(f"{model.uri}: {error}") from error
    own = {"facts": dict(model.facts), "scores": dict(model.scores), "seed": seed}
    names = [str(number) for number in range(n)]
    return Generated(model.uri, images, names, content_hash(images, None), _different(images), model=own)


def data_warning(model: LoadedModel, real: RealImages) -> str | None:
    """One sentence where the model says that it was trained on other images than these; None where it agrees.

    Content hashes count labels and order, so the same pictures read otherwise (another resolution, without labels) are
    other data. A model that says nothing agrees with all.
    """
    theirs, n = model.facts.get("train_hash"), model.facts.get("n_train")
    if theirs is None or theirs == real.train.content_hash:
        return None
    advice = "leave out --subset, or give the list of its study" if real.subset else "give its study's list by --subset"
    return (
        f"{model.uri} says that it was trained on other data (content {str(theirs)[:12]}, "
        f"{n if n is None else format(int(n), ',')} images) than these {len(real.train):,} images (content "
        f"{real.train.content_hash[:12]}): {advice}, and the same --resolution, --channels and --labels"
    )


def seed_note(model: LoadedModel, seed: int) -> str | None:
    """One sentence where these are the samples that a search chose the model by; None else."""
    if model.facts.get("latent_seed") != seed:
        return None
    return (
        f"seed {seed} is that of the samples that the search chose this model by, which makes its copying look smaller "
        "than it is on others: leave --seed out for fresh ones"
    )


def _check_shape(found: Sequence[int], what: str, wanted: Sequence[int]) -> None:
    """Refuse images of another shape (C,H,W) than the training images."""
    if tuple(found) == tuple(wanted):
        return
    options = []
    if tuple(found[1:]) != tuple(wanted[1:]):
        options.append(f"--resolution {min(*found[1:], *wanted[1:])}")
    if found[0] != wanted[0]:
        options.append(f"--channels {min(found[0], wanted[0])}")
    raise AuditInputError(
        f"{what} are {_size(found)} and the training images {_size(wanted)}: bring both to one with {' '.join(options)}"
    )


def _size(shape: Sequence[int]) -> str:
    kinds = {1: "grey", 3: "colour"}
    return f"{shape[2]}x{shape[1]} in {kinds.get(shape[0], f'{shape[0]} channels')}"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _different(images: NDArray[np.uint8]) -> int:
    return len({_digest(image) for image in images})


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
