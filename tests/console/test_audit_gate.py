"""The release gate: what passes, what is shown, and how many samples would show it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.console.auditing.gate import (
    LARGER_IS_BETTER,
    Bound,
    BoundError,
    Measure,
    judge,
    measures,
    named,
    parse_bounds,
    samples_needed,
)
from ambient_ray.evaluation import LARGER_IS_BETTER as IN_THE_EVALUATION
from ambient_ray.evaluation.estimate import share_interval, wilson_interval


@given(share=st.floats(0, 0.9), limit=st.floats(0.001, 0.99))
def test_so_many_samples_and_no_fewer_put_the_interval_s_end_at_the_limit(share: float, limit: float) -> None:
    if not share < limit - 1e-3:
        return
    n = samples_needed(share, limit)
    assert n is not None
    assert share_interval(share, n).high <= limit + 1e-9
    assert n == 1 or share_interval(share, n - 1).high > limit - 1e-9


def test_no_copies_and_one_per_cent_take_381_samples_and_nothing_shows_zero() -> None:
    assert samples_needed(0, 0.01) == 381
    assert wilson_interval(0, 381).high <= 0.01 < wilson_interval(0, 380).high
    assert samples_needed(0, 0) is None and samples_needed(0.1, 0.1) is None


@given(
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(sorted),
    limit=st.floats(0, 1),
    least=st.booleans(),
)
def test_what_is_shown_passes_either_way_and_what_passes_by_the_end_passes_by_the_value(
    ends: list[float], limit: float, least: bool
) -> None:
    low, value, high = ends
    name = "authentic" if least else "f_mem"
    bounds, found = [Bound(name, limit, least)], {name: Measure(name, value, low, high)}
    by_value, by_end = (judge(bounds, found, by)[0] for by in ("value", "upper"))
    assert by_value.passed == (value >= limit if least else value <= limit)
    assert by_end.passed == (low >= limit if least else high <= limit)
    assert by_value.passed or not by_end.passed
    assert by_value.shown == (by_end.passed or (high < limit if least else low > limit))


def test_what_could_not_be_computed_does_not_pass() -> None:
    nothing = {"f_mem": Measure("f_mem", math.nan, math.nan, math.nan)}
    for by in ("value", "upper"):
        judged = judge([Bound("f_mem", 1)], nothing, by)[0]
        assert not judged.passed and not judged.shown
    with pytest.raises(BoundError, match="recall cannot be judged: there are too few images"):
        judge([Bound("recall", 0.5, least=True)], nothing, "value")


def test_a_null_stands_beside_copying_only() -> None:
    values = {
        "f_mem": 0.1, "f_mem_low": 0.0, "f_mem_high": 0.2, "f_mem_heldout": 0.01,
        "s_tau_850": 0.3, "s_tau_850_low": 0.2, "s_tau_850_high": 0.4, "s_null_850": 0.25,
        "fd_pixels": 3.0, "fd_pixels_low": 2.0, "fd_pixels_high": 4.0, "fd_pixels_heldout": 3.0, "tau": 0.9,
    }  # fmt: skip
    found = measures(values)
    assert {name: measure.null for name, measure in found.items()} == {
        "f_mem": 0.01,
        "s_tau_850": 0.25,
        "fd_pixels": None,
    }


def test_the_short_names_of_distances_take_the_extractor_s() -> None:
    bounds = parse_bounds(["fd=3", "mi_fd=4"], ["c_t=-2"])
    assert named(bounds, "fid", {}) == [Bound("fid", 3), Bound("mi_fid", 4), Bound("c_t", -2, least=True)]
    with pytest.raises(BoundError, match=r"measures fid, fid_inf, mi_fid; bound one of them"):
        named(parse_bounds(["fd_pixels=1"], []), "fid", {})
    with pytest.raises(BoundError, match="fid cannot be bounded: why"):
        named(parse_bounds(["fid=1"], []), "fid", {"fd": "why"})


def test_both_rooms_agree_on_what_is_better_where_it_is_larger() -> None:
    assert set(LARGER_IS_BETTER) == set(IN_THE_EVALUATION)
