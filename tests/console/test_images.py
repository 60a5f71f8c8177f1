"""A study's images: named sets, published subsets and mapped files through the commands a user types; no Ray."""

import json

import numpy as np
import pytest

from ambient_ray import search, subsets
from ambient_ray.console import session, trials
from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.console.exits import guarded
from ambient_ray.console.images import check_memory, divide_images, publish_subset, read_images
from ambient_ray.console.preparation import prepare
from ambient_ray.data import SubsetError, TooLargeError, load_images, split
from ambient_ray.data.readers import named
from ambient_ray.data.subsets import read_list
from ambient_ray.tuning.study import StudySettingsChangedError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AMBIENT_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trials, "start_ray", lambda *args: pytest.fail("Ray was about to start"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def configured(tmp_path):
    def configured(*overrides):
        fixed = [f"output_dir={tmp_path}/out", "backbone=unet_small", "evaluation.features=pixels"]
        return validate(load("search", [*fixed, *overrides]))

    return configured


@pytest.fixture
def published(tmp_path, capsys):
    """The folder of the lists that the command writes for the digits."""
    sizes = ["sizes=[300,1000,30]", "seed=5", f"to={tmp_path}/subsets"]
    assert guarded(lambda: subsets.run(load("subsets", sizes))) == 0
    out = capsys.readouterr().out
    assert "digits: 1,797 images of 8x8" in out
    assert f"{tmp_path}/subsets/digits/subset-n1000-seed5.json: 1,000 images, sha256 " in out
    return tmp_path / "subsets" / "digits"


def test_the_command_writes_nested_lists_that_a_study_trains_on(published, configured):
    assert sorted(path.name for path in published.iterdir()) == [f"subset-n{n}-seed5.json" for n in (1000, 30, 300)]
    images = load_images("digits")
    for n in (30, 300, 1000):
        config = configured(f"dataset.subset={published}/subset-n{n}-seed5.json", f"dataset.n_train={n}")
        parts, drawn = divide_images(config, images), split(images, n, seed=5)
        assert parts.train.content_hash == drawn.train.content_hash
        assert parts.heldout.content_hash == drawn.heldout.content_hash
        np.testing.assert_array_equal(parts.nested, drawn.nested)


def test_a_study_publishes_its_subset_and_another_trains_on_it(configured):
    first = configured("study=first", "seed=3", "dataset.n_train=200")
    images = read_images(first)
    parts = divide_images(first, images)
    path = publish_subset(first, images, parts)
    assert path == first.folder / "subset-n200-seed3.json"
    second = configured("study=second", "seed=4", "dataset.n_train=200", f"dataset.subset={path}")
    again = divide_images(second, images)
    assert again.train.ids == parts.train.ids
    assert publish_subset(second, images, again).read_text() == path.read_text()


def test_a_search_writes_its_subset_before_ray_starts(configured, monkeypatch):
    class StartedError(Exception):
        pass

    def started(*args):
        raise StartedError

    monkeypatch.setattr(trials, "start_ray", started)
    config = configured("study=begun", "dataset.n_train=200")
    with pytest.raises(StartedError):
        session.conduct(config)
    assert read_list(config.folder / "subset-n200-seed0.json").n == 200
    dry = configured("study=dry", "dataset.n_train=200")
    session.announce(prepare(dry))
    assert not list(dry.folder.glob("subset*"))


def test_bad_subsets_are_one_sentence(published, configured, capsys, tmp_path):
    given = f"dataset.subset={published}/subset-n300-seed5.json"
    images = load_images("digits")
    with pytest.raises(SubsetError, match=r"lists 300 images and dataset\.n_train is 1,000: set dataset\.n_train=300"):
        divide_images(configured(given, "dataset.n_train=1000"), images)
    with pytest.raises(SubsetError, match=r"is of digits with content .*with the same dataset\.resolution"):
        divide_images(configured(given, "dataset.resolution=16"), load_images("digits", resolution=16))
    path = published / "subset-n300-seed5.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 6}))
    overrides = [f"output_dir={tmp_path}/out", "backbone=unet_small", given]
    assert guarded(lambda: search.run(load("search", overrides))) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: dataset.subset=") and error.count("\n") == 1
    assert "was changed since it was written" in error


@pytest.mark.parametrize("sizes", ["[]", "[0]", "[300,ten]", "300", "[true]"])
def test_bad_sizes_are_one_sentence(sizes):
    with pytest.raises(ConfigurationError, match=r"sizes=.*: expected a list of whole numbers above 0, e\.g\. sizes="):
        subsets.run(load("subsets", [f"sizes={sizes}"]))


def test_a_study_does_not_go_on_with_other_images(published, configured):
    small = ["study=kept", "dataset.n_train=300", "trial.rungs=[640]", "trial.rung_values=null"]
    prepared = prepare(configured(*small))
    prepared.study.ask(prepared.space)
    prepared.lock.close()
    prepared.lease.release()
    for override, key in (
        (f"dataset.subset={published}/subset-n300-seed5.json", r"dataset\.subset"),
        ("evaluation.heldout=100", r"evaluation\.heldout"),
    ):
        with pytest.raises(StudySettingsChangedError, match=key):
            prepare(configured(*small, override))


def test_heldout_images_are_as_many_as_asked_for(configured):
    config = configured("evaluation.heldout=64", "dataset.n_train=200")
    parts = divide_images(config, read_images(config))
    assert (len(parts.train), len(parts.heldout), parts.unused) == (200, 64, 1797 - 264)
    with pytest.raises(ConfigurationError, match=r"evaluation\.heldout: input should be greater than or equal to 2"):
        configured("evaluation.heldout=1")


def test_a_mapped_study_has_the_images_of_one_in_memory(tmp_path, configured):
    digits = load_images("digits")
    np.savez(tmp_path / "set.npz", images=digits.images, labels=digits.labels)
    held, mapped = (
        configured(f"dataset.path={tmp_path}/set.npz", f"dataset.memory_map={given}") for given in ("false", "true")
    )
    one, two = read_images(held), read_images(mapped)
    assert (one.memory_mapped, two.memory_mapped) == (False, True)
    assert one.content_hash == two.content_hash == digits.content_hash
    one, two = divide_images(held, one), divide_images(mapped, two)
    assert one.train.content_hash == two.train.content_hash
    assert one.heldout.content_hash == two.heldout.content_hash


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        ([], "set evaluation.heldout=10000"),
        (["evaluation.heldout=100", "evaluation.reference=full"], "set evaluation.reference=heldout"),
        (["evaluation.heldout=100", "evaluation.features=classifier"], "set evaluation.features=efficientnet_lite0"),
        (["evaluation.heldout=100"], None),
    ],
)
def test_a_mapped_set_is_not_loaded_whole_into_memory_that_it_does_not_fit(tmp_path, configured, overrides, advice):
    np.save(tmp_path / "set.npy", np.zeros((1000, 10, 10, 1), np.uint8))
    images = load_images(tmp_path / "set.npy")
    config = configured(f"dataset.path={tmp_path}/set.npy", *overrides)
    check_memory(config, images, memory=10**6)
    if advice is None:
        check_memory(config, images, memory=10**5)
    else:
        with pytest.raises(TooLargeError, match=rf"1,000 images are .* of memory: {advice}$"):
            check_memory(config, images, memory=10**5)


def test_a_named_set_that_cannot_be_fetched_is_one_sentence(monkeypatch, capsys, tmp_path):
    one = named.NamedSet((("http://127.0.0.1:1/cifar-10-binary.tar.gz", "00"),), named.NAMED["cifar10"].read)
    monkeypatch.setitem(named.NAMED, "cifar10", one)
    assert guarded(lambda: search.run(load("search", ["+preset=cifar10", f"output_dir={tmp_path}/out"]))) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("fetching http://127.0.0.1:1/cifar-10-binary.tar.gz into ")
    assert said[1:] == [
        "error: http://127.0.0.1:1/cifar-10-binary.tar.gz cannot be fetched (Connection refused): "
        "fetch it by other means and give it as dataset.path="
    ]


def test_a_name_that_is_none_lists_those_there_are(capsys, tmp_path):
    assert guarded(lambda: search.run(load("search", ["dataset.name=cifar", f"output_dir={tmp_path}/out"]))) == 2
    assert "(cifar10, cifar100, digits, fashion_mnist, tiny_imagenet)" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=r"dataset\.labels: input should be 'auto', 'folders' or 'none'"):
        validate(load("search", ["dataset.labels=files"]))
