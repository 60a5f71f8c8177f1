"""Whether an alias moves: only to what the evidence shows to be better than what holds it.

Pure functions of plain values. A model version keeps its evidence as one tag, so that no reader ever sees half of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ambient_ray.interval import Interval

from ..labels import text_tags

RECORD = "record.evidence"  # the tag that holds all of it; MLflow writes a tag at once or not at all
LOWEST, BEST, BASELINE = "lowest-memorization", "best-fidelity", "ddpm-baseline"
_ENDS = tuple(f"{name}{end}" for name in ("fidelity", "memorization") for end in ("", "_low", "_high"))
_NUMBERS = ("objectives", "confirmed", "tolerance", "max_memorization", "limit", "seeds", *_ENDS)


@dataclass(frozen=True)
class Evidence:
    """Why a model is a champion, or wants to be.

    Attributes:
        objectives: the names of the two scores, fidelity and memorization.
        fidelity: over fresh training seeds where confirmed, else of the one run that the search chose.
        memorization: likewise.
        confirmed: whether these are intervals over fresh training seeds.
        rule: matched | knee | max_memorization.
        tolerance: what counts as matched fidelity.
        max_memorization: the bound, for the rule of that name.
        limit: the worst fidelity that counted as matched; None where there was no DDPM.
        seeds: the training seeds.
        sentence: the search's answer.
        facts: what the scores depend on; only equal facts compare.
        notes: whatever else is worth keeping, as tags.
    """

    objectives: tuple[str, str]
    fidelity: Interval
    memorization: Interval
    confirmed: bool
    rule: str = "matched"
    tolerance: float = 0.05
    max_memorization: float | None = None
    limit: float | None = None
    seeds: tuple[int, ...] = ()
    sentence: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """As a version's tags: three for people, who see them in MLflow's table of versions, and the record."""
        first, second = self.objectives
        known = f"{len(self.seeds)} fresh seeds" if self.confirmed else "one run, not confirmed"
        return {
            "fidelity": f"{first} {self.fidelity.text('.3g')}",
            "memorization": f"{second} {self.memorization.text()}",
            "evidence": known,
            RECORD: json.dumps(asdict(self), default=str),
        }

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> Evidence | None:
        """The evidence among a version's tags; None where there is none, as on versions of other makers.

        The record is what counts; versions of before it was kept are read tag by tag.
        """
        try:
            if RECORD in tags:
                return cls._of_record(json.loads(tags[RECORD]))
            own = {key.removeprefix("evidence."): value for key, value in tags.items() if key.startswith("evidence.")}
            number = {key: json.loads(own[key]) for key in _NUMBERS if key in own}
            first, second = number["objectives"]
            return cls(
                objectives=(first, second),
                fidelity=_interval(number, "fidelity"),
                memorization=_interval(number, "memorization"),
                confirmed=number["confirmed"] is True,
                rule=own["rule"],
                tolerance=float(number["tolerance"]),
                max_memorization=number.get("max_memorization"),
                limit=number.get("limit"),
                seeds=tuple(number.get("seeds", ())),
                sentence=own.get("sentence", ""),
                facts={key.removeprefix("fact."): value for key, value in tags.items() if key.startswith("fact.")},
            )
        except (KeyError, ValueError, TypeError):
            return None

    @classmethod
    def _of_record(cls, record: dict[str, Any]) -> Evidence:
        spans = {name: Interval(**record[name]) for name in ("fidelity", "memorization")}
        first, second = record["objectives"]
        return cls(**{**record, **spans, "objectives": (first, second), "seeds": tuple(record["seeds"])})


@dataclass(frozen=True)
class Promotion:
    """Whether the alias moves to the newcomer, and why, in one sentence without a full stop."""

    moves: bool
    why: str


def promotion(new: Evidence, held: Evidence | None) -> Promotion:
    """Whether a newcomer takes the alias from what holds it.

    Args:
        new: the newcomer's evidence.
        held: the holder's; None where its tags carry none. (A model without a holder needs no decision.)
    """
    if held is None or not held.confirmed:
        return Promotion(True, "the champion before was not confirmed on fresh seeds")
    if not new.confirmed:
        return Promotion(False, "it is not confirmed on fresh seeds, and the champion is")
    different = _different(new, held)
    if different is not None:
        return Promotion(
            False,
            f"its scores and the champion's do not compare ({different}); move the alias by hand, or choose another"
            " tracking.model_name",
        )
    return gain(new, held)


def follows(alias: str, new: Evidence, held: Evidence | None) -> Promotion:
    """Whether a descriptive alias leaves another study's version for this study's own.

    Within one study such an alias follows its front, and no decision is needed.

    Args:
        alias: lowest-memorization | best-fidelity | ddpm-baseline.
        new: of this study's version.
        held: of the holder, which another study registered; None where its tags carry none.
    """
    if held is None:
        return Promotion(False, "what holds it carries no scores to compare with")
    if held.confirmed and not new.confirmed:
        return Promotion(False, "it is not confirmed on fresh seeds, and what holds the alias is")
    different = _different(new, held)
    if different is not None:
        return Promotion(False, f"its scores and those of what holds the alias do not compare ({different})")
    if alias == BASELINE:
        return gain(replace(new, rule="matched"), held)
    name, ours, theirs, form = (
        (new.objectives[0], new.fidelity, held.fidelity, ".3g")
        if alias == BEST
        else (new.objectives[1], new.memorization, held.memorization, ".3f")
    )
    moves = ours.below(theirs)
    return Promotion(moves, f"{name} {ours.text(form)} against {theirs.text(form)}{_word(moves)}")


def gain(new: Evidence, held: Evidence) -> Promotion:
    """Whether the 95 % intervals show that `new` is better than `held` under `new.rule`, scores being comparable.

    matched: less memorization, and fidelity that counted as matched for both. knee: better in one objective and not
    shown to be worse in the other. max_memorization: memorization shown to stay within the bound, and better fidelity
    unless the other's memorization is not shown to.
    """
    name, copies = new.objectives
    less = new.memorization.below(held.memorization)
    finer = new.fidelity.below(held.fidelity)
    copying = f"{copies} {new.memorization.text()} against {held.memorization.text()}"
    quality = f"{name} {new.fidelity.text('.3g')} against {held.fidelity.text('.3g')}"
    if new.rule == "max_memorization":
        bound = new.max_memorization if new.max_memorization is not None else 0.0
        if new.memorization.high is None or new.memorization.high > bound:
            return Promotion(False, f"{copies} {new.memorization.text()} is not shown to stay within {bound:g}")
        if held.memorization.high is None or held.memorization.high > bound:
            return Promotion(True, f"{copies} stays within {bound:g}: {copying}")
        return Promotion(finer, f"{quality} with {copies} within {bound:g}{_word(finer)}")
    if new.rule == "knee":
        worse = held.memorization.below(new.memorization) or held.fidelity.below(new.fidelity)
        moves = (less or finer) and not worse
        return Promotion(moves, f"{copying}, {quality}{_word(moves)}")
    limits = [limit for limit in (new.limit, held.limit) if limit is not None]
    if less and limits and new.fidelity.mean > min(limits):
        return Promotion(False, f"{quality} is not matched: {min(limits):.3g} would be")
    return Promotion(less, f"{copying}{_word(less)}")


def _word(moves: bool) -> str:
    return ": better, the 95 % intervals do not overlap" if moves else ": no gain that the 95 % intervals carry"


def _different(new: Evidence, held: Evidence) -> str | None:
    """The first thing in which the scores differ in kind, as text; None when they compare."""
    if new.objectives != held.objectives:
        return f"{' and '.join(new.objectives)} here, {' and '.join(held.objectives)} there"
    from ambient_ray.evaluation import comparable

    here, there = text_tags(new.facts), text_tags(held.facts)
    for key in comparable(here, there) or ():
        return f"{key} is {here.get(key, 'unknown')} here and {there.get(key, 'unknown')} there"
    return None


def _interval(values: Mapping[str, Any], name: str) -> Interval:
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    return Interval(float(values[name]), *(None if end is None else float(end) for end in (low, high)))
