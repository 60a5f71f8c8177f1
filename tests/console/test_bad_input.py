"""The issue's list of bad input: each one sentence and exit code 2, before any Ray process starts."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from ambient_ray import search
from ambient_ray.console import trials
from ambient_ray.console.checks import StudyBusyError, lock_study
from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.console.exits import guarded
from ambient_ray.console.preparation import prepare
from ambient_ray.tuning.space import load_space


@pytest.fixture
def answer(tmp_path, capsys, monkeypatch):
    """Runs the search with overrides; gives (exit code, what it wrote to stderr)."""

    def no_ray(*args):
        pytest.fail("Ray was about to start")

    monkeypatch.setattr(trials, "start_ray", no_ray)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(*overrides):
        base = [f"output_dir={tmp_path}/out", "backbone=unet_small", "evaluation.features=pixels"]
        code = guarded(lambda: search.run(load("search", [*base, *overrides])))
        return code, capsys.readouterr().err

    return run


def picture(path, size=(8, 8), mode="L", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = (3,) if mode == "RGB" else ()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], *channels), dtype=np.uint8)).save(
        path
    )
    return path


def folder(tmp_path, n=12, **kwargs):
    for i in range(n):
        picture(tmp_path / "images" / f"{i:02d}.png", seed=i, **kwargs)
    return tmp_path / "images"


OWN = ["dataset.n_train=6", "evaluation.features=pixels"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trails=2"], "unknown configuration key 'trails'"),
        (["+preset=nope"], "there is no preset 'nope'"),
        (["+space.sigma_tn.low=-1"], "sigma_tn=-1 is out of range"),
        (["+space.sigma_tn.low=5"], "sigma_tn is reversed"),
        (["+space.noisy_ratio.high=1.5"], "noisy_ratio=1.5 is out of range"),
        (["training.noisy_ratio=1.5"], "noisy_ratio must be a number, 0 or more and at most 1, got 1.5"),
        (["training.sigma_tn=-0.5"], "sigma_tn must be a number, 0 or more, got -0.5"),
        (["dataset.path=/no/such/place"], "neither a built-in data set"),
        (["dataset.n_train=1797"], "dataset.n_train=1797: the set has 1,797 images"),
        (["trial.gpus_per_worker=1.5"], "a worker trains on one GPU or on a fraction of it"),
        (["trial.gpus_per_worker=0.5", "trial.workers=2"], "the workers of one trial cannot share a GPU"),
        (["trial.workers=[4,2]"], "trial.workers=[4,2]: the first is the fewest of them"),
        (["trial.workers=[1,200]"], "a batch of 128 images gives work to 128 of them"),
        (["trial.workers=[1,2,3]"], "must be a whole number of 1 or more, or [fewest, most] of them"),
        (["trial.cpus_per_worker=4096"], "no node can hold a worker"),
        (["output_dir=/dev/null/here"], "output_dir=/dev/null/here/digits cannot be written"),
        (["tracking.uri=http://127.0.0.1:9"], "nothing answers at tracking.uri=http://127.0.0.1:9"),
        (["evaluation.features=nope"], "There is no feature extractor 'nope'"),
        (["evaluation.reference=heldot"], "evaluation.reference=heldot is neither heldout, full or train nor a path"),
        (["evaluation.features=inception", "evaluation.weights=none.pth"], "There is no file of weights at"),
        (["evaluation.features=pixels", "evaluation.weights=none.pth"], "features=pixels takes none"),
        (["evaluation.precision=fp8"], "evaluation.precision: input should be 'fp32', 'bf16' or 'fp16'"),
        (["evaluation.fidelity=recall"], "'recall' is better where it is larger"),
        (["evaluation.memorization=nope"], "nobody computes the score 'nope'"),
        (["backbone._target_=nope.Net"], "backbone._target_ nope.Net cannot be imported"),
        (["backbone.block_out_channels=[8,8,8,8,8]"], "use 1 to 4 levels"),
        (["sampler._target_=optuna.samplers.Nope"], "sampler: optuna.samplers.Nope cannot be built"),
        (["search_space=nope"], "there is no such search space"),
        (["storage=nonsense://x"], "the study's storage nonsense://x cannot be opened"),
        (["trial.pack=0"], "trial.pack"),
        (["trial.pack=4", "search_space=architecture"], "trial.pack=4: the search space varies depth, which packed"),
        (["trial.pack=4", "backbone.dropout=0.1"], "trial.pack=4: packed trials can have neither dropout nor"),
    ],
)
def test_bad_settings(answer, overrides, message):
    assert_refused(answer, overrides, message)


def assert_refused(answer, overrides, message):
    code, err = answer(*overrides)
    assert code == 2
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err


def test_a_broken_image_is_named_or_skipped_and_counted(answer, tmp_path, capsys):
    images = folder(tmp_path)
    (images / "07.png").write_bytes((images / "07.png").read_bytes()[:60])
    (images / "08.png").write_bytes(b"")
    code, err = answer(f"dataset.path={images}", *OWN)
    assert code == 2 and "07.png" in err and "skip_broken" in err
    config = load(
        "search",
        [
            f"output_dir={tmp_path}/out",
            f"dataset.path={images}",
            *OWN,
            "dataset.skip_broken=true",
            "dry_run=true",
        ],
    )
    assert search.run(config) == 0
    out = capsys.readouterr().out
    assert "07.png" in out and "2 broken files skipped" in out


def test_mixed_channels_and_sizes_say_which_key_helps(answer, tmp_path):
    images = folder(tmp_path)
    picture(images / "colour.png", mode="RGB")
    code, err = answer(f"dataset.path={images}", *OWN)
    assert code == 2 and "dataset.channels" in err and "colour.png" in err
    (images / "colour.png").unlink()
    picture(images / "wide.png", size=(12, 8))
    code, err = answer(f"dataset.path={images}", *OWN)
    assert code == 2 and "dataset.resolution" in err and "wide.png" in err


def test_images_that_are_no_squares_need_a_crop(answer, tmp_path):
    code, err = answer(f"dataset.path={folder(tmp_path, size=(12, 8))}", *OWN)
    assert code == 2 and "the images are 12 x 8" in err and "dataset.resolution=8" in err


def test_an_empty_folder(answer, tmp_path):
    (tmp_path / "empty").mkdir()
    code, err = answer(f"dataset.path={tmp_path}/empty", *OWN)
    assert code == 2 and "empty" in err


def test_classifier_features_need_labels(answer, tmp_path):
    code, err = answer(f"dataset.path={folder(tmp_path)}", "dataset.n_train=6", "evaluation.features=classifier")
    assert code == 2 and "label" in err


def test_a_study_cannot_be_continued_with_other_settings(answer, tmp_path):
    idx = tmp_path / "train-images-idx3-ubyte.gz"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    idx.write_bytes(gzip.compress(struct.pack(">4I", 2051, 20, 8, 8) + pixels.tobytes()))
    common = [f"dataset.path={idx}", *OWN, "dry_run=true"]
    assert answer(*common)[0] == 0
    config = validate(load("search", [f"output_dir={tmp_path}/out", *common, "backbone=unet_small"]))
    prepare(config).study.ask(load_space("ambient", settings=frozenset({"sigma_tn", "noisy_ratio", "mixing"})))
    assert answer(*common, "trials=99")[0] == 0
    code, err = answer(*common, "training.lr=0.5")
    assert code == 2 and "training.lr=" in err and "is now given 0.5" in err


def test_two_searches_of_one_study_do_not_meet(tmp_path):
    held = lock_study(tmp_path)
    with pytest.raises(StudyBusyError, match="is being searched by process"):
        lock_study(tmp_path)
    held.close()
    lock_study(tmp_path).close()


def test_two_searches_of_one_study_in_two_folders_do_not_meet(tmp_path):
    """As on two machines with one database: no lock is seen by both."""
    from ambient_ray.tuning.lease import Lease
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    url = f"sqlite:///{tmp_path}/studies.db"
    board = Study("shared", url, Objectives("fd_classifier", "f_mem")).board()
    assert board is not None
    first = Lease("shared", board)
    first.take()
    try:
        config = validate(load("search", ["study=shared", f"output_dir={tmp_path}/there", f"storage={url}"]))
        with pytest.raises(
            StudyBusyError, match=r"study 'shared' is being searched by process \d+ on \S+ already; wait"
        ):
            prepare(config)
    finally:
        first.release()
    prepared = prepare(config)
    assert prepared.lease is not None
    prepared.lease.release()


def test_multirun_is_refused():
    from ambient_ray.console.command import check_overrides

    with pytest.raises(ConfigurationError, match="--multirun is not for this command"):
        check_overrides("search", ["--multirun", "seed=1,2"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+space.sigma_tn.prior=9"], "the prior of sigma_tn must lie within its range, 0.1 to 4, got 9"),
        (["+space.sigma_tn.prior=.5", "+space.sigma_tn.spread=2"], "the spread of sigma_tn is a share of its range"),
        (["+space.sgima_tn.high=2"], "has no parameter 'sgima_tn'; did you mean sigma_tn?"),
        (["search_space=batch_ratio", "+space.mixing.prior=half"], "the prior of mixing must be one of its choices"),
        (["enqueue=/no/points.yaml"], "enqueue=/no/points.yaml: cannot be read: No such file"),
    ],
)
def test_bad_spaces_and_beliefs(answer, overrides, message):
    assert_refused(answer, overrides, message)


def test_a_space_or_points_of_ones_own_that_name_what_is_not_there(answer, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("parameters: {sigma_tn: {low: 0.1, high: 1}, droput: {low: 0, high: 0.5}}")
    assert_refused(answer, [f"search_space={mine}"], "unknown parameter 'droput'; did you mean dropout?")
    points = tmp_path / "points.csv"
    points.write_text("sigma_tn,noisy_ratio\n0.5,0.3\n0.5,1.5\n")
    assert_refused(answer, [f"enqueue={points}"], "points.csv, point 2: noisy_ratio must be 0.1 to 0.9, got '1.5'")
    points.write_text("sigma_tn,lr\n0.5,0.3\n")
    assert_refused(answer, [f"enqueue={points}"], "point 1: lr is a setting that this space does not search")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler=random", "sampler._target_=optuna.samplers.CmaEsSampler"], "cannot search two objectives"),
        (["sampler=grid", "sampler.grid=1"], "2 or more"),
        (["warm_start=nothere"], "warm_start=nothere: there is no study in"),
        (["trials=null"], "set trials, hours or gpu_hours"),
        (["gpu_hours=3"], "gpu_hours bounds trials that hold GPUs"),
        (["hours=-1"], "hours: input should be greater than 0"),
        (["confirm.rule=max_memorization"], "needs confirm.max_memorization"),
        (["confirm.seeds=1"], "confirm.seeds"),
        (["prior.weight=2"], "prior.weight"),
        (["trial.within=middle"], "trial.within"),
    ],
)
def test_bad_searches(answer, overrides, message):
    assert_refused(answer, overrides, message)


def test_a_warm_start_needs_the_same_objectives_and_something_in_common(answer, tmp_path):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    other = Study("other", f"journal:{tmp_path}/out/other/study.journal", Objectives("fd_x", "f_mem"))
    other.claim({"evaluation.fidelity": "fd_x", "evaluation.memorization": "f_mem"})
    own = [f"dataset.path={folder(tmp_path)}", *OWN]
    assert_refused(answer, [*own, "warm_start=other"], "its objectives are fd_x and f_mem, and this study's are")
    empty = Study("empty", f"journal:{tmp_path}/out/empty/study.journal", Objectives("fd_pixels", "f_mem"))
    empty.claim({"evaluation.fidelity": "fd_pixels", "evaluation.memorization": "f_mem"})
    assert_refused(answer, [*own, "warm_start=empty"], "nothing can be learnt from it")
