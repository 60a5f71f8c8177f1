"""The built-in `digits`: 1,797 handwritten digits, 8x8 pixels, part of scikit-learn (UCI, Alpaydin 1998)."""

from importlib import import_module

import numpy as np

from ..image_set import ImageSet
from ..picture import Fit
from .arrays import image_set_of_arrays


def read_digits(fit: Fit) -> ImageSet:
    """Grey images [1797,8,8,1], their levels 0..16 spread over 0..255, labels 0..9; nothing is downloaded."""
    held = import_module("sklearn.datasets").load_digits()  # takes a second to import, so only where it is asked for
    images = np.rint(np.asarray(held.images) * (255 / 16)).astype(np.uint8)
    return image_set_of_arrays(images, np.asarray(held.target), where="digits", name="digits", fit=fit)
