"""Intervals that do not overlap: how often some candidate seems better that is not."""

import numpy as np
import pytest

from ambient_ray.interval import over_seeds


@pytest.mark.parametrize(("seeds", "candidates", "expected"), [(3, 3, 0.007), (3, 10, 0.019), (5, 10, 0.021)])
def test_comparing_many_with_one_errs_in_less_than_5_percent_of_families(seeds, candidates, expected):
    """What `Interval.below` says of several candidates that are as good as their rival, and no better."""
    rng, families = np.random.default_rng(seeds + candidates), 3000
    found = 0
    for values in rng.normal(size=(families, candidates + 1, seeds)).tolist():
        rival, *others = [over_seeds(runs) for runs in values]
        found += any(other.below(rival) for other in others)
    assert found / families < 0.05
    assert abs(found / families - expected) < 4 * (expected / families) ** 0.5
