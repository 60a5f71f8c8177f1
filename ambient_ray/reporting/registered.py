"""Which of a study's candidates become registered models, with which weights, on what evidence, under which alias."""

from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.tracking.models.promotion import BASELINE, BEST, LOWEST, Evidence
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.confirmation import Confirmed
from ambient_ray.tuning.records import Candidate, Landscape, Objectives

from .comparison import Point, copying, quality
from .verdict import Verdict

CHAMPION = "champion"


@dataclass(frozen=True)
class Chosen:
    """A candidate to register.

    Attributes:
        candidate: the search's own, which says which configuration and stop this is.
        weights: the run whose checkpoint stands for it: its typical replica where it was confirmed, else its own.
        evidence: over fresh training seeds where it was confirmed, else of its one run.
        aliases: which it is to have.
        on_front: whether it is on the search's front; the champion and DDPM's stop need not be.
        useful: whether its fidelity in the search is within the study's reference.
    """

    candidate: Candidate
    weights: Candidate
    evidence: Evidence
    aliases: tuple[str, ...]
    on_front: bool
    useful: bool


def models_to_register(
    land: Landscape, verdict: Verdict, objectives: Objectives, rule: Rule, most: int
) -> tuple[list[Chosen], int]:
    """The front's candidates, the champion and DDPM's stop, as models; and how many of the front are left out.

    `best-fidelity` and `lowest-memorization` are the ends of the search's front, the latter among those whose fidelity
    is within the study's reference; `ddpm-baseline` is `verdict.ddpm`. Of a front of more than `most` candidates these
    and both ends stay, then those farthest from all that stay, in the plane scaled to the front.

    Args:
        land: the search's candidates.
        verdict: the study's answer.
        objectives: the names of the two scores.
        rule: the champion rule.
        most: of the front; 0: the champion alone, and no alias but its own.

    Returns:
        The champion first, then DDPM's stop, then the front by fidelity.
    """
    limit = land.reference[0] if land.reference is not None else float("inf")
    front = list(land.front)
    wanted: dict[str, Candidate | None] = {CHAMPION: verdict.champion}
    if most > 0:
        useful = [c for c in front if c.fidelity <= limit]
        wanted |= {BASELINE: verdict.ddpm, BEST: front[0] if front else None, LOWEST: useful[-1] if useful else None}
    named = [c for c in wanted.values() if c is not None]
    kept = _spread(front, [c for c in front if c in named], most) if most > 0 else []
    chosen = []
    for candidate in _once([*named[:2], *kept, *named]):
        aliases = tuple(alias for alias, one in wanted.items() if one == candidate)
        weights, evidence = _weights(candidate, verdict, objectives, rule)
        on_front = candidate in front
        chosen.append(Chosen(candidate, weights, evidence, aliases, on_front, candidate.fidelity <= limit))
    return chosen, len(front) - sum(c.on_front for c in chosen)


def _spread(front: Sequence[Candidate], named: Sequence[Candidate], most: int) -> list[Candidate]:
    """At most `most` of the front, but never fewer than its ends and what is named, in its order."""
    if len(front) <= most:
        return list(front)
    kept = list(_once([*front[:1], *front[-1:], *named]))
    spans = [max(axis) - min(axis) or 1.0 for axis in zip(*(c.point for c in front), strict=True)]

    def room(candidate: Candidate) -> float:
        """The scaled distance to the nearest that is kept."""
        gaps = ([abs(a - b) / s for a, b, s in zip(candidate.point, k.point, spans, strict=True)] for k in kept)
        return min(sum(g * g for g in gap) for gap in gaps)

    while len(kept) < most:
        kept.append(max((c for c in front if c not in kept), key=room))
    return [c for c in front if c in kept]


def _weights(candidate: Candidate, verdict: Verdict, objectives: Objectives, rule: Rule) -> tuple[Candidate, Evidence]:
    if candidate == verdict.champion and verdict.weights is not None and verdict.evidence is not None:
        return verdict.weights, verdict.evidence
    found = [point for point in verdict.confirmed if point.original == candidate]
    point: Point = found[0] if found else candidate
    weights = point.typical if isinstance(point, Confirmed) else point
    confirmed = isinstance(point, Confirmed)
    evidence = Evidence(
        objectives=(objectives.fidelity, objectives.memorization),
        fidelity=quality(point, objectives),
        memorization=copying(point, objectives),
        confirmed=confirmed,
        rule=rule.name,
        tolerance=rule.tolerance,
        max_memorization=rule.max_memorization,
        limit=verdict.evidence.limit if verdict.evidence is not None else None,
        seeds=point.seeds if isinstance(point, Confirmed) else (),
        sentence=verdict.sentence,
        facts=weights.rung.facts,
        notes={
            "arm": candidate.trial.arm,
            "configuration": candidate.trial.label,
            "images_seen": candidate.rung.images_seen,
            "gain": "not the study's champion" if confirmed else "not confirmed on fresh seeds",
        },
    )
    return weights, evidence


def _once(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without repetition, in their order."""
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate not in found:
            found.append(candidate)
    return found
