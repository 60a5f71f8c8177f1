"""Near-duplicates within a training set, which hide copies from the gap ratio."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .arrays import Floats
from .neighbours import two_nearest

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of training images that lie near each other: int64 [P, 2], each pair once, the nearest first.

    distance [P]: between them, L2 on 0..255; images: how many images are in a pair; usual: the median distance of an
    image to its nearest other one.
    """

    pairs: npt.NDArray[np.int64]
    distance: Floats
    images: int
    usual: float


def near_duplicates(
    images: Images, *, k: float = 1 / 3, mirror: bool = False, device: str | torch.device = "cpu"
) -> NearDuplicates:
    """Images uint8 [n,H,W,C] whose nearest other one is nearer than k times the median of that distance.

    A copy with any noise in it is as near to both images of such a pair, so that d1/d2 is about 1 and f_mem does not
    count it; exact copies have d1 = 0 and are counted. Each image is paired with its nearest other only, so a group of
    m images gives fewer than m (m - 1) / 2 pairs. mirror: an image and another's mirror image count as near, too. Where
    more than half of all images have a near-duplicate, the median is theirs, and only equal ones are found: then
    `usual` is small. Fewer than 3 images have none.
    """
    if len(images) < 3:
        return NearDuplicates(np.empty((0, 2), dtype=np.int64), np.empty(0), 0, float("nan"))
    found = two_nearest(images, images, mirror=mirror, device=device)
    itself = found.index[:, 0] == np.arange(len(images))
    other, distance = np.where(itself, found.index[:, 1], found.index[:, 0]), found.distance[:, 1]
    usual = float(np.median(distance))
    near = np.flatnonzero((distance < k * usual) | (distance == 0))
    pairs, first = np.unique(np.sort(np.stack([near, other[near]], axis=1), axis=1), axis=0, return_index=True)
    apart = distance[near][first]
    order = np.argsort(apart, kind="stable")
    return NearDuplicates(pairs[order], apart[order], len(np.unique(pairs)), usual)
