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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of two spawned workers that have trained and, after that, diverged."""
    folder = tmp_path_factory.mktemp("ddp")
    mp.spawn(ddp_worker.run, (folder,), nprocs=2)
    return folder


@pytest.mark.timeout(240)
def test_two_workers_train_what_one_would(trained, tmp_path):
    """Same global batch, noise and samples, so the weights agree up to the order of sums."""
    assert [(trained / f"two-{rank}").read_text() for rank in (0, 1)] == ["finished 2", "finished 2"]
    settings = world.settings(**ddp_worker.CHANGES)
    alone = run_trial(settings, world.data(), World(), world.Recorder(), workdir=tmp_path, score=world.score)
    for result in alone.results:
        both = trained / "two" / result.checkpoint.name
        for name in ("model.safetensors", "train_state.safetensors"):
            one, two = load_file(result.checkpoint / name), load_file(both / name)
            assert one.keys() == two.keys()
            for key in one:
                torch.testing.assert_close(two[key], one[key], rtol=2e-3, atol=2e-5)
        with np.load(result.checkpoint / "samples.npz") as a, np.load(both / "samples.npz") as b:
            assert a["samples"].shape == b["samples"].shape
            assert np.abs(a["samples"].astype(int) - b["samples"]).max() <= 2


@pytest.mark.timeout(240)
def test_when_training_diverges_every_worker_ends_alike(trained):
    assert [(trained / f"diverging-{rank}").read_text() for rank in (0, 1)] == ["failed 0", "failed 0"]
