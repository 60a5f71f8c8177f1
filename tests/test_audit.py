"""`ambient-audit`: planted copies are counted to the image, and one sentence for whatever is wrong."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from ambient_ray.audit import main
from ambient_ray.data import load_images, split
from ambient_ray.data.subsets import published_lists, write_list
from ambient_ray.diffusion import build_backbone
from ambient_ray.evaluation import PixelExtractor, References, evaluate
from ambient_ray.tracking import load_model

Images = NDArray[np.uint8]


def noise(n: int, seed: int, shape: tuple[int, int, int] = (8, 8, 1)) -> Images:
    """Random images: in 64 values or more, any two are about equally far apart, so none is a copy of another."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def as_folder(images: Images, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{number:04d}.png")
    return folder


def as_npz(images: Images, path: Path) -> Path:
    np.savez(path, images=images)
    return path


@pytest.fixture(scope="module")
def train() -> Images:
    return noise(40, 0)


@pytest.fixture
def train_file(train: Images, tmp_path: Path) -> Path:
    return as_npz(train, tmp_path / "train.npz")


def run(model: Path | str, training: Path | str, *options: object, to: Path | None = None) -> int:
    """The exit code, with pixels as features, which take no time."""
    told = [str(option) for option in options]
    features = [] if "--features" in told else ["--features", "pixels"]
    return main([str(model), "--train", str(training), *features, *([] if to is None else ["--to", str(to)]), *told])


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    assert all(content["notes"])
    return content


# -- what is planted is found


@pytest.mark.parametrize("planted", [0, 1, 7, 20])
def test_planted_copies_are_counted_to_the_image_and_gated_exactly(
    planted: int, train: Images, train_file: Path, tmp_path: Path
) -> None:
    generated = np.concatenate([train[5 : 5 + planted], noise(20 - planted, 1)])
    model, share = as_folder(generated, tmp_path / "out"), planted / 20
    for bound in (share - 1 / 40, share, share + 1 / 40):
        if 0 <= bound <= 1:
            assert run(model, train_file, "--max", f"f_mem={bound!r}") == int(bound < share)
    assert run(model, train_file, "--max-memorization", repr(share), to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["scores"]["f_mem"] == share
    assert [copy["sample"] for copy in found["copies"]] == [f"{k:04d}.png" for k in range(planted)]
    assert [copy["train"] for copy in found["copies"]] == [f"{k:06d}" for k in range(5, 5 + planted)]


def test_mirrored_and_moved_copies_are_found_where_they_are_asked_for(
    train: Images, train_file: Path, tmp_path: Path
) -> None:
    mirrored = as_npz(np.concatenate([train[:4, :, ::-1], noise(6, 1)]), tmp_path / "mirrored.npz")
    moved = as_npz(np.concatenate([np.roll(train[:4], 1, axis=2), noise(6, 1)]), tmp_path / "moved.npz")
    gate = ("--max", "f_mem=0.3")
    assert run(mirrored, train_file, *gate) == 0
    assert run(mirrored, train_file, *gate, "--mirror", to=tmp_path / "a") == 1
    assert report(tmp_path / "a")["scores"]["f_mem"] == 0.4
    assert run(moved, train_file, *gate) == 0
    assert run(moved, train_file, *gate, "--shift", 1) == 1


def test_half_copied_images_fail_by_partial_alone(train: Images, train_file: Path, tmp_path: Path) -> None:
    halves = noise(10, 1)
    halves[:3, :, :4] = train[:3, :, :4]
    model = as_npz(halves, tmp_path / "halves.npz")
    assert run(model, train_file, "--max", "f_mem=0") == 0
    assert run(model, train_file, "--max", "f_mem=0", "--max", "partial=0.2", to=tmp_path / "a") == 1
    found = report(tmp_path / "a")
    assert found["scores"]["partial"] == 0.3
    assert {bound["measure"]: bound["passed"] for bound in found["bounds"]} == {"f_mem": True, "partial": False}
    assert (tmp_path / "a" / "partial.png").is_file()


def test_the_training_set_itself_is_all_copies(
    train: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = as_folder(train, tmp_path / "images")
    assert run(folder, folder, "--max", "f_mem=0.99", to=tmp_path / "a") == 1
    assert report(tmp_path / "a")["scores"]["f_mem"] == 1
    assert "FAILED by the values: f_mem is 1" in capsys.readouterr().out


def test_fresh_images_pass_by_the_value_and_are_too_few_to_show_it(
    train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = as_npz(noise(30, 1), tmp_path / "fresh.npz")
    assert run(fresh, train_file, "--max", "f_mem=0.01") == 0
    assert "passed, not shown" in (told := capsys.readouterr().out)
    assert "at no copies it takes 381 samples for the 95 % interval to end at 0.01" in told
    assert run(fresh, train_file, "--max", "f_mem=0.01", "--by", "upper") == 1
    assert "FAILED by the ends of the 95 % intervals: f_mem is 0" in capsys.readouterr().out
    assert run(fresh, train_file, "--max", "f_mem=0.12", "--by", "upper") == 0  # 3.84 / 33.84 = .113
    assert "passed, shown" in capsys.readouterr().out


def test_a_larger_is_better_measure_is_bounded_from_below(train: Images, train_file: Path, tmp_path: Path) -> None:
    model = as_npz(np.concatenate([train[:9], noise(1, 1)]), tmp_path / "out.npz")
    assert run(model, train_file, "--min", "authentic=0.05") == 0
    assert run(model, train_file, "--min", "authentic=0.2") == 1


@pytest.mark.parametrize("form", ["folder", "zip", "npy", "npz"])
def test_every_format_of_generated_images_gives_the_same_share(
    form: str, train: Images, train_file: Path, tmp_path: Path
) -> None:
    generated = np.concatenate([train[:3], noise(7, 1)])
    folder = as_folder(generated, tmp_path / "out")
    path = {"folder": folder, "zip": tmp_path / "o.zip", "npy": tmp_path / "o.npy", "npz": tmp_path / "o.npz"}[form]
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, file.name)
    elif form == "npy":
        np.save(path, generated)
    elif form == "npz":
        as_npz(generated, path)
    assert run(path, train_file, to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["scores"]["f_mem"] == 0.3 and found["verdict"] == "not gated"


# -- what it is compared with


def test_with_held_out_images_the_scores_are_those_of_the_search(train: Images, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    fresh, generated = noise(50, 1), np.concatenate([train[:5], rng.integers(0, 200, (25, 8, 8, 1), dtype=np.uint8)])
    paths = [as_npz(images, tmp_path / f"{k}.npz") for k, images in enumerate((generated, train, fresh))]
    assert run(paths[0], paths[1], "--heldout", paths[2], "--max", "fd=1e9", to=tmp_path / "a") == 0
    extractor, sets = PixelExtractor(), [load_images(path) for path in paths]
    wanted = evaluate(sets[0].images, extractor, References.build(extractor, sets[1], sets[2]))
    found = report(tmp_path / "a")
    assert found["scores"] == pytest.approx(dict(wanted.values), rel=1e-12)
    assert found["facts"] == dict(wanted.facts)
    assert found["not_measured"] == {} and found["heldout"]["n"] == 50
    assert found["bounds"][0]["measure"] == "fd_pixels"


def test_held_out_images_that_were_trained_on_are_not_held_out(train: Images, train_file: Path, tmp_path: Path) -> None:
    heldout = as_npz(np.concatenate([noise(10, 1), train[:4]]), tmp_path / "heldout.npz")
    model = as_npz(noise(10, 2), tmp_path / "out.npz")
    assert run(model, train_file, "--heldout", heldout, to=tmp_path / "a") == 0
    assert report(tmp_path / "a")["heldout"]["equal_to_training_images"] == 4
    assert report(tmp_path / "a")["heldout"]["n"] == 10


def test_without_held_out_images_what_needs_them_is_named(train_file: Path, tmp_path: Path) -> None:
    model = as_npz(noise(10, 2), tmp_path / "out.npz")
    assert run(model, train_file, "--max", "s_tau=0.5", to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert {"fd", "kid", "c_t"} <= set(found["not_measured"]) and not {"kid", "c_t"} & set(found["measures"])
    assert found["measures"]["f_mem"]["null"] == 0 and found["facts"]["n_null"] == 40
    assert any("each tenth against the other nine" in note for note in found["notes"])


def test_a_study_s_list_says_what_was_trained_on_and_the_rest_is_held_out(tmp_path: Path) -> None:
    images = noise(60, 0)
    source = as_npz(images, tmp_path / "all.npz")
    whole = load_images(source)
    listed = published_lists(whole, [20], seed=4)[0]
    where = write_list(listed, tmp_path)
    inside, outside = np.array(listed.positions), np.setdiff1d(np.arange(60), listed.positions)
    of_both = as_npz(np.concatenate([images[inside[:2]], images[outside[:8]]]), tmp_path / "out.npz")
    assert run(of_both, source, "--subset", where, "--max", "f_mem=0.2", to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["scores"]["f_mem"] == 0.2 and (found["train"]["n"], found["heldout"]["n"]) == (20, 40)
    assert run(of_both, source, "--max", "f_mem=0.2") == 1  # of the whole set, all ten are copies


def test_duplicates_in_the_training_set_are_dropped_and_near_ones_reported(train: Images, tmp_path: Path) -> None:
    near = train[:1] ^ 1  # one grey level away in every pixel
    source = as_npz(np.concatenate([train, train[3:5], near]), tmp_path / "train.npz")
    noisy = np.clip(train[:2].astype(int) + 3, 0, 255).astype(np.uint8)
    model = as_npz(np.concatenate([noisy, noise(8, 1)]), tmp_path / "out.npz")
    assert run(model, source, to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["train"]["duplicates_dropped"] == 2 and found["train"]["n"] == 41
    assert found["train"]["near_duplicates"] == {"images": 2, "pairs": [["000000", "000042"]]}
    assert found["scores"]["f_mem"] == 0.1  # the copy of the image without a near-duplicate is seen, the other not
    assert any("2 training images (4.9 %) have a near-duplicate" in note for note in found["notes"])


def test_the_default_features_need_no_weights(train: Images, tmp_path: Path) -> None:
    source = as_folder(noise(12, 0, (16, 16, 3)), tmp_path / "train")
    model = as_npz(np.concatenate([load_images(source).images[:2], noise(3, 1, (16, 16, 3))]), tmp_path / "out.npz")
    assert run(model, source, "--features", "auto", "--device", "cpu", to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["facts"]["extractor"] == "efficientnet_lite0"
    assert found["scores"]["s_tau"] == 0.4


def test_other_sizes_and_channels_are_brought_to_one_where_it_is_asked_for(train_file: Path, tmp_path: Path) -> None:
    colour = as_npz(noise(6, 1, (16, 16, 3)), tmp_path / "out.npz")
    assert run(colour, train_file, "--resolution", 8, "--channels", 1, "--max", "f_mem=0") == 0


# -- a model instead of images


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    config = {
        "_target_": "ambient_ray.diffusion.backbones.UNet",
        "block_out_channels": [8],
        "layers_per_block": 1,
        "norm_groups": 2,
    }
    image = {"channels": 1, "resolution": 8, "num_classes": None}
    torch.manual_seed(0)
    backbone = build_backbone(config, **image)
    for parameter in backbone.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)  # an untrained network ends in zeros
    save_file(backbone.state_dict(), folder / "model.safetensors")
    stored = {
        "backbone": config, "sigma_data": 0.5, "image": image, "images_seen": 1, "sampler": {"steps": 2},
        "scores": {"f_mem": 0.125},
        "facts": {"extractor": "pixels", "train_hash": "0" * 64, "n_train": 300, "latent_seed": 4, "n": 500},
    }  # fmt: skip
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    return folder


def changed(checkpoint: Path, folder: Path, **facts: object) -> Path:
    """The checkpoint with other facts."""
    shutil.copytree(checkpoint, folder)
    stored = json.loads((folder / "checkpoint.json").read_text())
    stored["facts"] |= facts
    (folder / "checkpoint.json").write_text(json.dumps(stored))
    return folder


def test_a_model_is_sampled_by_a_seed_that_its_search_did_not_use(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = load_model(checkpoint).sample(20, seed=5)
    source = as_npz(np.concatenate([drawn[:6], noise(30, 0)]), tmp_path / "train.npz")
    assert run(checkpoint, source, "--n", 20, "--features", "auto", "--max", "f_mem=0.25", to=tmp_path / "a") == 1
    found = report(tmp_path / "a")
    assert found["scores"]["f_mem"] >= 0.3 and {copy["sample"] for copy in found["copies"]} >= set("012345")
    assert found["facts"]["latent_seed"] == 5 and found["facts"]["extractor"] == "pixels"
    assert found["generated"]["model"]["scores"] == {"f_mem": 0.125}
    told = capsys.readouterr().out
    assert "0.125" in told
    assert (
        "was trained on data with content 000000000000 (300 images) by its own account, and these 36 training images"
        in told
    )


def test_a_model_s_own_seed_is_told(checkpoint: Path, train_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(checkpoint, train_file, "--n", 5, "--seed", 4) == 0
    assert "seed 4 is that of the samples that the search chose this model by" in capsys.readouterr().out


def test_a_model_of_the_same_training_images_gets_no_warning(
    checkpoint: Path, train_file: Path, tmp_path: Path
) -> None:
    own = changed(checkpoint, tmp_path / "own", train_hash=load_images(train_file).content_hash)
    assert run(own, train_file, "--n", 5, to=tmp_path / "a") == 0
    assert not any("by its own account" in note for note in report(tmp_path / "a")["notes"])


def test_a_model_of_a_search_needs_no_list_of_its_training_images(checkpoint: Path, tmp_path: Path) -> None:
    source = as_npz(noise(60, 0), tmp_path / "all.npz")
    parts = split(load_images(source), 25, seed=4)
    own = changed(checkpoint, tmp_path / "own", train_hash=parts.train.content_hash, n_train=25)
    assert run(own, source, "--n", 5, to=tmp_path / "a") == 0
    found = report(tmp_path / "a")
    assert found["train"]["content_hash"] == parts.train.content_hash and found["train"]["n"] == 25
    assert found["heldout"]["content_hash"] == parts.heldout.content_hash
    assert any("25 of the 60 images" in note and "by their hash" in note for note in found["notes"])
    other = changed(checkpoint, tmp_path / "other", train_hash="1" * 64, n_train=25)
    assert run(other, source, "--n", 5, to=tmp_path / "b") == 0
    assert report(tmp_path / "b")["train"]["n"] == 60 and report(tmp_path / "b")["heldout"] is None


# -- what it leaves behind


def test_the_report_says_all_that_it_takes_to_repeat_it(train: Images, train_file: Path, tmp_path: Path) -> None:
    model = as_npz(np.concatenate([train[:2], noise(8, 1)]), tmp_path / "out.npz")
    password = ("--tracking-uri", "postgresql://me:secret@host/db")
    assert run(model, train_file, "--max", "f_mem=0.1", *password, to=tmp_path / "a") == 1
    found, text = report(tmp_path / "a"), (tmp_path / "a" / "audit.md").read_text()
    assert found["train"]["content_hash"] == load_images(train_file).content_hash
    assert found["generated"]["content_hash"] == load_images(model).content_hash
    assert (found["verdict"], found["exit_code"]) == ("failed", 1)
    assert set(found["versions"]) >= {"ambient-ray", "torch"} and found["at"].endswith("UTC")
    assert found["command"].startswith(f"ambient-audit {model} --train {train_file}")
    assert "secret" not in json.dumps(found) + text
    with Image.open(tmp_path / "a" / "nearest.png") as picture:
        assert picture.width > 200
    assert "No privacy guarantee is claimed" in text and "(nearest.png)" in text and "**failed, shown**" not in text
    assert text.count("failed, not shown") == 1  # 2 of 10: the interval holds .1


def test_a_public_report_shows_and_names_no_training_image(train: Images, train_file: Path, tmp_path: Path) -> None:
    model = as_npz(np.concatenate([train[7:9], noise(8, 1)]), tmp_path / "out.npz")
    assert run(model, train_file, to=tmp_path / "a") == 0
    assert (tmp_path / "a" / "nearest.png").exists()
    assert run(model, train_file, "--public", to=tmp_path / "a") == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["audit.json", "audit.md"]
    found = report(tmp_path / "a")
    assert len(found["copies"]) == 2 and all("train" not in copy for copy in found["copies"])
    assert "000007" not in json.dumps(found["copies"]) and ".png" not in (tmp_path / "a" / "audit.md").read_text()


def test_json_on_standard_output_is_all_that_stands_there(
    train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = as_npz(noise(5, 1), tmp_path / "out.npz")
    assert run(model, train_file, "--json", "--max", "f_mem=0") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "passed" and found["measures"]["f_mem"]["high"] == pytest.approx(3.8415 / 8.8415, 1e-4)


def test_nothing_gated_is_said(train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(as_npz(noise(5, 1), tmp_path / "out.npz"), train_file) == 0
    assert "Nothing was gated: no bound was given" in capsys.readouterr().out


def test_repeated_images_are_told(train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collapsed = as_npz(np.repeat(noise(2, 1), 5, axis=0), tmp_path / "out.npz")
    assert run(collapsed, train_file) == 0
    assert "only 2 of the 10 generated images are different" in capsys.readouterr().out


# -- bad input


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "there is nothing to audit at {tmp}/none: give a folder"),
        (["--max", "f_men=0.1"], "--max f_men=0.1: there is no measure 'f_men'; there are f_mem, f_mem_half"),
        (["--max", "f_mem"], "--max f_mem: expected MEASURE=VALUE"),
        (["--max", "f_mem=little"], "expected MEASURE=VALUE"),
        (["--max", "f_mem=nan"], "expected MEASURE=VALUE"),
        (["--max", "f_mem=5"], "f_mem is a share; give a bound from 0 to 1"),
        (["--max", "f_mem=.1", "--max-memorization", ".2"], "f_mem has a bound already"),
        (["--max", "authentic=.1"], "authentic is better where it is larger; bound it by --min"),
        (["--min", "f_mem=.1"], "f_mem is better where it is smaller; bound it by --max"),
        (["--n", "2"], "--n must be at least 3, got 2"),
        (["--subset", "{tmp}/list.json"], "is no file: give a study's list"),
    ],
)
def test_bad_arguments_get_one_sentence_before_an_image_is_read(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", tmp_path / "neither", *(part.format(tmp=tmp_path) for part in options)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told.format(tmp=tmp_path) in error and error.count("\n") == 1


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _broken(images: Images, folder: Path) -> Path:
    as_folder(images, folder)
    (folder / "0002.png").write_bytes((folder / "0002.png").read_bytes()[:40])
    return folder


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (lambda tmp: _empty(tmp / "out"), [], "out holds no images, but nothing"),
        (lambda tmp: as_folder(noise(1, 1), tmp / "out"), [], "out holds 1 image, and the scores need at least 3"),
        (lambda tmp: as_folder(noise(5, 1, (8, 8, 3)), tmp / "out"), [], "8x8 in colour and the training images 8x8 in "
         "grey: bring both to one with --channels 1"),
        (lambda tmp: as_folder(noise(5, 1, (16, 16, 1)), tmp / "out"), [], "bring both to one with --resolution 8"),
        (lambda tmp: _broken(noise(5, 1), tmp / "out"), [], "out/0002.png is broken"),
        (lambda tmp: _broken(noise(5, 1), tmp / "out"), [], "leave such files out with --skip-broken"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--max", "fd=3"], "fd cannot be bounded: it compares with "
         "real images that were not trained on; give them by --heldout"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--max", "fd_inception=3"], "with its features this audit "
         "measures fd_pixels"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--features", "classifier"], "--features classifier needs "
         "labels, and these images have none"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--features", "magic"], "no feature extractor 'magic'"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--heldout", "{tmp}/train.npz"], "leaves 0 images that were "
         "not trained on, as 40 of its images equal a training image"),
        (lambda tmp: as_folder(noise(5, 1), tmp / "out"), ["--to", "{tmp}/train.npz/x"], "cannot be written to"),
        (lambda tmp: "models:/faces@x", ["--tracking-uri", "sqlite:///{tmp}/no.db"], "there is no MLflow database"),
        (lambda tmp: "models:/faces@champion", ["--tracking-uri", "http://127.0.0.1:9"], "nothing answers at "
         "--tracking-uri http://127.0.0.1:9"),
    ],
)  # fmt: skip
def test_bad_images_and_models_get_one_sentence(
    make: Any, options: list[str], told: str, train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make(tmp_path), train_file, *(part.format(tmp=tmp_path) for part in options)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and told in error and error.count("\n") == 1
    assert "dataset." not in error and "evaluation." not in error  # no keys of a command that was not called


def test_broken_images_are_left_out_where_it_is_asked_for(
    train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_broken(noise(5, 1), tmp_path / "out"), train_file, "--skip-broken", to=tmp_path / "a") == 0
    assert report(tmp_path / "a")["generated"]["n"] == 4
    assert "1 broken file of" in capsys.readouterr().out


def test_help_waits_for_nothing_heavy() -> None:
    code = "import sys, ambient_ray.audit as a\n"
    code += "try: a.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
    code += "assert not {'torch', 'mlflow', 'numpy'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "--max MEASURE=VALUE" in done.stdout
