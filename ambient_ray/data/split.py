"""The training subset S and the held-out images: seeded, stratified, nested, and free of exact duplicates."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import TooFewImagesError
from .image_set import ImageSet, let_go, rows_a_block

# With fewer, the held-out images have no covariance and no second nearest neighbour, so no score is defined.
# How many are enough for a useful score is not said here but by the confidence intervals of the evaluation.
MIN_HELDOUT = 2


@dataclass(frozen=True)
class Split:
    """train: the subset S; heldout: all other images, or as many as were asked for; both in the order of their ids.

    duplicates: groups of ids with identical pixels. Only the first of each group is in `train` or `heldout`.
    unused: how many images are in neither, duplicates apart.
    nested: int64 [len(train)], positions in `train` in the order in which images join as n_train grows: the first n,
    sorted, are the training images of `split(..., n)`.
    """

    train: ImageSet
    heldout: ImageSet
    duplicates: tuple[tuple[str, ...], ...] = ()
    nested: NDArray[np.int64] | None = None
    unused: int = 0

    @property
    def dropped(self) -> int:
        """Count of images left out because they equal another."""
        return sum(len(group) - 1 for group in self.duplicates)

    def describe(self) -> str:
        """One line for logs."""
        return (
            f"{self.train.name or 'images'}: {len(self.train):,} for training, "
            f"{len(self.heldout):,} held out, {self.dropped:,} exact duplicates dropped"
            f"{f', {self.unused:,} not used (evaluation.heldout)' if self.unused else ''}"
        )


def split(image_set: ImageSet, n_train: int, *, seed: int, heldout: int | None = None) -> Split:
    """Draw n_train images for training, hold out the rest, after dropping exact duplicates from both.

    Which images are drawn depends on (seed, ids, labels, pixels' equality) alone: not on the order of
    `image_set`. Every class gets its exact share of n_train rounded up or down. For one seed, subsets are
    **nested**: that of 100 images is part of that of 300, with classes or without.

    heldout: hold out at most so many, drawn in the same way, at least 2; None holds out all. Both sides are copied
    into memory, so a set larger than memory needs it.
    Raises TooFewImagesError if n_train < 1 or fewer than 2 images would be held out.
    """
    unique, duplicates = without_duplicates(image_set)
    largest = len(unique) - MIN_HELDOUT
    if not 1 <= n_train <= largest:
        dropped = f" after {len(image_set) - len(unique):,} exact duplicates are dropped" if duplicates else ""
        plural = "image" if len(unique) == 1 else "images"
        advice = f"choose 1 to {largest:,}" if largest >= 1 else "give more images"
        raise TooFewImagesError(
            f"dataset.n_train={n_train}: the set has {len(unique):,} {plural}{dropped}, "
            f"of which at least {MIN_HELDOUT} must be held out; {advice}"
        )
    return divide(image_set, unique, duplicates, _draw(image_set, unique, n_train, seed), seed, heldout)


def divide(
    image_set: ImageSet,
    unique: list[int],
    duplicates: tuple[tuple[str, ...], ...],
    joined: list[int],
    seed: int,
    heldout: int | None,
) -> Split:
    """The split whose training images are those at the positions `joined`, in the order in which they join.

    unique, duplicates: as `without_duplicates` gives them; seed: that held-out images are drawn with.
    Raises TooFewImagesError when fewer than 2 images are held out.
    """
    if heldout is not None and heldout < MIN_HELDOUT:
        raise TooFewImagesError(f"evaluation.heldout={heldout}: at least {MIN_HELDOUT} images must be held out")
    drawn = set(joined)
    train = [index for index in unique if index in drawn]
    rest = [index for index in unique if index not in drawn]
    if len(rest) < MIN_HELDOUT:
        raise TooFewImagesError(f"{len(rest)} images are left to hold out, and at least {MIN_HELDOUT} must be")
    kept = rest
    if heldout is not None and heldout < len(rest):
        chosen = set(_draw(image_set, rest, heldout, seed, kind="heldout"))
        kept = [index for index in rest if index in chosen]
    place = {index: position for position, index in enumerate(train)}
    return Split(
        train=image_set.subset(train),
        heldout=image_set.subset(kept),
        duplicates=duplicates,
        nested=np.array([place[index] for index in joined], dtype=np.int64),
        unused=len(rest) - len(kept),
    )


def without_duplicates(image_set: ImageSet) -> tuple[list[int], tuple[tuple[str, ...], ...]]:
    """Positions of different pictures, in the order of their ids, and the groups of ids of equal pictures."""
    groups: dict[bytes, list[int]] = {}
    rows = rows_a_block(image_set.images)
    for read, index in enumerate(sorted(range(len(image_set)), key=image_set.ids.__getitem__)):
        if read % rows == 0:
            let_go(image_set.images)
        pixels = hashlib.blake2b(image_set.images[index].tobytes(), digest_size=32).digest()
        groups.setdefault(pixels, []).append(index)
    equal = tuple(tuple(image_set.ids[index] for index in group) for group in groups.values() if len(group) > 1)
    return [group[0] for group in groups.values()], equal


def _draw(image_set: ImageSet, unique: list[int], n: int, seed: int, kind: str = "image") -> list[int]:
    """Positions of n images in the order in which they join: each class in an order of its own, by hash."""
    classes: dict[int, list[int]] = {}
    for index in unique:
        label = 0 if image_set.labels is None else int(image_set.labels[index])
        classes.setdefault(label, []).append(index)
    order = sorted(classes, key=lambda label: _rank(seed, "class", str(label)))
    members = [
        iter(sorted(classes[label], key=lambda index: _rank(seed, kind, image_set.ids[index]))) for label in order
    ]
    return [next(members[seat]) for seat in _seats([len(classes[label]) for label in order], n)]


def _rank(seed: int, kind: str, name: str) -> bytes:
    text = f"{int(seed)}/{kind}/{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16, person=b"ambient-split-1").digest()


def quotas(sizes: Sequence[int], n: int) -> NDArray[np.int64]:
    """How many of n come from each class: sum n, each less than 1 from n * size / sum(sizes), monotone in n.

    Largest remainders would keep the same bounds, but may take an image from a class when n grows (the
    Alabama paradox), and subsets would not be nested. So seats are given one at a time, each to the class
    with the earliest deadline among those that are due (R. Tijdeman 1980, "The chairman assignment problem",
    Discrete Mathematics 32).
    """
    return np.bincount(_seats(sizes, n), minlength=len(sizes)).astype(np.int64)


def _seats(sizes: Sequence[int], n: int) -> list[int]:
    """The class that each of the first n seats goes to; see `quotas`."""
    size = np.asarray(sizes, dtype=np.int64)
    total, given = int(size.sum()), np.zeros(len(size), dtype=np.int64)
    if len(size) == 1:
        return [0] * n
    scale = 2 * len(size) - 2
    seats: list[int] = []
    for seat in range(1, n + 1):
        # Tijdeman's x_c = lambda_c * seat - given_c, as the integer scale * total * x_c: no rounding decides
        # a seat.
        claim = scale * (size * seat - given * total)
        deadline = np.where(claim >= total, ((scale - 1) * total - claim) / size, np.inf)
        seats.append(int(np.argmin(deadline)))
        given[seats[-1]] += 1
    return seats
