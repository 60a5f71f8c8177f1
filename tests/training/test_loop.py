import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.data import ImageSet, to_float
from ambient_ray.diffusion import LogNormal, denoising_loss
from ambient_ray.training import TrainingData, TrialInputError, World, compiling, run_trial
from ambient_ray.training import life as life_module
from ambient_ray.training.resident import ResidentImages
from ambient_ray.training.state import TrainState, learning_rate


def _run(folder, recorder=None, *, data=None, resume=None, score=world.score, **changes):
    recorder = recorder or world.Recorder()
    outcome = run_trial(
        world.settings(**changes),
        data or world.data(),
        World(),
        recorder,
        workdir=folder,
        resume=resume,
        score=score,
    )
    return outcome, recorder


def _tensors(checkpoint):
    return load_file(checkpoint / "model.safetensors") | load_file(checkpoint / "train_state.safetensors")


def _same_weights(a, b):
    first, second = _tensors(a), _tensors(b)
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_training_lowers_the_loss_and_reports_every_rung(tmp_path):
    outcome, recorder = _run(tmp_path, rungs=(160, 3200))
    assert (outcome.state, outcome.images_seen) == ("finished", 3200)
    first, last = recorder.results
    assert last.scores["loss"] < 0.9 * first.scores["loss"]
    assert last.scores["brightness"] > 0
    assert outcome.results == tuple(recorder.results)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": world.TINY | {"dropout": 0.3}, "flip": True},
        {"noise_draws": "inf", "optimizer": "adamw", "weight_decay": 0.1, "grad_clip": 0.5},
        {"mixing": "image_split", "warmup_images": 500, "channels_last": True},
        {"shift_pixels": 2, "flip": True, "noise_distribution": "cosine"},
    ],
    ids=["plain", "dropout-flip", "fresh-adamw-clip", "image-split", "shift-cosine"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, changes):
    whole, _ = _run(tmp_path / "whole", rungs=(160, 320, 480), **changes)
    stopped, _ = _run(tmp_path / "part", world.Recorder(stop_at=[0]), rungs=(160, 320, 480), **changes)
    assert stopped.state == "stopped"
    torch.manual_seed(1234)  # whatever the process did in between
    resumed, recorder = _run(tmp_path / "rest", rungs=(160, 320, 480), resume=stopped.results[-1].checkpoint, **changes)
    assert resumed.state == "finished"
    assert [result.rung for result in recorder.results] == [1, 2]
    for a, b in zip(whole.results[1:], resumed.results[1:], strict=True):
        assert _same_weights(a.checkpoint, b.checkpoint)
        with np.load(a.checkpoint / "samples.npz") as x, np.load(b.checkpoint / "samples.npz") as y:
            assert np.array_equal(x["samples"], y["samples"])


def test_a_resumed_rung_is_reported_again_in_case_its_answer_was_never_heard(tmp_path):
    first, _ = _run(tmp_path / "a", world.Recorder(stop_at=[0]))
    newest = first.results[-1].checkpoint
    outcome, recorder = _run(tmp_path / "b", world.Recorder(stop_at=[0]), resume=newest)
    assert outcome.state == "stopped"
    assert not recorder.results
    assert recorder.resumed[0].scores == first.results[0].scores
    assert recorder.resumed[0].checkpoint == newest


def test_a_finished_trial_can_be_extended_by_rungs(tmp_path):
    short, _ = _run(tmp_path / "a", rungs=(160,))
    longer, recorder = _run(tmp_path / "b", rungs=(160, 320), resume=short.results[-1].checkpoint)
    whole, _ = _run(tmp_path / "c", rungs=(160, 320))
    assert longer.state == "finished"
    assert len(recorder.resumed) == 1
    assert _same_weights(longer.results[-1].checkpoint, whole.results[-1].checkpoint)


def test_the_caller_s_random_numbers_are_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    _run(tmp_path, backbone=world.TINY | {"dropout": 0.5}, rungs=(32,))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("cause", ["lr", "loss", "gradient"])
def test_divergence_ends_the_trial_as_failed_with_its_place(tmp_path, cause, monkeypatch):
    monkeypatch.setattr(life_module, "CHECK_EVERY", 5)
    changes = {"lr": 1e30} if cause == "lr" else {}
    if cause != "lr":
        step = TrainState.step

        def poisoned(self):
            loss, norm = step(self)
            nan = torch.tensor(float("nan")) if self.images_seen == 7 * 16 else torch.zeros(())
            return (loss + nan, norm) if cause == "loss" else (loss, norm + nan)

        monkeypatch.setattr(TrainState, "step", poisoned)
    outcome, recorder = _run(tmp_path, rungs=(3200,), **changes)
    assert outcome.state == "failed"
    assert "became non-finite between image" in outcome.reason
    assert not recorder.results
    if cause != "lr":
        assert outcome.reason.startswith(f"the {cause} became non-finite between image 80 and image 160")


def test_non_finite_samples_fail_the_trial(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        return None

    monkeypatch.setattr(life_module, "draw_samples", broken)
    outcome, _ = _run(tmp_path, rungs=(32,))
    assert outcome.state == "failed"
    assert "samples became non-finite at image 32" in outcome.reason


def test_without_a_threshold_the_loop_is_plain_edm_bit_for_bit(tmp_path, monkeypatch):
    """The weights are those of a hand-written EDM loop, and those of a threshold above every level."""
    ddpm, _ = _run(tmp_path / "a", rungs=(160,), sigma_tn=0.0)
    high, _ = _run(tmp_path / "b", rungs=(160,), sigma_tn=1e6, mixing="sigma_split")
    assert _same_weights(ddpm.results[-1].checkpoint, high.results[-1].checkpoint)

    settings, data = world.settings(rungs=(160,), sigma_tn=0.0), world.data()
    state = TrainState(settings, data, World())
    model, clean = state.model, torch.from_numpy(to_float(data.train.images))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr, fused=True)
    for seen in range(0, 160, 16):
        draws = state._streams.draw(seen)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *a, draws=draws, **k: draws.draws.noise)
            loss = denoising_loss(model, clean[draws.rows], LogNormal().sample(draws.draws.uniform)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = load_file(ddpm.results[-1].checkpoint / "train_state.safetensors")
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(weights[f"weights.{name}"], value)


def test_the_stored_noise_is_what_the_threshold_adds():
    data = world.data(draws=3)
    images = ResidentImages(world.settings(noise_draws=3), data, torch.device("cpu"))
    state = TrainState(world.settings(noise_draws=3), data, World())
    seen = set()
    for step in range(20):
        draws = state._streams.draw(16 * step)
        batch = images.batch(draws)
        assert np.array_equal(batch.clean.numpy(), to_float(data.train.images[draws.rows.numpy()]))
        for row, noise in zip(draws.rows.tolist(), batch.noise.numpy(), strict=True):
            draw = [k for k in range(3) if np.array_equal(noise, data.noise_bank[row, k])]
            assert len(draw) == 1
            seen.add(draw[0])
    assert seen == {0, 1, 2}


def test_flips_take_the_noise_along():
    data = world.data()
    images = ResidentImages(world.settings(flip=True), data, torch.device("cpu"))
    draws = TrainState(world.settings(flip=True), data, World())._streams.draw(0)
    batch = images.batch(draws)
    assert 0 < draws.flip.sum() < 16
    for row, flip, clean, noise in zip(draws.rows, draws.flip, batch.clean, batch.noise, strict=True):
        x = torch.from_numpy(to_float(data.train.images[int(row)][None])[0])
        n = torch.from_numpy(data.noise_bank[row, 0])
        assert torch.equal(clean, x.flip(-1) if flip else x)
        assert torch.equal(noise, n.flip(-1) if flip else n)


def test_learning_rate_warms_up_over_images():
    settings = world.settings(warmup_images=320, lr=1e-2)
    assert learning_rate(settings, 16) == pytest.approx(1e-2 * 16 / 320)
    assert learning_rate(settings, 320) == learning_rate(settings, 10**6) == 1e-2
    assert learning_rate(world.settings(lr=1e-2), 16) == 1e-2


def test_weight_decay_is_l2_with_adam_and_decoupled_with_adamw(tmp_path):
    plain, _ = _run(tmp_path / "0", rungs=(32,))
    for optimizer in ("adam", "adamw"):
        state = TrainState(world.settings(optimizer=optimizer, weight_decay=0.1), world.data(), World())
        assert state.optimizer.param_groups[0]["decoupled_weight_decay"] == (optimizer == "adamw")
        outcome, _ = _run(tmp_path / optimizer, rungs=(32,), optimizer=optimizer, weight_decay=0.1)
        assert not _same_weights(plain.results[-1].checkpoint, outcome.results[-1].checkpoint)


def test_clipping_bounds_the_gradient(tmp_path):
    clipped = TrainState(world.settings(grad_clip=1e-3), world.data(), World())
    seen = []
    step = clipped.optimizer.step
    clipped.optimizer.step = lambda: (
        seen.append(torch.stack([p.grad.norm() for p in clipped.model.parameters()]).norm().item()) or step()
    )
    _, norm = clipped.step()
    assert norm > 1e-2
    assert seen[0] == pytest.approx(1e-3, rel=1e-3)


def test_bf16_trains_in_autocast_with_fp32_weights(tmp_path):
    outcome, recorder = _run(tmp_path, precision="bf16", rungs=(160, 1600))
    assert outcome.state == "finished"
    assert recorder.results[1].scores["loss"] < recorder.results[0].scores["loss"]
    assert all(t.dtype == torch.float32 for t in _tensors(outcome.results[-1].checkpoint).values())


def test_conditional_training_and_sampling(tmp_path):
    outcome, _ = _run(tmp_path, data=world.data(labels=True), conditional=True, rungs=(32,))
    with np.load(outcome.results[-1].checkpoint / "samples.npz") as kept:
        assert kept["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(TrialInputError, match="conditional training needs labels"):
        _run(tmp_path, conditional=True)


def test_measured_sigma_data_is_the_spread_of_the_training_pixels(tmp_path):
    data = world.data()
    state = TrainState(world.settings(sigma_data="measured"), data, World())
    assert state.sigma_data == pytest.approx(to_float(data.train.images).std(), rel=1e-5)
    assert state.model.sigma_data == state.objective.sigma_data == state.sigma_data


def test_no_compiler_is_said_once_and_training_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with caplog.at_level(logging.WARNING):
        outcome, _ = _run(tmp_path, compile=True, rungs=(32, 64))
    assert outcome.state == "finished"
    assert [r.getMessage() for r in caplog.records if "compiler" in r.getMessage()] == [
        "compile: no compiler on this machine (g++ or clang++); training runs uncompiled"
    ]


def test_progress_is_reported_by_time_with_the_mean_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(life_module, "PROGRESS_SECONDS", 0.0)
    _, recorder = _run(tmp_path, rungs=(320,))
    seen = [images for images, _ in recorder.losses]
    assert seen == list(range(16, 320, 16)), "one report late, every step once"
    assert all(0 < loss < 50 for _, loss in recorder.losses)


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"noise_draws": 2}, None, r"noise bank has shape \[40, 1, 1, 6, 6\].*need \[40, 2, 1, 6, 6\]"),
        ({"backbone": {"_target_": "no.such.Net"}}, None, "no.such.Net cannot be imported"),
        ({}, TrainingData(world.images(), world.images()), "sigma_tn = 0.5 needs a noise bank"),
        (
            {},
            TrainingData(ImageSet(np.zeros((3, 4, 6, 1), np.uint8), None, list("abc")), world.images()),
            "must be square, got 4x6",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused_before_the_first_step(tmp_path, changes, data, message):
    with pytest.raises(TrialInputError, match=message):
        _run(tmp_path, data=data, **changes)


def test_a_batch_that_the_workers_cannot_share_is_refused():
    with pytest.raises(TrialInputError, match="batch_size 16 is too small for the 17 workers"):
        TrainState(world.settings(), world.data(), World(0, 17))


def test_a_unet_from_diffusers_trains(tmp_path):
    unet = {
        "_target_": "ambient_ray.diffusion.backbones.UNet",
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "dropout": 0.1,
    }
    outcome, recorder = _run(tmp_path, backbone=unet, rungs=(160, 960), lr=1e-2)
    assert outcome.state == "finished"
    assert recorder.results[1].scores["loss"] < recorder.results[0].scores["loss"]
