"""A sampler by one key, or by a class of one's own; what can't search two objectives is refused in one sentence."""

import pytest

from ambient_ray.tuning.samplers import SamplerError, choose_sampler
from ambient_ray.tuning.space import Range, Space

SPACE = Space("s", {"sigma_tn": Range(0.1, 4.0, log=True), "noisy_ratio": Range(0.1, 0.9)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"_target_": "optuna.samplers.CmaEsSampler"}, "CmaEsSampler cannot search two objectives"),
        ({"_target_": "optuna.samplers.TPESampler", "n_startup": 3}, "TPESampler cannot be built"),
        ({"_target_": "optuna.samplers.NoSuchSampler"}, "NoSuchSampler cannot be built"),
        ({"_target_": "builtins.dict"}, "no Optuna sampler"),
        ({"grid": 1}, "2 or more"),
        ({}, "_target_"),
    ],
)
def test_what_cannot_search_is_one_sentence(content, words):
    with pytest.raises(SamplerError, match=words) as caught:
        choose_sampler(content, SPACE)
    assert "\n" not in str(caught.value)


def test_a_seed_of_ones_own_changes_every_draw_and_repeats_none():
    def drawn(own):
        make = choose_sampler({"_target_": "optuna.samplers.RandomSampler", "seed": own}, SPACE).make
        return [make(place)._rng.rng.uniform() for place in range(3)]

    assert drawn(7) == drawn(7) and len({*drawn(7), *drawn(70)}) == 6
