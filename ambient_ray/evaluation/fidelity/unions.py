"""The variance of a share over sample sets, from its values on unions of blocks of the one set that there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Floats

_BLOCKS = 8  # equal parts of a sample set
_SMALLEST = 3  # blocks of the smallest union: smaller ones tell little of the whole set, and need longer lists
_GROUPINGS = 8  # random divisions into blocks
_SURE = 64  # of so many samples some are in every union: (5/8)^64 = 1e-13
_MEMBERS = np.array([union for union in range(1 << _BLOCKS) if union.bit_count() >= _SMALLEST], dtype=np.int64)
_WORDS = -(-len(_MEMBERS) // 64)

Words = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def listed(k: int, n: int) -> int:
    """How many nearest of n images to list, so that the smallest union has k of them (for all but 1 ball in 10^4)."""
    return min(8 * k + 16, n - 1)


@dataclass(frozen=True)
class Pairs:
    """Which sample could have which image of the reference in its ball.

    image: int64 [P], ascending; sample: int64 [P]; nearer: int64 [P], how many other samples are nearer to the sample
    than the image is (all 0 where the ball does not depend on the other samples).
    """

    image: Indices
    sample: Indices
    nearer: Indices

    @classmethod
    def joined(cls, parts: list[Pairs]) -> Pairs:
        """The pairs of consecutive blocks of images."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("image", "sample", "nearer")))


def fixed_pairs(inside: npt.NDArray[np.bool_], first: int) -> Pairs:
    """Pairs of balls of the reference: inside [rows, M], whether the ball of image `first + row` holds a sample."""
    image, sample = np.nonzero(_enough(inside))
    return Pairs(image + first, sample, np.zeros_like(sample))


def moving_pairs(squares: Floats, distances: Floats, k: int, first: int) -> Pairs:
    """Pairs of balls of the samples, whose radius is the k-th distance: squares [rows, M] from images to samples;
    distances [M, K], each sample's K nearest others' in ascending order, all of them squared."""
    near = squares <= distances[:, -1]
    inside = squares <= distances[:, k - 1]
    sure = inside.sum(axis=1) > _SURE  # a ball only widens as others leave: these decide
    near[sure] = _enough(inside[sure])
    image, sample = np.nonzero(near)
    value = squares[image, sample]
    low, high = np.zeros(len(value), dtype=np.int64), np.full(len(value), distances.shape[1], dtype=np.int64)
    while (low < high).any():  # a binary search in each pair's own list
        middle = (low + high) // 2
        before = (middle < high) & (distances[sample, np.minimum(middle, distances.shape[1] - 1)] < value)
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    return Pairs(image + first, sample, low)


def _enough(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same with no more than the first _SURE of a row."""
    many = np.flatnonzero(inside.sum(axis=1) > _SURE)
    if len(many):
        inside = inside.copy()
        inside[many] &= np.cumsum(inside[many], axis=1) <= _SURE
    return inside


def set_variances(fixed: Pairs, moving: Pairs, nearest: Indices, images: int, k: int) -> tuple[float, float]:
    """Variances of coverage and of recall over other sample sets of the same number M, for one reference.

    fixed, moving: all the pairs of either kind; nearest: int64 [M, K], each sample's nearest others; images: of the
    reference. Seeded, so the same sets give the same; time and memory grow with the pairs and with M K, not with N M.

    A set is divided into 8 blocks, and both shares are computed for all unions of 3 to 7 of them, eight times over.
    Half the mean squared difference of two unions of a blocks that share o of them estimates, without bias, what the
    variance components leave: sum over orders j of V_j (1 - (o/a)^j) (Efron and Stein 1981). Divided by
    w = 1 - o/a, this goes from the jackknife's sum of j V_j at w = 0 to the variance at w = 1, and it changes smoothly
    with t = a/8: its logarithm, fitted by 1, w, w^2, log t, log^2 t, is read off at w = t = 1.
    """
    rng = np.random.default_rng(0)
    m = len(nearest)
    halves = np.zeros((2, len(_A)))
    for _ in range(_GROUPINGS):
        block = rng.permutation(np.arange(m) % _BLOCKS)
        words = _packed(((_MEMBERS >> block[:, None]) & 1).astype(bool))
        for row, pairs, holding in ((0, fixed, words[:, None]), (1, moving, _holding(words, nearest, k))):
            shares = _shares(pairs, holding, images)
            squares = np.square(shares[:, None] - shares).ravel() / 2
            halves[row] += np.bincount(_CELL, squares, minlength=len(_A) + 1)[:-1] / _CELL_SIZES
    coverage, recall = (_at_full_size(row / _GROUPINGS) for row in halves)
    return coverage, recall


def _packed(flags: npt.NDArray[np.bool_]) -> Words:
    """Flags [..., unions] as bits [..., words]."""
    padded = np.zeros((*flags.shape[:-1], 64 * _WORDS), dtype=bool)
    padded[..., : flags.shape[-1]] = flags
    return np.packbits(padded, axis=-1).view(np.uint64)


def _holding(words: Words, nearest: Indices, k: int) -> Words:
    """Bits [M, K + 1, words]: the unions in which a sample's ball holds what r of its others are nearer than.

    words: uint64 [M, words], the unions that a sample is in.
    """
    m, depth = nearest.shape
    found = np.empty((m, depth + 1, _WORDS), dtype=np.uint64)
    reached = np.zeros((k, m, _WORDS), dtype=np.uint64)  # unions that have at least 1, 2, .. k of the nearer ones
    for r in range(depth + 1):
        found[:, r] = words & ~reached[-1]
        if r < depth:
            other = words[nearest[:, r]]
            for least in range(k - 1, 0, -1):
                reached[least] |= reached[least - 1] & other
            reached[0] |= other
    return found


def _shares(pairs: Pairs, words: Words, images: int) -> Floats:
    """Share of the images that are in a ball of each union [unions]."""
    if not len(pairs.image):
        return np.zeros(len(_MEMBERS))
    starts = np.flatnonzero(np.diff(pairs.image, prepend=-1))
    held = np.bitwise_or.reduceat(words[pairs.sample, pairs.nearer], starts, axis=0)
    hits = np.unpackbits(held.view(np.uint8), axis=1).sum(axis=0)[: len(_MEMBERS)]
    return np.asarray(hits / images)


def _at_full_size(halves: Floats) -> float:
    """The variance at a = 8, o = 0 by least squares; 0 where too few unions differ to say."""
    some = halves > 0
    if some.sum() < 2 * _DESIGN.shape[1]:
        return 0.0
    fitted = np.linalg.lstsq(_DESIGN[some], np.log(halves[some] / _W[some]), rcond=None)[0]
    return float(np.exp(fitted[:3].sum()))  # w = 1, log t = 0


def _cells() -> tuple[Indices, Indices, Indices]:
    """Sizes a and overlaps o of two unions of equal size, and which of these each pair of unions [U * U] is."""
    sizes = np.array([int(union).bit_count() for union in _MEMBERS])
    shared = np.array([[int(one & other).bit_count() for other in _MEMBERS] for one in _MEMBERS])
    pairs = [(a, o) for a in range(_SMALLEST, _BLOCKS) for o in range(max(0, 2 * a - _BLOCKS), a)]
    cell = np.full(shared.shape, len(pairs))
    for number, (a, o) in enumerate(pairs):
        cell[(sizes[:, None] == a) & (sizes == a) & (shared == o)] = number
    a, o = np.array(pairs).T
    return a, o, cell.ravel()


_A, _O, _CELL = _cells()
_CELL_SIZES = np.bincount(_CELL)[:-1]
_W, _LOG_T = 1 - _O / _A, np.log(_A / _BLOCKS)
_DESIGN = np.stack([np.ones(len(_A)), _W, _W**2, _LOG_T, _LOG_T**2], axis=1)
