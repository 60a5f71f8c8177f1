"""The real images that an audit compares with: what was trained on, and what was held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.data import ImageSet, Split, TooFewImagesError, TooLargeError, load_images, split
from ambient_ray.data.readers.layout import LabelSource
from ambient_ray.data.split import without_duplicates
from ambient_ray.data.subsets import read_list, split_by

from .errors import AuditInputError

FEWEST = 3


@dataclass(frozen=True)
class Reading:
    """How images are read: the options of `load_images`."""

    resolution: int | None = None
    channels: int | None = None
    labels: LabelSource = "auto"
    skip_broken: bool = False

    def read(self, source: str) -> ImageSet:
        """The images at a path, or of a named set. Raises AuditInputError, and those of ambient_ray.data."""
        try:
            return load_images(
                source,
                resolution=self.resolution,
                channels=self.channels,
                labels=self.labels,
                skip_broken=self.skip_broken,
            )
        except TooLargeError as error:  # which advises what a search has, and an audit has not
            fact = str(error).partition(": ")[0]
            raise AuditInputError(f"{source}: {fact}: give a smaller --resolution, or fewer images") from error


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


def read_real(
    train: str, reading: Reading, *, subset: Path | None, heldout: str | None, facts: Mapping[str, Any] | None = None
) -> RealImages:
    """The training images, as --train, --subset and --heldout name them.

    Where only a part of a set was trained on (the images that a subset lists, or those that the search of a model drew,
    see `_drawn`), the others are the held-out ones, unless --heldout names any. facts: of the model. Raises
    AuditInputError, and one of the errors of ambient_ray.data.
    """
    whole = reading.read(train)
    real = _listed(train, whole, subset) if subset is not None else None
    real = real or _drawn(train, whole, facts or {}) or _all(train, whole)
    if len(real.train) < FEWEST:
        raise AuditInputError(
            f"{train} holds {count_images(len(real.train))} to compare with, and the scores need at least {FEWEST}"
        )
    if heldout is not None:
        return _with_heldout(real, heldout, reading)
    if real.heldout is not None and len(real.heldout) < FEWEST:
        return replace(real, heldout=None, heldout_source=None)
    return real


def _all(train: str, whole: ImageSet) -> RealImages:
    unique, duplicates = without_duplicates(whole)
    dropped = sum(len(group) - 1 for group in duplicates)
    return RealImages(train, whole.subset(unique), whole, duplicates=dropped, skipped=whole.skipped)


def _listed(train: str, whole: ImageSet, subset: Path) -> RealImages:
    try:
        parts = split_by(read_list(subset), whole, where=str(subset))
    except TooFewImagesError as error:
        raise AuditInputError(f"--subset {subset} lists all images of {train}: leave it out") from error
    rest = f"the images of {train} that {subset.name} does not list"
    return _divided(train, whole, parts, rest, subset=str(subset))


def _drawn(train: str, whole: ImageSet, facts: Mapping[str, Any]) -> RealImages | None:
    """The images that the search of this model drew from the set, as it draws them; None unless their hash is its own.

    So a model of a search needs no list: its facts have the number, the seed and, as the proof, the content hash.
    """
    n, seed, wanted = (facts.get(name) for name in ("n_train", "latent_seed", "train_hash"))
    if n is None or seed is None or wanted is None or not 1 <= int(n) < len(whole):
        return None
    try:
        parts = split(whole, int(n), seed=int(seed))
    except TooFewImagesError:
        return None
    if parts.train.content_hash != wanted:
        return None
    return _divided(train, whole, parts, f"the images of {train} that the model was not trained on")


def _divided(train: str, whole: ImageSet, parts: Split, rest: str, *, subset: str | None = None) -> RealImages:
    return RealImages(
        train, parts.train, whole, parts.heldout, rest,
        subset=subset, duplicates=parts.dropped, skipped=whole.skipped,
    )  # fmt: skip


def _with_heldout(real: RealImages, source: str, reading: Reading) -> RealImages:
    given = reading.read(source)
    check_shape(given.shape, f"the images of {source}", real.train.shape)
    unique, _ = without_duplicates(given)
    trained = {digest(image) for image in real.train.images}
    kept = [place for place in unique if digest(given.images[place]) not in trained]
    if len(kept) < FEWEST:
        equal = len(unique) - len(kept)
        why = f", as {equal:,} of its images equal a training image" if equal else ""
        raise AuditInputError(
            f"--heldout {source} leaves {count_images(len(kept))} that were not trained on{why}; the scores need at "
            f"least {FEWEST}: give others, or leave --heldout out"
        )
    return replace(
        real, heldout=given.subset(kept), heldout_source=source, trained_on=len(unique) - len(kept),
        skipped=real.skipped + given.skipped,
    )  # fmt: skip


def check_shape(found: Sequence[int], what: str, wanted: Sequence[int]) -> None:
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


def count_images(count: int) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def digest(image: NDArray[np.uint8]) -> bytes:
    """Equal for equal pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
