"""The built-in `digits`: 1,797 handwritten digits, 8x8 pixels, part of scikit-learn (UCI, Alpaydin 1998)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..image_set import ImageSet
from ..picture import Fit
from .arrays import image_set_of_arrays


def read_digits(fit: Fit) -> ImageSet:
    """Grey images [1797,8,8,1], their levels 0..16 spread over 0..255, labels 0..9; nothing is downloaded."""
    # The file itself: importing scikit-learn takes longer than a search should take to begin.
    spec = find_spec("sklearn")
    assert spec is not None and spec.origin is not None  # a dependency of this package
    table = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",", dtype=np.int64)
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return image_set_of_arrays(images, table[:, -1], where="digits", name="digits", fit=fit)
