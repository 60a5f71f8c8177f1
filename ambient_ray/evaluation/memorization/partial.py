"""Partial copies: which part of a generated image comes from one training image, tile by tile."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..arrays import Floats
from ..errors import EvaluationSettingsError, FeatureShapeError, TooFewImagesError
from ..estimate import Estimate, share_of
from ..neighbours import two_nearest

Images = npt.NDArray[np.uint8]
#: Tiles along each side: each half as wide and high as the image, overlapping by half of themselves.
TILES = 3
#: A partial copy has at least this share of its area from one training image: two neighbouring tiles, not one.
PARTIAL_AREA = 1 / 3
_FLAT = 8.0  # grey levels, root mean square


@dataclass(frozen=True)
class PartialCopies:
    """Which part of each of N images is copied, and from where.

    area: float64 [N] in [0, 1], the share of the image's area that lies in tiles copied from one training image, the
    one from which most is; index: int64 [N], that training image, -1 where no tile is copied; tiles: bool [N,3,3],
    which tiles are copied from it, from top to bottom and from left to right.
    """

    area: Floats
    index: npt.NDArray[np.int64]
    tiles: npt.NDArray[np.bool_]

    def share(self, at_least: float = PARTIAL_AREA) -> Estimate:
        """The share of images of which at least this part of the area is copied, with Wilson's 95 % interval."""
        if not 0 < at_least <= 1:
            raise EvaluationSettingsError(f"The part of an image's area must lie in (0, 1], got {at_least}.")
        return share_of(self.area >= at_least - 1e-9)

    def pixels(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """The copied part as a map [N,H,W] over images of that size."""
        rows, columns = _spans(height), _spans(width)
        found = np.zeros((len(self.area), height, width), dtype=np.bool_)
        for y, x in np.ndindex(TILES, TILES):
            found[:, rows[y], columns[x]] |= self.tiles[:, y, x, None, None]
        return found


def partial_copies(
    images: Images, train: Images, *, k: float = 1 / 3, mirror: bool = False, device: str | torch.device = "cpu"
) -> PartialCopies:
    """Tile by tile, the gap ratio of f_mem (Yoon et al. 2023), and what of each image comes from one training image.

    images uint8 [N,H,W,C], train uint8 [M,H,W,C], M >= 2. A tile is compared with the tiles at the same place of all
    training images (mirror: and of their mirror images; both count as one), and is copied where d1/d2 < k, as a whole
    image is for f_mem. A tile whose second neighbour, too, is nearer than 8 grey levels (root mean square) is never
    copied: sky and black corners lie near many images at once and say nothing about one. Tiles that are copied from one
    and the same training image are added up.

    It finds half of a training image beside something else, which moves d1/d2 of the whole image to about 1; it does
    not see shifted copies, nor parts that were put elsewhere. Small tiles have few pixels, so some held-out images
    have one by chance: read the share beside that of held-out images. Time is that of nine searches in a quarter of the
    pixels each.

    Raises FeatureShapeError (not uint8 images of one size, or smaller than 4 x 4), TooFewImagesError (M < 2),
    EvaluationSettingsError (k outside (0, 1]).
    """
    if not 0 < k <= 1:
        raise EvaluationSettingsError(f"The gap ratio's threshold k must lie in (0, 1], got {k}.")
    for name, values in (("generated images", images), ("training images", train)):
        if values.dtype != np.uint8 or values.ndim != 4 or min(values.shape[1:3]) < 4:
            raise FeatureShapeError(
                f"Partial copies need uint8 images [N,H,W,C] of 4 x 4 pixels or more, the {name} are {values.dtype} "
                f"{list(values.shape)}."
            )
    if images.shape[1:] != train.shape[1:]:
        raise FeatureShapeError(
            f"The generated images have shape {images.shape[1:]} and the training images {train.shape[1:]}; "
            "partial copies need one size."
        )
    if len(train) < 2:
        raise TooFewImagesError(f"Partial copies need at least 2 training images, got {len(train)}.")
    _, height, width, _ = images.shape
    rows, columns = _spans(height), _spans(width)
    source = np.empty((len(images), TILES, TILES), dtype=np.int64)
    sides = [train, train[:, :, ::-1]] if mirror else [train]
    for y, x in np.ndindex(TILES, TILES):
        cut = (slice(None), rows[y], columns[x])
        source[:, y, x] = _sources(images[cut], [side[cut] for side in sides], k, device)
    return _added_up(source, height, width)


def _sources(tiles: Images, sides: list[Images], k: float, device: str | torch.device) -> npt.NDArray[np.int64]:
    """The training image that each tile [N,h,w,C] is copied from, -1 for none."""
    found = [two_nearest(tiles, np.ascontiguousarray(side), device=device) for side in sides]
    index = np.concatenate([one.index for one in found], axis=1)
    distance = np.concatenate([one.distance for one in found], axis=1)
    rows, first = np.arange(len(tiles)), distance.argmin(axis=1)
    nearest = index[rows, first]
    # The second is the nearest of another image: an image's own mirror image is no rival.
    second = np.where(index == nearest[:, None], np.inf, distance).min(axis=1)
    telling = second >= _FLAT * float(np.prod(tiles.shape[1:])) ** 0.5
    return np.where(telling & (distance[rows, first] < k * second), nearest, -1)


def _added_up(source: npt.NDArray[np.int64], height: int, width: int) -> PartialCopies:
    """For each image, the training image from which the most area comes; source: int64 [N,3,3], -1 for none."""
    area = np.zeros(len(source))
    index = np.full(len(source), -1, dtype=np.int64)
    tiles = np.zeros(source.shape, dtype=np.bool_)
    flat = source.reshape(len(source), -1)
    for column in range(flat.shape[1]):  # each tile's source is a candidate
        candidate = flat[:, column]
        theirs = (source == candidate[:, None, None]) & (candidate >= 0)[:, None, None]
        covered = PartialCopies(area, index, theirs).pixels(height, width).mean(axis=(1, 2))
        better = covered > area
        area = np.where(better, covered, area)
        index = np.where(better, candidate, index)
        tiles = np.where(better[:, None, None], theirs, tiles)
    return PartialCopies(area, index, tiles)


def _spans(side: int) -> list[slice]:
    """Where the tiles lie along a side."""
    wide = (side + 1) // 2
    return [slice(start, start + wide) for start in (0, (side - wide) // 2, side - wide)]
