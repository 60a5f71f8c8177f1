"""A worker's device and its share of a GPU that it has not for itself."""

import pytest
import torch

from ambient_ray.evaluation import memory
from ambient_ray.training.device import UnusableGpuError, own_device

GIB = 2.0**30


def test_without_a_gpu_from_ray_it_is_the_processor():
    assert own_device(False, 0.0) == torch.device("cpu")


def test_a_gpu_that_pytorch_cannot_use_is_said_and_not_replaced_by_the_processor(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("AMBIENT_RAY_CPU_FOR_GPU", raising=False)
    with pytest.raises(UnusableGpuError, match="PyTorch cannot use it: install PyTorch for this GPU's driver, or set"):
        own_device(True, 0.25)
    monkeypatch.setenv("AMBIENT_RAY_CPU_FOR_GPU", "1")
    assert own_device(True, 0.25) == torch.device("cpu")
    assert "the processor stands for it" in caplog.text


@pytest.mark.parametrize(("share", "taken"), [(0.25, [0.25]), (1.0, [])])
def test_a_fraction_bounds_the_memory_and_a_whole_gpu_does_not(monkeypatch, share, taken):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: asked.append(share))
    monkeypatch.setattr(memory, "_SHARES", {})
    assert own_device(True, share) == torch.device("cuda", 0)
    assert (asked, memory._SHARES) == (taken, {0: 0.25} if taken else {})


def test_what_is_free_is_within_the_share(monkeypatch):
    """Of 80 GiB a quarter: 20, less what is held; the neighbours' use counts only where less is left in all."""
    assert memory.within_share(70 * GIB, 80 * GIB, 5 * GIB, 0.25) == 15 * GIB
    assert memory.within_share(3 * GIB, 80 * GIB, 5 * GIB, 0.25) == 3 * GIB
    assert memory.within_share(70 * GIB, 80 * GIB, 21 * GIB, 0.25) == 0
    assert memory.within_share(70 * GIB, 80 * GIB, 5 * GIB, 1.0) == 70 * GIB
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(70 * GIB), int(80 * GIB)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(5 * GIB))
    monkeypatch.setattr(memory, "_SHARES", {0: 0.25})
    assert memory.free_memory(torch.device("cuda", 0)) == 15 * GIB
