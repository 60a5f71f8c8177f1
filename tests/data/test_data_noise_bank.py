"""The noise bank is the method: a pure, portable, independent function of (seed, id, draw)."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ambient_ray.data import fixed_noise, noise_bank

SHAPE = (1, 4, 4)
ids = st.lists(st.text(max_size=12), min_size=1, max_size=8, unique=True)
seeds = st.integers(-(2**70), 2**70)


@settings(deadline=None, max_examples=60)
@given(ids=ids, seed=seeds, draws=st.integers(1, 3), order=st.randoms())
def test_each_value_depends_on_seed_id_and_draw_alone(ids, seed, draws, order):
    bank = noise_bank(ids, SHAPE, seed=seed, draws=draws)
    assert bank.shape == (len(ids), draws, *SHAPE)
    assert bank.dtype == np.float32
    shuffled = list(ids)
    order.shuffle(shuffled)
    again = noise_bank(shuffled[: 1 + len(ids) // 2], SHAPE, seed=seed, draws=draws)
    for row, image_id in zip(again, shuffled, strict=False):
        np.testing.assert_array_equal(row, bank[ids.index(image_id)])
        for draw in range(draws):
            np.testing.assert_array_equal(row[draw], fixed_noise(image_id, SHAPE, seed=seed, draw=draw))


@settings(deadline=None, max_examples=60)
@given(names=st.lists(st.tuples(seeds, st.text(max_size=8), st.integers(0, 200)), min_size=2, max_size=6, unique=True))
def test_different_seed_id_or_draw_is_different_noise(names):
    noises = [fixed_noise(image_id, SHAPE, seed=seed, draw=draw) for seed, image_id, draw in names]
    for index, noise in enumerate(noises):
        assert all(not np.array_equal(noise, other) for other in noises[index + 1 :])


def test_an_id_cannot_imitate_another_seed_or_draw():
    plain = fixed_noise("2/x", SHAPE, seed=1, draw=1)
    for seed, draw, image_id in ((1, 12, "x"), (11, 2, "x"), (1, 1, "/2/x"), (1, 1, "2/x ")):
        assert not np.array_equal(plain, fixed_noise(image_id, SHAPE, seed=seed, draw=draw))


def test_golden_values():
    """The bank never changes silently: a study continued with another NumPy must see the very same noise."""
    found = fixed_noise("cats/0001.png", (1, 2, 3), seed=0, draw=0).ravel()
    np.testing.assert_array_equal(found, np.array(GOLDEN, dtype=np.float32))
    odd = fixed_noise("é\udcff", (1, 1, 2), seed=-5, draw=7).ravel()
    np.testing.assert_array_equal(odd, np.array(GOLDEN_ODD, dtype=np.float32))


GOLDEN = (
    0.5917245745658875,
    1.2691680192947388,
    0.234938383102417,
    0.4322352111339569,
    -1.7332864999771118,
    -0.17249852418899536,
)
GOLDEN_ODD = (0.030618468299508095, 1.46080482006073)


def test_another_process_and_global_generators_change_nothing():
    before = fixed_noise("a", SHAPE, seed=3, draw=0)
    np.random.seed(1)
    np.random.standard_normal(7)
    np.testing.assert_array_equal(before, fixed_noise("a", SHAPE, seed=3, draw=0))
    call = f"fixed_noise('a', {SHAPE}, seed=3, draw=0)"
    code = f"from ambient_ray.data import fixed_noise; print({call}.tobytes().hex())"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    )
    assert out.stdout.strip() == before.tobytes().hex()


def test_leaves_global_generators_alone():
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    noise_bank(["a", "b"], SHAPE, seed=0, draws=2)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_is_standard_normal():
    bank = noise_bank([f"{index:05d}" for index in range(4000)], (3, 8, 8), seed=11)
    values = bank.astype(np.float64).ravel()
    count = values.size
    assert abs(values.mean()) < 4 / np.sqrt(count)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs(stats.skew(values)) < 4 * np.sqrt(6 / count)
    assert abs(stats.kurtosis(values)) < 4 * np.sqrt(24 / count)
    assert stats.kstest(values[:: count // 50_000], "norm").pvalue > 1e-3
    # each noise by itself: squared norms follow chi-squared, which a shared or repeated stream would break
    norms = (bank.reshape(4000, -1).astype(np.float64) ** 2).sum(axis=1)
    assert stats.kstest(norms, "chi2", args=(192,)).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["ids", "draws", "seeds"])
def test_noises_are_uncorrelated(kind):
    shape, count = (1, 16, 16), 300
    if kind == "ids":
        noises = noise_bank([str(index) for index in range(count)], shape, seed=0)
    elif kind == "draws":
        noises = noise_bank(["x"], shape, seed=0, draws=count)
    else:
        noises = np.stack([fixed_noise("x", shape, seed=seed, draw=0) for seed in range(count)])
    flat = noises.reshape(count, -1).astype(np.float64)
    products = (flat @ flat.T)[np.triu_indices(count, 1)] / 16  # of 256 values each: standard normal if independent
    assert abs(products.mean()) < 5 / np.sqrt(products.size)
    assert abs(products.var() - 1) < 0.05
    assert np.abs(products).max() < 6.5


def test_pixels_are_uncorrelated():
    flat = noise_bank([str(index) for index in range(3000)], SHAPE, seed=2).reshape(3000, 16).astype(np.float64)
    correlation = np.corrcoef(flat.T)[np.triu_indices(16, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(3000)


def test_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="draws"):
        noise_bank(["a"], SHAPE, seed=0, draws=0)
    with pytest.raises(ValueError, match="draw must"):
        fixed_noise("a", SHAPE, seed=0, draw=-1)
    with pytest.raises(TypeError, match="text"):
        fixed_noise(3, SHAPE, seed=0, draw=0)
    with pytest.raises(TypeError, match="not one text"):
        noise_bank("abc", SHAPE, seed=0)
    assert noise_bank([], SHAPE, seed=0).shape == (0, 1, *SHAPE)
