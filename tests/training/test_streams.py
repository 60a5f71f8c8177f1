import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.training.streams import StepStreams, Stream, noisy_only

CPU = torch.device("cpu")


def _streams(rank=0, size=1, seed=0, n=20, batch=12, fresh=False, shift=0):
    return StepStreams(
        seed,
        n_images=n,
        shape=(1, 2, 2),
        batch_size=batch,
        rank=rank,
        size=size,
        device=CPU,
        fresh_noise=fresh,
        shift_pixels=shift,
    )


def _parts(step):
    return [step.rows, step.flip, step.pick, step.draws.uniform, step.draws.noise]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_ranks_together_see_the_batch_that_one_would(size):
    whole = _parts(_streams().draw(36))
    ranks = [_parts(_streams(rank, size).draw(36)) for rank in range(size)]
    for part, pieces in zip(whole, zip(*ranks, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), part)


def test_a_step_depends_on_the_images_seen_and_not_on_the_steps_before():
    walked = _streams()
    for seen in range(0, 120, 12):
        step = walked.draw(seen)
        fresh = _streams().draw(seen)
        assert all(torch.equal(a, b) for a, b in zip(_parts(step), _parts(fresh), strict=True))
        assert torch.rand(1) == (_streams().draw(seen), torch.rand(1))[1], "dropout's generator is seeded too"


@pytest.mark.parametrize(("n", "batch"), [(20, 12), (7, 12), (5, 12), (24, 12)])
def test_every_epoch_visits_every_image_once(n, batch):
    streams = _streams(n=n, batch=batch)
    rows = torch.cat([streams.draw(seen).rows for seen in range(0, n * batch, batch)])
    epochs = rows.view(batch, n)
    assert torch.equal(epochs.sort(1).values, torch.arange(n).expand(batch, n))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1, "each epoch has an order of its own"


def test_fresh_noise_comes_last_so_that_the_ablation_shares_everything_else():
    plain, ablation = _streams().draw(24), _streams(fresh=True).draw(24)
    assert all(torch.equal(a, b) for a, b in zip(_parts(plain), _parts(ablation), strict=True))
    assert plain.fresh is None
    assert ablation.fresh.shape == ablation.draws.noise.shape
    assert not torch.equal(ablation.fresh, ablation.draws.noise)


@given(st.integers(0, 2**40), st.sets(st.integers(0, 2**31), min_size=2, max_size=50))
def test_counters_of_a_stream_never_share_a_seed(seed, counters):
    stream = Stream(seed, "step")
    low = {stream.seed(counter) & 0xFFFFFFFF for counter in counters}  # what torch's CPU generator keeps
    assert len(low) == len(counters)


def test_seeds_and_purposes_give_other_streams():
    seeds = {Stream(s, p).seed(0) for s in range(100) for p in ("step", "order", "weights")}
    assert len(seeds) == 300
    a, b = (_streams(seed=s).draw(0).draws.noise for s in (0, 1))
    assert not torch.equal(a, b)


def test_noisy_only_images_are_chosen_by_their_ids():
    ids = [f"image-{i}" for i in range(4000)]
    marks = noisy_only(ids, 0.3, seed=0)
    assert marks.mean() == pytest.approx(0.3, abs=0.03)
    assert np.array_equal(noisy_only(ids[::-1], 0.3, seed=0), marks[::-1])
    assert not np.array_equal(noisy_only(ids, 0.3, seed=1), marks)
    assert (noisy_only(ids, 0.6, seed=0) >= marks).all(), "a larger share keeps the images of a smaller one"
    assert not noisy_only(ids, 0.0, seed=0).any()
    assert noisy_only(ids, 1.0, seed=0).all()


def test_shifts_come_from_a_stream_of_their_own_and_the_ranks_share_it():
    plain, shifted = _streams(fresh=True).draw(24), _streams(fresh=True, shift=2).draw(24)
    assert all(torch.equal(a, b) for a, b in zip(_parts(plain), _parts(shifted), strict=True))
    assert torch.equal(plain.fresh, shifted.fresh)
    assert plain.shift is None and shifted.shift.shape == (12, 2)
    ranks = [_streams(rank, 3, fresh=True, shift=2).draw(24).shift for rank in range(3)]
    assert torch.equal(torch.cat(ranks), shifted.shift)
    many = torch.cat([_streams(shift=2).draw(seen).shift for seen in range(0, 2400, 12)])
    assert sorted(many.unique().tolist()) == [-2, -1, 0, 1, 2]
    assert torch.corrcoef(many.T.double())[0, 1].abs() < 0.1, "up and down is not left and right"
