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


@pytest.mark.timeout(120)
def test_two_workers_train_what_one_would(tmp_path):
    """Same global batch, noise and samples, so the weights agree up to the order of sums."""
    mp.spawn(ddp_worker.run, (tmp_path, False), nprocs=2)
    assert [(tmp_path / f"outcome-{rank}").read_text() for rank in (0, 1)] == ["finished 2", "finished 2"]
    alone = run_trial(
        world.settings(**ddp_worker.CHANGES),
        world.data(),
        World(),
        world.Recorder(),
        workdir=tmp_path / "one",
        score=world.score,
    )
    for result in alone.results:
        both = tmp_path / "two" / result.checkpoint.name
        for name in ("model.safetensors", "train_state.safetensors"):
            one, two = load_file(result.checkpoint / name), load_file(both / name)
            assert one.keys() == two.keys()
            for key in one:
                torch.testing.assert_close(two[key], one[key], rtol=2e-3, atol=2e-5)
        with np.load(result.checkpoint / "samples.npz") as a, np.load(both / "samples.npz") as b:
            assert a["samples"].shape == b["samples"].shape
            assert np.abs(a["samples"].astype(int) - b["samples"]).max() <= 2


@pytest.mark.timeout(120)
def test_when_training_diverges_every_worker_ends_alike(tmp_path):
    mp.spawn(ddp_worker.run, (tmp_path, True), nprocs=2)
    assert [(tmp_path / f"outcome-{rank}").read_text() for rank in (0, 1)] == ["failed 0", "failed 0"]
