"""The sentence says no more than the intervals carry."""

from ambient_ray.console.verdict import decide, matches
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, TrialRecord

OBJECTIVES = Objectives("fd", "f_mem")


def trial(number, arm, *path):
    rungs = tuple(
        RungRecord(
            i,
            100 * 2**i,
            {"fd": fd, "f_mem": m, "f_mem_low": max(0, m - half), "f_mem_high": m + half},
            {},
            "c",
        )
        for i, (fd, m, half) in enumerate(path)
    )
    return TrialRecord(number, arm, {"sigma_tn": 0.0 if arm == "ddpm" else 0.5, "noisy_ratio": 0.3}, "finished", rungs)


def verdict(*trials, tolerance=0.05):
    return decide(Landscape.of(trials, OBJECTIVES), OBJECTIVES, tolerance)


def test_a_separated_gain_is_said():
    found = verdict(
        trial(0, "ddpm", (90, 0.0, 0.01), (50, 0.6, 0.05)),
        trial(1, "ambient", (80, 0.0, 0.01), (52, 0.1, 0.05)),
    )
    assert found.separated and "Ambient copies less" in found.sentence
    assert found.champion is not None and found.champion.trial.number == 1
    assert "not confirmed" in found.sentence


def test_overlapping_intervals_are_no_evidence():
    found = verdict(trial(0, "ddpm", (50, 0.30, 0.05)), trial(1, "ambient", (50, 0.25, 0.05)))
    assert not found.separated and "no evidence of a difference" in found.sentence


def test_a_loss_is_said_as_plainly():
    found = verdict(trial(0, "ddpm", (50, 0.1, 0.02)), trial(1, "ambient", (50, 0.4, 0.02)))
    assert "Ambient copies more" in found.sentence
    assert found.champion is not None and found.champion.trial.arm == "ddpm"


def test_ddpms_own_early_stop_competes():
    found = verdict(trial(0, "ddpm", (51, 0.05, 0.02), (50, 0.6, 0.02)), trial(1, "ambient", (51, 0.2, 0.02)))
    assert found.ddpm is not None and found.ddpm.rung.rung == 0
    assert "Ambient copies more" in found.sentence


def test_low_copying_at_bad_fidelity_wins_nothing():
    found = verdict(trial(0, "ddpm", (50, 0.6, 0.02)), trial(1, "ambient", (80, 0.0, 0.0)))
    assert found.ambient is None and "there is no Ambient candidate" in found.sentence
    assert found.champion is not None and found.champion.trial.arm == "ddpm"


def test_without_a_baseline_nothing_is_claimed():
    found = verdict(trial(1, "ambient", (90, 0.0, 0.1), (50, 0.1, 0.1)))
    assert "nothing can be compared" in found.sentence and not found.separated
    assert found.champion is not None and found.champion.fidelity == 50
    assert verdict().champion is None


def test_every_ddpm_stop_is_compared_at_its_own_fidelity():
    land = Landscape.of(
        [trial(0, "ddpm", (90, 0.0, 0.01), (50, 0.4, 0.05), (40, 0.8, 0.05)), trial(1, "ambient", (52, 0.1, 0.05))],
        OBJECTIVES,
    )
    first, second, third = matches(land, OBJECTIVES, 0.05)
    assert (first.word, second.word, third.word) == ("more", "less", "")
    assert third.ambient is None and second.ambient is not None and second.ambient.fidelity == 52
