"""Compiled training gives the same numbers, resumes bit for bit, and compiles once for many trials."""

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

sys.path.insert(0, str(Path(__file__).parent))
import small_world as world
from safetensors.torch import load_file

from ambient_ray.training import World, run_trial
from ambient_ray.training.compiling import first_compilation, missing_compiler, prepare_compiling
from ambient_ray.training.scoring import draw_samples
from ambient_ray.training.state import TrainState

pytestmark = pytest.mark.skipif(missing_compiler(torch.device("cpu")) is not None, reason="no C++ compiler")

DIT = {
    "_target_": "ambient_ray.diffusion.backbones.DiT",
    "patch_size": 6,
    "layers": 1,
    "heads": 2,
    "head_dim": 8,
}


@pytest.fixture(autouse=True, scope="module")
def cache():
    """A folder that outlives the tests: PyTorch's keys tell code of other versions and other networks apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/ambient-ray-tests-{os.getuid()}")
        yield


def _state(**changes):
    return TrainState(world.settings(**{"backbone": DIT, "compile": True} | changes), world.data(), World())


def _losses(state, steps=20):
    return torch.stack([torch.stack(state.step()) for _ in range(steps)])


def _graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("backbone", [DIT, world.TINY], ids=["dit", "user"])
def test_compiled_and_eager_training_agree(backbone):
    compiled, eager = _state(backbone=backbone), _state(backbone=backbone, compile=False)
    torch.testing.assert_close(_losses(compiled), _losses(eager), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(compiled.ema.model.parameters(), eager.ema.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    drawn = [draw_samples(s.settings, s.sampled, world.images(), World(), 4).astype(int) for s in (compiled, eager)]
    assert abs(drawn[0] - drawn[1]).max() <= 1


def test_compiling_leaves_no_trace_in_a_fresh_state():
    compiled, eager = _state(), _state(compile=False)
    for mine, theirs in zip(compiled.model.state_dict().values(), eager.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert all(p.grad is None for p in compiled.model.parameters())
    assert not compiled.optimizer.state_dict()["state"]


def test_trials_in_one_process_share_one_compilation():
    """Other levels, ratios, learning rates and seeds are other numbers in the same code."""
    first = _state()
    first.step()
    draw_samples(first.settings, first.sampled, world.images(), World(), 4)
    before = _graphs()
    for changes in (
        {"sigma_tn": 0.3, "noisy_ratio": 0.7, "lr": 1e-3, "seed": 5},
        {"sigma_tn": 0.0, "mixing": "sigma_split", "weighting": "compensated"},
        {"optimizer": "adamw", "weight_decay": 0.1, "grad_clip": 1.0, "warmup_images": 100, "flip": True},
    ):
        state = _state(**changes)
        for _ in range(3):
            state.step()
        draw_samples(state.settings, state.sampled, world.images(), World(), 4)
    assert _graphs() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": DIT},
        {
            "backbone": world.TINY | {"dropout": 0.2},
            "precision": "bf16",
            "channels_last": True,
        },
    ],
    ids=["dit", "bf16-dropout"],
)
def test_a_resumed_compiled_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, changes):
    def run(name, recorder, resume=None):
        return run_trial(
            world.settings(compile=True, rungs=(160, 320), **changes),
            world.data(),
            World(),
            recorder,
            workdir=tmp_path / name,
            resume=resume,
            score=world.score,
        )

    whole = run("whole", world.Recorder())
    part = run("part", world.Recorder(stop_at=[0]))
    rest = run("rest", world.Recorder(), part.results[-1].checkpoint)
    for name in ("model.safetensors", "train_state.safetensors"):
        a, b = (load_file(outcome.results[-1].checkpoint / name) for outcome in (whole, rest))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_cuda_graphs_are_told_of_each_step_and_nothing_of_one_is_kept(monkeypatch):
    """Their memory is written over by the next step: it begins with the mark, and no gradient outlives its step."""
    state, events = _state(compile=False, compile_mode="reduce-overhead"), []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("mark"))
    state.model.register_forward_pre_hook(lambda module, given: events.append("forward"))
    owned = []
    for p in filter(lambda p: p.requires_grad, state.model.parameters()):
        p.register_hook(lambda grad: owned.append(grad.untyped_storage().data_ptr()))
    results = [state.step() for _ in range(2)]
    assert events == ["mark", "forward"] * 2
    assert all(p.grad is None for p in state.model.parameters())
    assert not {t.untyped_storage().data_ptr() for pair in results for t in pair} & set(owned[-len(owned) // 2 :])


def test_a_running_mean_is_not_moved_by_compiling():
    state = _state(backbone={"_target_": "test_compiled.Normed"})
    assert torch.equal(state.model.backbone.norm.running_mean, torch.zeros(1))
    state.step()
    assert not torch.equal(state.model.backbone.norm.running_mean, torch.zeros(1))


class Normed(torch.nn.Module):
    def __init__(self, channels, resolution, num_classes):
        super().__init__()
        self.norm, self.out = torch.nn.BatchNorm2d(channels), torch.nn.Conv2d(channels, channels, 1)

    def forward(self, x, c_noise, labels=None):
        return self.out(self.norm(x + c_noise.view(-1, 1, 1, 1)))


def test_the_cache_is_the_users_unless_set(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    prepare_compiling()
    assert not list(tmp_path.iterdir()), "the folder that is set stays"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())  # as PyTorch itself does
    prepare_compiling()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == tmp_path / "ambient-ray"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    prepare_compiling()
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())
    assert chosen == default_cache_dir(), "a folder that cannot be made is not insisted on"


def _compile(folder, name, log):
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    with first_compilation("network"):
        log.put((name, "in"))
        time.sleep(0.5)
        log.put((name, "out"))


@pytest.mark.timeout(120)
def test_of_two_processes_one_compiles_first(tmp_path):
    context = multiprocessing.get_context("fork")
    log = context.SimpleQueue()
    both = [context.Process(target=_compile, args=(str(tmp_path), name, log)) for name in "ab"]
    for process in both:
        process.start()
    events = [log.get() for _ in range(4)]
    for process in both:
        process.join()
    assert [what for _, what in events] == ["in", "out", "in", "out"]
    assert events[0][0] == events[1][0]
