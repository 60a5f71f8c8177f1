"""A packed trial is its unpacked twin: same weights, same checkpoints, whatever becomes of its neighbours."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world
from test_no_host_sync import NoHostSync, no_copies  # noqa: F401  (a fixture)

from ambient_ray.diffusion import build_backbone
from ambient_ray.training import PackedTrial, TrainingData, TrialInputError, World, run_packed, run_trial
from ambient_ray.training.packed import TRIALS, PackedState, least_weights, when_packed
from ambient_ray.training.state import TrainState

UNET = {"_target_": "ambient_ray.diffusion.backbones.UNet", "block_out_channels": [8, 16], "layers_per_block": 1}
DIT = {"_target_": "ambient_ray.diffusion.backbones.DiT", "patch_size": 3, "layers": 1, "heads": 2, "head_dim": 8}
# Every kind of trial at once; the last has no noisy images at all.
MIXED = (
    {"sigma_tn": 0.5, "noisy_ratio": 0.5, "lr": 3e-3, "seed": 1},
    {"sigma_tn": 1.5, "noisy_ratio": 0.9, "lr": 1e-3, "seed": 2, "warmup_images": 100, "optimizer": "adamw"},
    {"sigma_tn": 0.2, "mixing": "image_split", "weighting": "compensated", "seed": 3, "grad_clip": 0.1, "flip": True},
    {"sigma_tn": 0.7, "mixing": "sigma_split", "noise_draws": "inf", "seed": 4, "ema_halflife_images": 1000},
    {"sigma_tn": 0.0, "seed": 5, "lr": 1e-2, "shift_pixels": 1},
)


def _states(changes=MIXED, data=None, **common):
    data = data or world.data()
    return [TrainState(world.settings(**one | common), data, World()) for one in changes]


def _steps(state, n):
    return [state.step() for _ in range(n)]


def _all_tensors(state):
    tensors = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in state.ema.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{name}": value for name, value in moments.items()}
    return tensors


def _assert_twins(packed, alone):
    """Weights, average and moments agree to float32 rounding; Adam divides by gradients near 0, hence the 1e-4."""
    assert packed.images_seen == alone.images_seen
    first, second = _all_tensors(packed), _all_tensors(alone)
    assert first.keys() == second.keys()
    for name in first:
        if name.endswith("to_k.bias"):
            continue  # softmax does not see it: its gradient is rounding alone, which Adam blows up to whole steps
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4, msg=lambda m, name=name: name + m)


@pytest.mark.parametrize("backbone", [world.TINY, UNET, DIT], ids=["convolutions", "unet", "dit"])
def test_packed_trials_equal_their_twins(backbone):
    packed, twins = PackedState(_states(backbone=backbone)), _states(backbone=backbone)
    initial = [_all_tensors(state) for state in _states(backbone=backbone)]
    for _ in range(12):
        steps = packed.step()
        for (loss, norm), twin in zip(steps, twins, strict=True):
            torch.testing.assert_close((loss, norm), twin.step(), rtol=1e-3, atol=1e-5)
    for state, twin, start in zip(packed.states, twins, initial, strict=True):
        _assert_twins(state, twin)
        moved = max(float((twin.model.state_dict()[n[6:]] - start[n]).abs().max()) for n in start if n[0] == "m")
        assert moved > 5e-3, "the trials must have gone somewhere for the comparison to mean anything"


def test_labels_and_subsets_of_their_own_are_packed():
    own = [world.data(labels=True, n=n) for n in (40, 23)]

    def states():
        return [TrainState(world.settings(conditional=True, seed=seed), data, World()) for seed, data in enumerate(own)]

    packed, twins = PackedState(states()), states()
    for _ in range(6):
        packed.step()
        for twin in twins:
            twin.step()
    for state, twin in zip(packed.states, twins, strict=True):
        _assert_twins(state, twin)


def test_a_trial_leaves_and_all_go_on_as_their_twins():
    packed, twins = PackedState(_states()), _states()
    states = packed.states
    for leaver in (1, 4, 0, 3):
        for _ in range(3):
            packed.step()
        packed.leave(states[leaver])
        assert states[leaver] not in packed.states
    for _ in range(3):
        packed.step()
    steps = [9, 3, 15, 12, 6]
    for state, twin, n in zip(states, twins, steps, strict=True):
        _steps(state, 15 - n)  # on its own
        _steps(twin, 15)
        _assert_twins(state, twin)


@pytest.mark.parametrize("backbone", [world.TINY, UNET, DIT], ids=["convolutions", "unet", "dit"])
def test_a_diverging_trial_poisons_no_other(backbone):
    changes = (*MIXED[:2], {"seed": 9, "lr": 1e30}, *MIXED[3:])
    packed, twins = PackedState(_states(changes, backbone=backbone)), _states(changes, backbone=backbone)
    for _ in range(8):
        losses = [loss for loss, _ in packed.step()]
        for twin in twins:
            twin.step()
    assert [bool(loss.isfinite()) for loss in losses] == [True, True, False, True, True]
    for number in (0, 1, 3, 4):
        _assert_twins(packed.states[number], twins[number])


def test_a_packed_step_never_waits_for_the_device(no_copies):  # noqa: F811
    packed = PackedState(_states())
    with NoHostSync():
        for _ in range(5):
            packed.step()
    assert {state.images_seen for state in packed.states} == {80}


def _run(folder, changes, recorders=None, resumes=None, data=None, **common):
    recorders = recorders or [world.Recorder() for _ in changes]
    resumes = resumes or [None] * len(changes)
    trials = [
        PackedTrial(world.settings(**one | common), recorder, folder / str(number), resume)
        for number, (one, recorder, resume) in enumerate(zip(changes, recorders, resumes, strict=True))
    ]
    return run_packed(trials, data or world.data(), World(), score=world.score), recorders


def _alone(folder, settings, recorder=None, resume=None):
    recorder = recorder or world.Recorder()
    outcome = run_trial(settings, world.data(), World(), recorder, workdir=folder, resume=resume, score=world.score)
    return outcome, recorder


def _same_result(one, other):
    assert (one.rung, one.images_seen, one.facts) == (other.rung, other.images_seen, other.facts)
    for name in ("loss", "grad_norm", "brightness"):
        assert one.scores[name] == pytest.approx(other.scores[name], rel=1e-3), name


def test_trials_end_at_their_own_rungs_with_their_twins_results(tmp_path):
    changes = [MIXED[0] | {"rungs": (160, 320, 640)}, MIXED[4], MIXED[1] | {"rungs": (96, 800)}]
    stops = [(1,), (), ()]
    outcomes, recorders = _run(tmp_path / "packed", changes, [world.Recorder(stop) for stop in stops])
    assert [outcome.state for outcome in outcomes] == ["stopped", "finished", "finished"]
    assert [outcome.images_seen for outcome in outcomes] == [320, 640, 800]
    for number, (one, stop) in enumerate(zip(changes, stops, strict=True)):
        twin, recorder = _alone(tmp_path / "alone" / str(number), world.settings(**one), world.Recorder(stop))
        outcome = outcomes[number]
        assert (outcome.state, outcome.reason, len(outcome.results)) == (twin.state, twin.reason, len(twin.results))
        assert outcome.results == tuple(recorders[number].results)
        for mine, theirs in zip(recorders[number].results, recorder.results, strict=True):
            _same_result(mine, theirs)
            assert mine.checkpoint.parent == tmp_path / "packed" / str(number)


def test_checkpoints_pass_between_packed_and_unpacked(tmp_path):
    changes, common = MIXED[:3], {"rungs": (320, 640)}
    full = [_alone(tmp_path / "full" / str(n), world.settings(**one | common)) for n, one in enumerate(changes)]
    stopped, _ = _run(tmp_path / "packed", changes, [world.Recorder((0,)) for _ in changes], **common)
    kept = [outcome.results[0].checkpoint for outcome in stopped]
    alone = [
        _alone(tmp_path / "on" / str(n), world.settings(**one | common), resume=kept[n])
        for n, one in enumerate(changes)
    ]
    begun = [outcome.results[0].checkpoint for outcome, _ in full]
    packed, recorders = _run(tmp_path / "again", changes, resumes=begun, **common)
    for number, (twin, _) in enumerate(full):
        assert alone[number][0].state == packed[number].state == "finished"
        _same_result(alone[number][0].results[-1], twin.results[-1])
        _same_result(packed[number].results[-1], twin.results[-1])
        assert [result.rung for result in recorders[number].resumed] == [0]


def test_a_diverged_or_misfit_trial_fails_alone(tmp_path):
    _, recorder = _alone(tmp_path / "other", world.settings(seed=77))
    foreign = recorder.results[0].checkpoint
    changes = [MIXED[0], {"seed": 9, "lr": 1e30}, MIXED[4], {"seed": 78}]
    outcomes, _ = _run(tmp_path / "packed", changes, resumes=[None, None, None, foreign])
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "finished", "failed"]
    assert "non-finite" in outcomes[1].reason
    assert "seed = 77" in outcomes[3].reason
    twin, _ = _alone(tmp_path / "twin", world.settings(**MIXED[0]))
    _same_result(outcomes[0].results[-1], twin.results[-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{}, {"batch_size": 32}], "packed trials must share batch_size, got 16 and 32"),
        ([{}, {"backbone": world.TINY | {"width": 4}}], "packed trials must share backbone"),
        ([{}, {"backbone": world.TINY | {"dropout": 0.1}}], "packed trials cannot have dropout"),
        ([{}, {"channels_last": True}], "packed trials cannot be channels_last"),
        ([{}, {"sigma_data": 0.3}], "packed trials must share the images' size and sigma_data"),
        ([], "packing needs at least one trial"),
    ],
)
def test_what_cannot_be_packed_is_refused(changes, message):
    with pytest.raises(TrialInputError, match=message):
        PackedState(_states(changes))


def test_several_workers_are_refused(tmp_path):
    trial = PackedTrial(world.settings(), world.Recorder(), tmp_path)
    data: TrainingData = world.data()
    with pytest.raises(TrialInputError, match="packed trials run in one worker, but the world has 2"):
        run_packed([trial], data, World(rank=0, size=2), score=world.score)


def test_a_gpu_is_refused():
    states = _states()
    for state in states:
        state.world = World(device=torch.device("cuda", 0))
    with pytest.raises(TrialInputError, match=r"not be kept apart on a GPU; trial\.gpus_per_worker=0\.125"):
        PackedState(states)


SMALL = {"_target_": "ambient_ray.diffusion.backbones.DiT", "patch_size": 6, "layers": 3, "heads": 1, "head_dim": 64}


@pytest.mark.parametrize(
    ("changes", "packed"),
    [
        ({}, True),
        ({"precision": "fp32"}, False),
        ({"batch_size": 2048, "rungs": (2048,)}, False),
        ({"backbone": SMALL | {"width": 4.0}}, False),
        ({"backbone": SMALL | {"patch_size": 1}}, False),  # 36 times the tokens
        ({"backbone": SMALL | {"dropout": 0.1}}, False),
        ({"channels_last": True}, False),
        ({"compile": True}, False),
        ({"backbone": world.TINY}, False),  # never measured
        ({"backbone": UNET}, True),
        ({"backbone": UNET | {"block_out_channels": [64, 128]}, "batch_size": 128, "rungs": (128,)}, False),
    ],
)
def test_only_small_networks_and_batches_are_chosen(changes, packed):
    settings = world.settings(**{"backbone": SMALL, "batch_size": 32, "precision": "bf16"} | changes)
    image = {"channels": 1, "resolution": 6, "num_classes": None}
    assert when_packed(settings, image) == (TRIALS if packed else 1)


def test_what_is_chosen_can_be_packed():
    for backbone in (SMALL, UNET):
        states = _states([{"seed": 1}, {"seed": 2, "sigma_tn": 0.0}], backbone=backbone, precision="bf16")
        assert when_packed(states[0].settings, states[0].image) > 1
        assert len(PackedState(states).step()) == 2


@pytest.mark.parametrize(
    "backbone",
    [
        DIT | {"patch_size": 8, "head_dim": 16},
        DIT | {"patch_size": 2, "layers": 3, "heads": 3, "head_dim": 64, "width": 0.5},
        UNET | {"block_out_channels": [16, 32]},
        UNET | {"block_out_channels": [32, 64, 64], "layers_per_block": 2, "depth": 2.0},
    ],
)
def test_the_bound_on_the_weights_is_one(backbone):
    image = {"channels": 1, "resolution": 8, "num_classes": None}
    weights = sum(parameter.numel() for parameter in build_backbone(backbone, **image).parameters())
    assert 0.05 * weights < least_weights(backbone, image) <= weights
