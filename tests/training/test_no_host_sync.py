"""A host sync in the step would make a GPU wait for the host: looked for below Python's surface."""

import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world

from ambient_ray.training import World
from ambient_ray.training.compiling import missing_compiler
from ambient_ray.training.meter import Meter, Progress
from ambient_ray.training.state import TrainState

needs_compiler = pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler")
SYNCS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique")


class HostSyncError(AssertionError):
    pass


class NoHostSync(TorchDispatchMode):
    """Refuses operators whose result or shape must be known on the host (item, bool, float, nonzero, ...)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in SYNCS:
            raise HostSyncError(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_copies(monkeypatch):
    for name in ("cpu", "numpy", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, lambda self, name=name: (_ for _ in ()).throw(HostSyncError(name)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sigma_tn": 0.0},
        {"mixing": "sigma_split", "weighting": "compensated", "flip": True},
        {"mixing": "image_split", "noise_draws": "inf", "grad_clip": 1.0},
        {"noise_draws": 3, "precision": "bf16", "optimizer": "adamw", "warmup_images": 100},
        {"shift_pixels": 1, "noise_distribution": "cosine"},
        pytest.param({"compile": True}, marks=needs_compiler),
    ],
)
def test_a_step_never_waits_for_the_device(changes, no_copies):
    state = TrainState(world.settings(**changes), world.data(draws=3), World())
    if state.settings.compile:
        state.step()  # compilation may look at anything; what runs after it may not
        state.images_seen = 0
        frames = counters["frames"]["total"]
    meter, progress = Meter(torch.device("cpu")), Progress(lambda seen, loss: None, torch.device("cpu"), 1e9)
    with NoHostSync():
        for _ in range(5):  # more than an epoch of 40 images
            loss, norm = state.step()
            meter.add(loss, norm)
            progress.add(loss, state.images_seen)
    assert state.images_seen == 80
    if state.settings.compile:
        assert counters["frames"]["total"] == frames, "the watched steps ran the code that was compiled before"


@pytest.mark.parametrize("sync", ["item", "cpu", "tolist", "numpy"])
@pytest.mark.parametrize("where", ["network", "loss"])
def test_a_sync_inside_the_step_is_caught(sync, where, no_copies, monkeypatch):
    state = TrainState(world.settings(), world.data(), World())

    def look(*given):
        getattr(given[-1].detach().sum(), sync)()

    if where == "network":
        state.model.register_forward_hook(look)
    else:
        monkeypatch.setattr(state, "_clip_gradient", lambda: look(state.model.backbone.out.bias.grad))
    with NoHostSync(), pytest.raises(HostSyncError):
        state.step()


def test_the_watch_sees_a_sync():
    with NoHostSync():
        for sync in (lambda x: x.item(), bool, float, lambda x: x.nonzero(), lambda x: x if x > 0 else -x):
            with pytest.raises(HostSyncError):
                sync(torch.ones(()))
