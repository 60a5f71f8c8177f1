"""Inception and DINOv2 on random weights in the right format: preprocessing, identity, precision, memory, pickling."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ambient_ray.data import ImageSet
from ambient_ray.errors import UserError
from ambient_ray.evaluation import (
    CachedExtractor,
    FeatureShapeError,
    ModuleExtractor,
    NonFiniteFeaturesError,
    build_extractor,
    fidelity_key,
)
from ambient_ray.evaluation.extractors import base
from ambient_ray.evaluation.extractors.dinov2 import paper_input, usual_input
from ambient_ray.evaluation.extractors.inception import untrained_inception

HUB = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 14, 14)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(self.patch(x).flatten(2).mean(2))

def _make(pretrained=True):
    assert not pretrained, "would download"
    return Tiny()

dinov2_vits14 = dinov2_vitb14 = dinov2_vitl14 = dinov2_vitg14 = _make
"""


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def some_images(n, size, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    network = untrained_inception().to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        if value.ndim > 1:
            state[key] = torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        else:
            state[key] = torch.ones_like(value) if key.endswith(("var", "bn.weight")) else torch.zeros_like(value)
    torch.save(state, path)
    return path


@pytest.fixture
def clone(tmp_path):
    """A folder with DINOv2's interface, and weights for its network."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "hubconf.py").write_text(HUB)
    names: dict = {}
    exec(HUB, names)
    torch.manual_seed(0)
    torch.save(names["Tiny"]().state_dict(), tmp_path / "tiny.pth")
    return {"repo": tmp_path / "repo", "weights": tmp_path / "tiny.pth", "sha256": digest(tmp_path / "tiny.pth")}


def build(name, tmp_path, **options):
    images = ImageSet(some_images(4, 8), None, list("abcd"))
    return build_extractor(name, image_set=images, cache_dir=tmp_path, **options)


def test_inception_is_torch_fidelitys_on_the_same_file(inception_file, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    oracle = FeatureExtractorInceptionV3("oracle", ["2048"], feature_extractor_weights_path=str(inception_file))
    ours = build("inception", tmp_path, weights=inception_file, sha256=digest(inception_file))
    images = some_images(3, 32)
    expected = oracle(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))[0].numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ours(images), expected, rtol=1e-4, atol=1e-5)
    grey = images[:1, :, :, :1]
    np.testing.assert_allclose(ours(grey), ours(np.repeat(grey, 3, axis=3)), rtol=1e-5, atol=1e-6)
    assert fidelity_key(ours.name) == "fid"
    assert ours.facts["weights_sha256"] == digest(inception_file)
    sent = pickle.dumps(ours)
    assert len(sent) < 2000
    assert pickle.loads(sent).weight_hash == ours.weight_hash


def test_other_weights_are_refused(inception_file, clone, tmp_path):
    with pytest.raises(UserError, match="expected 6726825d0af5f729"):
        build("inception", tmp_path, weights=inception_file)
    with pytest.raises(UserError, match="another network than inception: Conv2d_1a"):
        build("inception", tmp_path, weights=clone["weights"], sha256=clone["sha256"])
    with pytest.raises(UserError, match="another network than dinov2_vits14"):
        sha256 = digest(inception_file)
        build("dinov2_vits14", tmp_path, weights=inception_file, sha256=sha256, repo=clone["repo"])
    with pytest.raises(UserError, match=r"no clone of DINOv2 \(it has no hubconf.py\)"):
        build("dinov2_vits14", tmp_path, **clone | {"repo": tmp_path})


def test_options_nobody_takes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"evaluation\.weights is for features=inception, .*features=pixels takes none"):
        build("pixels", tmp_path, weights="w.pth")
    with pytest.raises(UserError, match=r"evaluation\.repo is for .*features=inception takes none"):
        build("inception", tmp_path, repo="clone")
    with pytest.raises(UserError, match=r"evaluation\.precision=bf16: features=pixels"):
        build("pixels", tmp_path, precision="bf16")


@pytest.mark.parametrize("name, prepare", [("dinov2_paper", paper_input), ("dinov2_vits14", usual_input)])
def test_dinov2_from_a_clone_travels_without_its_weights(name, prepare, clone, tmp_path):
    extractor = build(name, tmp_path, **clone)
    images = some_images(5, 32)
    network = extractor.module.network
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1)
    with torch.no_grad():
        np.testing.assert_allclose(extractor(images), network(prepare(x)).numpy(), rtol=1e-4, atol=1e-5)
    sent = pickle.dumps(extractor)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)(images), extractor(images))
    np.testing.assert_array_equal(CachedExtractor(extractor, tmp_path / "kept")(images), extractor(images))
    assert extractor.name == name


def test_the_preprocessing_is_part_of_the_identity(clone, tmp_path):
    paper, usual = build("dinov2_paper", tmp_path, **clone), build("dinov2_vitg14", tmp_path, **clone)
    assert paper.weight_hash != usual.weight_hash
    assert build("dinov2", tmp_path, **clone).name == "dinov2_vitl14"


def test_the_paper_pads_by_reflection_and_scales_to_0_1():
    for size, padded, before in ((32, 42, 5), (64, 70, 3), (27, 28, 0), (28, 28, 0)):
        images = some_images(1, size)[0].transpose(2, 0, 1)
        got = paper_input(torch.from_numpy(images / np.float32(127.5) - 1)[None])[0].numpy()
        places = [abs(place) if place < size else 2 * (size - 1) - place for place in range(-before, padded - before)]
        np.testing.assert_allclose(got, (images / 255)[:, places][:, :, places], atol=1e-6)
    with pytest.raises(FeatureShapeError, match="4 pixels are too small"):
        paper_input(torch.zeros(1, 3, 4, 4))


def test_the_usual_recipe_is_bicubic_to_224_with_imagenets_moments():
    images = some_images(1, 32, channels=1)[0, :, :, 0]
    got = usual_input(torch.from_numpy(images / np.float32(127.5) - 1)[None, None])[0].numpy()
    resized = np.asarray(Image.fromarray(images.astype(np.float32)).resize((224, 224), Image.Resampling.BICUBIC))
    grey = (resized / 255).clip(0, 1)
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        np.testing.assert_allclose(got[channel], (grey - mean) / std, atol=2e-2)


class Watching(nn.Module):
    """Enlarges its input, and keeps how much it saw at once."""

    def __init__(self, size):
        super().__init__()
        self.up, self.layer = nn.Upsample((size, size)), nn.Conv2d(3, 4, 1)
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        return self.layer(self.up(x)).mean(dim=(2, 3))


def test_auto_batches_hold_what_memory_holds_and_give_the_same_features(monkeypatch):
    monkeypatch.setattr(base, "_PROCESSOR_BYTES", 2.0**20)
    torch.manual_seed(0)
    module, images = Watching(64), some_images(20, 8)
    fits = 2**20 // (7 * 4 * 64**2)  # three enlarged channels and four more, float32
    auto = ModuleExtractor(module, name="w", batch_size="auto")(images)
    assert module.batches[:3] == [1, fits, fits]
    assert sum(module.batches[1:]) == 20
    module.batches.clear()
    np.testing.assert_allclose(auto, ModuleExtractor(module, name="w", batch_size=3)(images), rtol=1e-5, atol=1e-6)
    assert max(module.batches) == 3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_never_compared_with_full(precision):
    torch.manual_seed(0)
    module, images = Watching(16), some_images(4, 8)
    full, half = ModuleExtractor(module, name="w"), ModuleExtractor(module, name="w", precision=precision)
    a, b = full(images), half(images)
    assert b.dtype == np.float32
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=2e-2)
    assert full.weight_hash != half.weight_hash
    assert "precision" not in full.facts and half.facts["precision"] == precision


def test_the_image_and_the_extractor_of_a_nan_are_named():
    class Dividing(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)) / (x + 1).mean(dim=(2, 3))

    images = some_images(4, 8)
    images[2] = 0
    with pytest.raises(NonFiniteFeaturesError, match="dividing features: image 2 has NaN or infinite"):
        ModuleExtractor(Dividing(), name="dividing")(images)
