"""Copies planted in known numbers: each kind is found by the scores that the README says, missed by the rest."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ambient_ray.data import load_images, split
from ambient_ray.evaluation import (
    Cells,
    Estimate,
    authentic_share,
    calibrated_tau,
    copied_share,
    covered_training_set,
    data_copying,
    nearest_similarity,
    partial_copies,
    similarity_share,
    training_radii,
    two_nearest,
    unique_memorization,
)
from ambient_ray.evaluation.extractors import efficientnet

README = (Path(__file__).parents[3] / "README.md").read_text()
N, PLANTED, N_TRAIN = 200, 60, 200
NOTHING = Estimate(0.0, 0.0, 0.0)
VARIANTS = ("exact", "mirrored", "shifted", "noisy", "half")


def pictures(n, seed):
    """Smooth random fields with a shape on each, uint8 [n, 16, 16, 3]."""
    generator = np.random.default_rng(seed)
    fields = gaussian_filter(generator.normal(size=(n, 16, 16, 3)), (0, 2, 2, 0.5), mode="nearest")
    fields = 128 + 45 * fields / fields.std()
    y, x = np.mgrid[:16, :16]
    for field in fields:
        centre, radius = generator.uniform(3, 13, size=2), generator.uniform(2, 5)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        field[inside] = generator.uniform(0, 255, size=3)
    return fields.clip(0, 255).round().astype(np.uint8)


@cache
def world():
    every = pictures(N_TRAIN + 2 * N, 0)
    return every[:N_TRAIN], every[N_TRAIN : N_TRAIN + N], every[N_TRAIN + N :]


def planted(variant):
    """N fresh images, of which PLANTED are made from as many different training images."""
    train, _, fresh = world()
    samples, originals = fresh.copy(), train[:PLANTED]
    generator = np.random.default_rng(1)
    if variant == "mirrored":
        originals = originals[:, :, ::-1]
    elif variant == "shifted":
        moves = generator.choice([-2, -1, 1, 2], size=(PLANTED, 2))
        originals = np.stack([np.roll(a, tuple(m), (0, 1)) for a, m in zip(originals, moves, strict=True)])
    elif variant == "noisy":
        originals = (originals + generator.normal(scale=8, size=originals.shape)).clip(0, 255).round().astype(np.uint8)
    elif variant == "half":
        originals = np.concatenate([originals[:, :, :8], fresh[:PLANTED, :, 8:]], axis=2)
    samples[:PLANTED] = originals
    return samples


@cache
def features():
    """EfficientNet-Lite0's features, of images at 48 instead of 128 pixels: a seventh of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet, "RESOLUTION", 48)
        network = efficientnet.EfficientNetLite0()
        return {which: network(images) for which, images in batches().items()}


def batches():
    train, heldout, fresh = world()
    return {"train": train, "heldout": heldout, "fresh": fresh[PLANTED:]} | {v: planted(v)[:PLANTED] for v in VARIANTS}


@cache
def scores(variant):
    """The verdict of each column, the null's rate accounted for."""
    train, heldout, _ = world()
    samples = planted(variant)
    known = features()["train"]
    ours = np.concatenate([features()[variant], features()["fresh"]])
    null_similarity = nearest_similarity(features()["heldout"], known)
    tau = calibrated_tau(null_similarity, 0.99)[0]
    plain, real = two_nearest(samples, train), two_nearest(heldout, train)

    def f_mem(images, **options):
        return copied_share(two_nearest(images, train, **options).ratio)

    pairs = {
        "f_mem": (f_mem(samples), f_mem(heldout)),
        "f_mem mirror": (f_mem(samples, mirror=True), f_mem(heldout, mirror=True)),
        "f_mem shift": (f_mem(samples, shift=2), f_mem(heldout, shift=2)),
        "s_tau": (similarity_share(nearest_similarity(ours, known), tau), similarity_share(null_similarity, tau)),
        "partial": tuple(partial_copies(a, train).share() for a in (samples, heldout)),
    }
    found = {name: verdict(estimate, null, PLANTED / N) for name, (estimate, null) in pairs.items()}
    found["AuthPct"] = verdict(fall(authenticity(samples), authenticity(heldout)), NOTHING, PLANTED / N)
    found["C_T"] = "found" if c_t(samples, heldout, train).high < 0 else "missed"
    coverage, null = (covered_training_set(a.index[:, 0], a.ratio < 1 / 3, N_TRAIN) for a in (plain, real))
    found["coverage of S"] = verdict(coverage, null, PLANTED / N_TRAIN)
    return found


def authenticity(images):
    train = world()[0]
    return authentic_share(two_nearest(images, train), training_radii(train))


def c_t(images, heldout, train):
    cells = Cells.of(train)
    near, far = (two_nearest(a, train).distance[:, 0] for a in (images, heldout))
    return data_copying(near, cells.containing(images), far, cells.containing(heldout))


def fall(estimate, null):
    """By which share the authentic images are fewer than among held-out ones: copies never are; delta method."""
    ratio = estimate.value / null.value
    error = ratio * sum((1 - a.value) / (a.n * a.value) for a in (estimate, null)) ** 0.5
    return Estimate(1 - ratio, 1 - ratio - 1.96 * error, 1 - ratio + 1.96 * error)


def verdict(estimate, null, share):
    """Found: the interval holds the planted share; partly: it is above the null's; missed: neither."""
    if estimate.low <= share + (1 - share) * null.value <= estimate.high:
        return "found"
    return "partly" if estimate.low > null.high else "missed"


def table():
    lines = [line for line in README.splitlines() if line.startswith("| ")]
    start = next(number for number, line in enumerate(lines) if line.startswith("| planted copies |"))
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[start:]]
    header = rows[0][1:]
    return {row[0]: dict(zip(header, row[1:], strict=True)) for row in rows[1:] if row[0] in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
def test_readme_table_says_which_score_finds_which_copies(variant):
    # EfficientNet's features of 840 images take most of the time.
    assert table()[variant] == scores(variant)


@pytest.mark.parametrize("kind", ["pictures", "digits"])
def test_copies_score_one_and_heldout_images_about_none(kind):
    if kind == "digits":
        parts = split(load_images("digits"), 300, seed=0)
        train, heldout = parts.train.images, parts.heldout.images[:300]
    else:
        train, heldout, _ = world()
    copies = two_nearest(train, train)
    assert copied_share(copies.ratio).value == 1
    assert similarity_share(nearest_similarity(train, train), 0.999).value == 1
    assert authentic_share(copies, training_radii(train)).value == 0
    assert covered_training_set(copies.index[:, 0], copies.ratio < 1 / 3, len(train)).value == 1
    assert unique_memorization(copies.index[:, 0], copies.ratio < 1 / 3, len(train)).value == 1
    assert c_t(train, heldout, train).high < -5
    assert copied_share(two_nearest(heldout, train).ratio).value < 0.02
    assert abs(c_t(heldout[::2], heldout[1::2], train).value) < 2.5
    assert partial_copies(heldout, train).share().value < 0.05


def test_the_map_shows_the_copied_half_and_its_source():
    train = world()[0]
    result = partial_copies(planted("half")[:PLANTED], train)
    inside = result.pixels(16, 16)
    assert np.mean(result.index == np.arange(PLANTED)) > 0.9
    assert inside[:, :, :8].mean() > 0.9
    assert inside[:, :, 12:].mean() < 0.05


def test_a_flat_sky_is_nobodys():
    train, heldout, _ = (images.copy() for images in world())
    train[:, :8], heldout[:, :8] = 200, 200
    assert partial_copies(heldout, train).share().value < 0.02
