"""AuthPct: samples that are nearer to a training image than that image is to any other."""

import numpy as np
import torch

from ..arrays import Array, Floats, as_features
from ..errors import FeatureShapeError, TooFewImagesError
from ..estimate import Estimate, share_of
from ..neighbours import TwoNearest, two_nearest


def authentic_share(nearest: TwoNearest, radii: Floats) -> Estimate:
    """AuthPct as a fraction of 1 (Alaa et al. 2022; as in dgm-eval), with Wilson's 95 % interval.

    The share of images whose distance to the nearest training image is larger than that training image's distance to
    its own nearest other one. nearest: `two_nearest(features, training features)`; radii [n_train]:
    `training_radii(training features)`. Copies give 0. Images of the training set's own law do not give 1 but about
    1/2: read it beside the same figure for held-out images. Raises FeatureShapeError (radii of another set).
    """
    if nearest.index.max(initial=-1) >= len(radii):
        raise FeatureShapeError(
            f"Neighbours are looked for among more than the {len(radii)} training images that have a radius."
        )
    return share_of(nearest.distance[:, 0] > radii[nearest.index[:, 0]])


def training_radii(train: Array, *, device: str | torch.device = "cpu") -> Floats:
    """Each training image's distance to its nearest other one: float64 [n], of features [n, d], n >= 2.

    An exact duplicate has the radius 0. Raises TooFewImagesError, FeatureShapeError, NonFiniteFeaturesError.
    """
    matrix = as_features(train, "training features")
    if len(matrix) < 2:
        raise TooFewImagesError("A training image's radius is its distance to another; one image alone has none.")
    found = two_nearest(matrix, matrix, device=device)
    # Itself is one of the two nearest, at distance 0, unless two duplicates are, and then 0 is the answer as well.
    return np.asarray(found.distance[:, 1])
