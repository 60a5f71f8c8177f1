"""What is audited: generated images from files, or a model that draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.data import BUILT_IN
from ambient_ray.data.image_set import content_hash
from ambient_ray.data.picture import Fit, fit_array

from .errors import AuditInputError
from .real_images import FEWEST, Reading, RealImages, check_shape, count_images, digest

if TYPE_CHECKING:
    from ambient_ray.tracking.models.standalone.generator import Generator

_MODEL_FILES = ("checkpoint.json", "MLmodel", "load.py", "model_index.json")


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


def load_generator(uri: str, *, tracking_uri: str | None, device: str | None) -> LoadedModel:
    """The model that `ambient_ray.tracking.load_model` finds. Raises what that raises, one sentence each."""
    from ambient_ray.tracking import load_model

    generator = load_model(uri, tracking_uri=tracking_uri, device=device)
    return LoadedModel(uri, generator, generator.facts, generator.scores)


def read_generated(source: str, reading: Reading, real: RealImages) -> Generated:
    """The generated images at a path. Raises AuditInputError (too few, another shape), and those of the data room."""
    found = replace(reading, labels="none").read(source)
    check_shape(found.shape, f"the images of {source}", real.train.shape)
    if len(found) < FEWEST:
        raise AuditInputError(f"{source} holds {count_images(len(found))}, and the scores need at least {FEWEST}")
    return Generated(source, found.images, found.ids, found.content_hash, _different(found.images), found.skipped)


def draw(model: LoadedModel, n: int, seed: int, reading: Reading, real: RealImages) -> Generated:
    """n images of a model, brought to the resolution and channels that were asked for. Raises AuditInputError."""
    fit = Fit(reading.resolution, reading.channels)
    channels, height, width = (int(size) for size in model.generator.shape)
    shape = (fit.channels or channels, fit.resolution or height, fit.resolution or width)
    check_shape(shape, f"what {model.uri} draws", real.train.shape)
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
    if theirs in (None, real.train.content_hash, content_hash(real.train.images, None)):
        return None
    advice = "leave out --subset, or give the list of its study" if real.subset else "give its study's list by --subset"
    count = "" if n is None else f" ({int(n):,} images)"
    return (
        f"{model.uri} was trained on data with content {str(theirs)[:12]}{count} by its own account, and these "
        f"{len(real.train):,} training images have content {real.train.content_hash[:12]}: {advice}, and the same "
        "--resolution, --channels and --labels"
    )


def seed_note(model: LoadedModel, seed: int) -> str | None:
    """One sentence where these are the samples that a search chose the model by; None else."""
    if model.facts.get("latent_seed") != seed:
        return None
    return (
        f"seed {seed} is that of the samples that the search chose this model by, which may make its copying look "
        "smaller than it is on others: leave --seed out for fresh ones"
    )


def _different(images: NDArray[np.uint8]) -> int:
    return len({digest(image) for image in images})
