"""What a search says in the end: the champion, and one sentence that the numbers carry."""

from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.tuning.records import Candidate, Landscape, Objectives


@dataclass(frozen=True)
class Verdict:
    """The comparison at matched fidelity.

    Attributes:
        champion: lowest memorization among the candidates whose fidelity is within the tolerance of DDPM's best
            (of the best there is, in a study without DDPM); of equals the better fidelity. None without candidates.
        ddpm: the same rule among DDPM's own rungs (so that its early stops compete).
        ambient: the same rule among Ambient candidates; None when none is within the tolerance.
        separated: the 95 % intervals of the two memorizations do not overlap.
        sentence: the answer, without a claim that the intervals don't carry.
    """

    champion: Candidate | None
    ddpm: Candidate | None
    ambient: Candidate | None
    separated: bool
    sentence: str


def decide(land: Landscape, objectives: Objectives, tolerance: float) -> Verdict:
    """Compare the best Ambient candidate with DDPM at matched fidelity.

    Args:
        land: all candidates of the study.
        objectives: the names of the two scores.
        tolerance: "matched" means fidelity <= (1 + tolerance) * DDPM's best fidelity over its rungs.
    """
    ddpm_all = [c for c in land.candidates if c.trial.arm == "ddpm"]
    if not ddpm_all:
        limit = (1 + tolerance) * min((c.fidelity for c in land.candidates), default=0.0)
        best = _least_copying(land.candidates, limit)
        return Verdict(best, None, best, False, "No DDPM baseline has been scored, so nothing can be compared yet.")
    limit = (1 + tolerance) * min(c.fidelity for c in ddpm_all)
    ddpm = _least_copying(ddpm_all, limit)
    ambient = _least_copying([c for c in land.candidates if c.trial.arm == "ambient"], limit)
    champion = _least_copying(land.candidates, limit)
    assert ddpm is not None  # DDPM's best is within the tolerance of itself
    near = f"{objectives.fidelity} within {tolerance:.0%} of DDPM's best, {limit / (1 + tolerance):.3g}"
    matched = f"At matched fidelity ({near})"
    if ambient is None:
        return Verdict(
            champion, ddpm, None, False,
            f"{matched} there is no Ambient candidate: none of those searched comes within the tolerance"
            f" (DDPM itself: {memorization(ddpm, objectives)}, {_where(ddpm)}).",
        )  # fmt: skip
    word = _word(ambient, ddpm, objectives)
    separated = word != "no difference"
    verdict = f"Ambient copies {word}" if separated else "no evidence of a difference (the intervals overlap)"
    sentence = (
        f"{matched}, Ambient's memorization is {memorization(ambient, objectives)}"
        f" ({ambient.trial.label}, {_where(ambient)})"
        f" against DDPM's {memorization(ddpm, objectives)} ({_where(ddpm)}): {verdict}."
        " One training run each, the best of many: not confirmed on fresh seeds."
    )
    return Verdict(champion, ddpm, ambient, separated, sentence)


@dataclass(frozen=True)
class Match:
    """DDPM stopped at one of its rungs, and the least copying Ambient candidate at no worse a fidelity.

    Attributes:
        ddpm: the stop.
        ambient: lowest memorization with fidelity within the tolerance of the stop's; None where there is none.
        word: "less", "more" or "no difference" (intervals overlap) of Ambient's memorization; "" without a match.
    """

    ddpm: Candidate
    ambient: Candidate | None
    word: str


def matches(land: Landscape, objectives: Objectives, tolerance: float) -> list[Match]:
    """The comparison at the fidelity of every DDPM stop, in the order of training: early stopping is the rival."""
    found = []
    stops = [c for c in land.candidates if c.trial.arm == "ddpm"]
    for stop in sorted(stops, key=lambda c: (c.trial.number, c.rung.rung)):
        ours = [c for c in land.candidates if c.trial.arm == "ambient"]
        best = _least_copying(ours, (1 + tolerance) * stop.fidelity)
        found.append(Match(stop, best, _word(best, stop, objectives) if best else ""))
    return found


def _word(ambient: Candidate, ddpm: Candidate, objectives: Objectives) -> str:
    (a_low, a_high), (d_low, d_high) = _interval(ambient, objectives), _interval(ddpm, objectives)
    return "less" if a_high < d_low else "more" if d_high < a_low else "no difference"


def _least_copying(candidates: Sequence[Candidate], limit: float) -> Candidate | None:
    within = [c for c in candidates if c.fidelity <= limit]
    return min(within, key=lambda c: (c.memorization, c.fidelity), default=None)


def _interval(candidate: Candidate, objectives: Objectives) -> tuple[float, float]:
    key, scores = objectives.memorization, candidate.rung.scores
    return scores.get(f"{key}_low", scores[key]), scores.get(f"{key}_high", scores[key])


def memorization(candidate: Candidate, objectives: Objectives) -> str:
    """`.123 [.100, .150]`, value and 95 % interval."""
    low, high = _interval(candidate, objectives)
    return f"{candidate.memorization:.3f} [{low:.3f}, {high:.3f}]"


def _where(candidate: Candidate) -> str:
    return f"stopped at {candidate.rung.images_seen:,} images"
