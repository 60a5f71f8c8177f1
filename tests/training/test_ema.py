import pytest
import torch
from torch import nn

from ambient_ray.training.ema import Ema, ema_decay


class Weight(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(torch.full((3,), value))
        self.register_buffer("count", torch.zeros(()))


def test_after_a_halflife_of_images_half_of_the_start_is_left():
    model = Weight(1.0)
    ema = Ema(model, halflife=640, warmup=0)
    with torch.no_grad():
        model.w.zero_()
    for step in range(10):
        ema.update(64, 64 * (step + 1))
    torch.testing.assert_close(ema.model.w, torch.full((3,), 0.5))


@pytest.mark.parametrize("batch", [16, 64, 128])
def test_the_average_does_not_depend_on_how_the_images_are_batched(batch):
    left = 1.0
    for seen in range(batch, 1281, batch):
        left *= ema_decay(batch, seen, halflife=640, warmup=0)
    assert left == pytest.approx(0.25)


def test_warm_up_shortens_the_halflife_while_few_images_were_seen():
    assert ema_decay(64, 64, halflife=500, warmup=0.05) == pytest.approx(0.5 ** (64 / 3.2))
    assert ema_decay(64, 5000, halflife=500, warmup=0.05) == pytest.approx(0.5 ** (64 / 250))
    assert ema_decay(64, 10_000, halflife=500, warmup=0.05) == ema_decay(64, 10**9, halflife=500, warmup=0.05)


def test_the_average_is_a_copy_without_gradients_that_follows_buffers():
    model = Weight(1.0)
    ema = Ema(model, halflife=10, warmup=0)
    model.count.fill_(5)
    ema.update(1, 1)
    assert ema.model.count == 5
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
