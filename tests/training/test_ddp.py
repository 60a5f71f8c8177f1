"""Several workers train what one would: the same batches and noises, the same weights, scores and ends on every one."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import ddp_worker
import small_world as world

from ambient_ray.training import World, run_trial

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=[2, 3])
def trained(request, tmp_path_factory):
    """The number of spawned workers, and the folder in which they have lived through every story.

    A batch of 16 divides by two of them, and three have 5, 5 and 6 images of it.
    """
    folder = tmp_path_factory.mktemp(f"ddp{request.param}")
    mp.spawn(ddp_worker.run, (request.param, folder), nprocs=request.param)
    return request.param, folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One worker's outcome, with the noises that it was given."""
    patches = ddp_worker.Patches()
    watch = ddp_worker.Watch(patches)
    settings, folder = world.settings(**ddp_worker.CHANGES), tmp_path_factory.mktemp("alone")
    with patches:
        return run_trial(settings, ddp_worker.data(), World(), world.Recorder(), workdir=folder), watch


def ends(trained, name):
    size, folder = trained
    return [json.loads((folder / f"{name}-{rank}").read_text()) for rank in range(size)]


def tensors(folder):
    return {name: load_file(folder / f"{name}.safetensors") for name in ("model", "train_state")}


def test_gradients_weights_and_average_are_the_same_on_every_rank_bit_by_bit_at_every_step(trained):
    first, *others = (end["held"] for end in ends(trained, "all"))
    assert len(first) == 20 and len({tuple(step) for step in first}) == 20
    assert all(other == first for other in others)


def test_the_ranks_share_the_very_batch_and_noises_of_one(trained, alone):
    size, folder = trained
    parts = [torch.load(folder / f"noises-{rank}.pt", weights_only=True) for rank in range(size)]
    assert [len(part[0]) for part in parts] == {2: [8, 8], 3: [5, 5, 6]}[size]
    for step, noise in enumerate(alone[1].noises):
        assert torch.equal(torch.cat([part[step] for part in parts]), noise)


def test_several_train_what_one_would(trained, alone):
    """Same global batch, noise and samples, so weights, losses and scores agree up to the order of sums."""
    size, folder = trained
    assert [end["state"] for end in ends(trained, "all")] == ["finished"] * size
    for result in alone[0].results:
        both = folder / "all" / result.checkpoint.name
        for name, one in tensors(result.checkpoint).items():
            two = tensors(both)[name]
            assert one.keys() == two.keys()
            for key in one:
                torch.testing.assert_close(two[key], one[key], rtol=2e-3, atol=2e-5)
        with np.load(result.checkpoint / "samples.npz") as a, np.load(both / "samples.npz") as b:
            assert a["samples"].shape == b["samples"].shape
            assert np.abs(a["samples"].astype(int) - b["samples"]).max() <= 2
            assert a["features"].shape == b["features"].shape, "each rank's own, gathered"
        kept = json.loads((both / "checkpoint.json").read_text())
        assert kept["facts"] == result.facts
        for name in ("loss", "grad_norm", "fd_pixels", "kid", "gap", "f_mem", "s_tau"):
            assert kept["scores"][name] == pytest.approx(result.scores[name], rel=1e-2, abs=1e-6), name


def test_every_rank_ends_as_the_judge_says_whom_the_first_alone_asks(trained):
    found = ends(trained, "judged")
    assert [(end["state"], end["images"]) for end in found] == [("stopped", 320)] * trained[0]


def test_when_training_diverges_every_rank_ends_alike(trained):
    first, *others = ends(trained, "diverging")
    assert first["state"] == "failed" and "non-finite" in first["reason"]
    assert all(other == first for other in others)


def test_weights_that_come_apart_fail_the_trial_on_every_rank_and_the_worker_is_named(trained):
    first, *others = ends(trained, "weights")
    assert first["state"] == "failed" and all(other == first for other in others)
    assert first["reason"] == (
        "worker 1 and worker 0 do not hold the same weights at image 160: they are not trained as one"
    )


def test_a_noise_bank_that_differs_in_one_number_s_last_bit_is_found_before_the_first_step(trained):
    first, *others = ends(trained, "bank")
    assert first["state"] == "failed" and first["images"] == 0 and all(other == first for other in others)
    assert first["reason"].startswith("worker 1 and worker 0 do not hold the same noise bank: a node")


def test_one_rank_s_notice_pauses_all_at_one_step_and_they_go_on(trained):
    """Bit for bit with two: of three, DDP lays out a new group's first sums in another order than the next ones."""
    size, folder = trained
    first, *others = ends(trained, "paused")
    assert first["state"] == "paused" and 0 < first["images"] <= 320 and all(other == first for other in others)
    assert first["again"] == "finished"
    for rung in ("rung-00-000000160", "rung-01-000000320"):
        one, two = folder / "paused" / rung, folder / "straight" / rung
        for name, expected in tensors(two).items():
            for key, value in expected.items():
                close = {} if size == 2 else {"rtol": 2e-3, "atol": 2e-5}
                torch.testing.assert_close(tensors(one)[name][key], value, **close or {"rtol": 0, "atol": 0})
        a, b = (json.loads((place / "checkpoint.json").read_text())["scores"] for place in (one, two))
        assert a["loss"] == pytest.approx(b["loss"], rel=0 if size == 2 else 1e-4, abs=0)


def test_a_checksum_is_the_same_in_every_process(trained):
    assert len({end["value"] for end in ends(trained, "checksum")}) == 1
