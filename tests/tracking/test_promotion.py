"""The alias moves only to what the intervals show to be better, and only among scores that compare."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.interval import Interval
from ambient_ray.tracking.models.promotion import BASELINE, BEST, LOWEST, RECORD, Evidence, follows, gain, promotion

FACTS = {"extractor": "classifier", "n": 500, "train_hash": "ab"}


def evidence(low, high, fd=(4.4, 4.6), **changed):
    made = Evidence(
        ("fd", "f_mem"), Interval(sum(fd) / 2, *fd), Interval((low + high) / 2, low, high), True,
        limit=4.8, seeds=(1, 2, 3), sentence="At matched fidelity ...", facts=FACTS,
    )  # fmt: skip
    return replace(made, **changed)


HELD = evidence(0.3, 0.4)


def test_only_an_interval_below_the_holders_takes_the_alias():
    assert promotion(evidence(0.1, 0.2), HELD).moves
    for low, high in ((0.1, 0.35), (0.3, 0.4), (0.35, 0.38), (0.1, 0.3), (0.5, 0.6)):
        told = promotion(evidence(low, high), HELD)
        assert not told.moves and "no gain" in told.why


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_two_models_never_take_the_alias_from_each_other_in_turn(a, b, c, d):
    one, other = evidence(*sorted((a, b))), evidence(*sorted((c, d)))
    assert not (promotion(one, other).moves and promotion(other, one).moves) and not promotion(one, one).moves


def test_an_unconfirmed_holder_gives_way_and_an_unconfirmed_newcomer_does_not_take():
    guess = evidence(0.0, 0.01, confirmed=False)
    assert promotion(evidence(0.5, 0.6), guess).moves and promotion(guess, guess).moves and promotion(HELD, None).moves
    told = promotion(guess, HELD)
    assert not told.moves and "not confirmed" in told.why


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"facts": FACTS | {"n": 5000}}, "n is 5000 here and 500 there"),
        ({"facts": {"extractor": "classifier", "n": 500}}, "train_hash is unknown here and ab there"),
        ({"objectives": ("kid", "f_mem")}, "kid and f_mem here, fd and f_mem there"),
    ],
)
def test_scores_of_another_kind_show_nothing(changed, said):
    told = promotion(evidence(0.0, 0.1, **changed), HELD)
    assert not told.moves and said in told.why and "do not compare" in told.why


def test_less_copying_at_a_fidelity_that_was_no_match_is_no_gain():
    told = promotion(evidence(0.0, 0.1, fd=(5.0, 5.2), limit=6.0), HELD)
    assert not told.moves and "not matched: 4.8 would be" in told.why


def test_a_single_run_has_no_interval_to_gain_with():
    lone = replace(HELD, memorization=Interval(0.0))
    assert not promotion(lone, HELD).moves and not promotion(evidence(0.0, 0.1), lone).moves


def test_the_rules_ask_for_their_own_gains():
    knee = evidence(0.1, 0.2, rule="knee")
    assert gain(knee, HELD).moves and gain(evidence(0.3, 0.4, fd=(4.0, 4.2), rule="knee"), HELD).moves
    assert not gain(evidence(0.1, 0.2, fd=(5.0, 5.2), rule="knee"), HELD).moves
    bounded = {"rule": "max_memorization", "max_memorization": 0.25}
    assert gain(evidence(0.1, 0.2, **bounded), HELD).moves  # the holder is not shown to stay within the bound
    inside = evidence(0.15, 0.25)
    assert not gain(evidence(0.1, 0.2, **bounded), inside).moves
    assert gain(evidence(0.1, 0.2, fd=(4.0, 4.2), **bounded), inside).moves
    told = gain(evidence(0.2, 0.3, fd=(4.0, 4.2), **bounded), inside)
    assert not told.moves and "not shown to stay within 0.25" in told.why


@pytest.mark.parametrize(
    "given_",
    [
        HELD,
        evidence(0.1, 0.2, rule="max_memorization", max_memorization=0.2, notes={"arm": "ddpm", "failed": 1}),
        evidence(0.1, 0.2, limit=None, seeds=(), confirmed=False),
        replace(HELD, memorization=Interval(0.25)),
    ],
)
def test_evidence_survives_as_tags(given_):
    tags = given_.tags()
    assert all(isinstance(value, str) for value in tags.values()) and len(tags) == 4
    found = Evidence.read(tags)
    assert found == given_
    assert not promotion(replace(given_, confirmed=True), replace(found, confirmed=True)).moves  # its facts compare


def test_people_read_the_same_in_three_short_tags():
    assert {key: value for key, value in HELD.tags().items() if key != RECORD} == {
        "fidelity": "fd 4.5 [4.4, 4.6]", "memorization": "f_mem 0.350 [0.300, 0.400]", "evidence": "3 fresh seeds",
    }  # fmt: skip
    assert replace(HELD, confirmed=False).tags()["evidence"] == "one run, not confirmed"


def test_tags_of_other_makers_are_no_evidence():
    assert Evidence.read({}) is None and Evidence.read({"evidence.rule": "knee", "evidence.trials": "12"}) is None
    for broken in ("{}", "not JSON", '{"objectives": ["fd"]}', HELD.tags()[RECORD].replace('"mean"', '"middle"')):
        assert Evidence.read(HELD.tags() | {RECORD: broken}) is None


def test_the_record_counts_whatever_a_crash_left_of_the_other_tags():
    renewed = evidence(0.1, 0.2)
    half = HELD.tags() | {RECORD: renewed.tags()[RECORD]}
    assert Evidence.read(half) == renewed


def test_versions_of_before_there_was_a_record_are_read_tag_by_tag():
    values = {
        "objectives": '["fd", "f_mem"]', "confirmed": "true", "rule": "matched", "tolerance": "0.05", "seeds": "[1, 2]",
        "fidelity": "4.5", "memorization": "0.35", "memorization_low": "0.3", "memorization_high": "0.4",
    }  # fmt: skip
    tags = {f"evidence.{key}": value for key, value in values.items()} | {"fact.n": "500"}
    found = Evidence.read(tags)
    assert found is not None and found.memorization == HELD.memorization and found.facts == {"n": "500"}
    assert Evidence.read(tags | {"evidence.memorization": "a lot"}) is None


def test_a_descriptive_alias_leaves_another_studys_version_for_a_shown_gain_alone():
    better = evidence(0.1, 0.2, fd=(4.0, 4.2))
    for alias in (LOWEST, BEST, BASELINE):
        assert follows(alias, better, HELD).moves and not follows(alias, HELD, better).moves
        assert not follows(alias, HELD, HELD).moves and not follows(alias, better, None).moves
        assert "not confirmed" in follows(alias, replace(better, confirmed=False), HELD).why
        assert "do not compare" in follows(alias, replace(better, facts=FACTS | {"n": 50}), HELD).why
    assert not follows(BEST, evidence(0.1, 0.2), HELD).moves and follows(LOWEST, evidence(0.1, 0.2), HELD).moves
