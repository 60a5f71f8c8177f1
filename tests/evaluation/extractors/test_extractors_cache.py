"""Cached features are the extractor's own, belong to one extractor and one image set, and survive a damaged file."""

import numpy as np
import pytest

from ambient_ray.evaluation import CachedExtractor, PixelExtractor, References


class Counted(PixelExtractor):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        return super().__call__(images)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)


def test_the_second_time_nothing_is_computed(tmp_path, images):
    first, second = Counted(), Counted()
    wanted = CachedExtractor(first, tmp_path)(images)
    kept = CachedExtractor(second, tmp_path)(images)
    assert np.array_equal(kept, PixelExtractor()(images)) and np.array_equal(kept, wanted)
    assert kept.dtype == np.float32 and (first.calls, second.calls) == (1, 0)


def test_other_images_and_other_weights_have_features_of_their_own(tmp_path, images):
    cached = CachedExtractor(Counted(), tmp_path)
    cached(images)
    changed = images.copy()
    changed[3, 0, 0, 0] ^= 1
    assert np.array_equal(cached(changed), PixelExtractor()(changed))
    assert np.array_equal(cached(images[::-1]), PixelExtractor()(images[::-1]))
    trained_again = Counted()
    trained_again.weight_hash = "another"
    CachedExtractor(trained_again, tmp_path)(images)
    assert trained_again.calls == 1


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY nonsense", None])
def test_a_file_that_cannot_be_read_is_made_again(tmp_path, images, damage):
    CachedExtractor(Counted(), tmp_path)(images)
    (file,) = tmp_path.glob("features-*.npy")
    file.write_bytes(file.read_bytes()[:-7] if damage is None else damage)
    again = Counted()
    assert np.array_equal(CachedExtractor(again, tmp_path)(images), PixelExtractor()(images))
    assert again.calls == 1
    CachedExtractor(again, tmp_path)(images)
    assert again.calls == 1 and [p.name for p in tmp_path.iterdir()] == [file.name]


def test_references_are_the_same_with_it(tmp_path, images):
    from ambient_ray.data import ImageSet

    train, heldout = (ImageSet(part, None, [str(i) for i in range(10)]) for part in (images[:10], images[10:]))
    plain = References.build(PixelExtractor(), train, heldout)
    for _ in range(2):
        cached = References.build(CachedExtractor(Counted(), tmp_path), train, heldout)
        assert np.array_equal(cached.originals.features, plain.originals.features)
        assert (cached.originals.tau, cached.extractor, cached.weight_hash) == (
            plain.originals.tau,
            plain.extractor,
            plain.weight_hash,
        )
