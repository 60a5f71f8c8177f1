"""What a search says in the end: the champion, its evidence, and one sentence that the numbers carry."""

from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.tracking.models.promotion import Evidence, gain
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.confirmation import Confirmed, confirmed
from ambient_ray.tuning.records import Candidate, Landscape, Objectives, TrialRecord

from .comparison import Comparison, Point, copying, original, quality, where, word

_NOT_CONFIRMED = " One training run each, the best of many: not confirmed on fresh seeds."


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        champion: what the champion rule chooses (`Rule`); after confirmation what it chooses among those whose gain
            over DDPM the intervals carry, else DDPM's own choice. As the search's candidate; None without any.
        ddpm: DDPM's stop at matched fidelity with the lowest memorization (so that its early stops compete).
        ambient: the Ambient candidate compared with it; None when none is within the tolerance.
        separated: the 95 % intervals of the two memorizations do not overlap.
        sentence: the answer, without a claim that the intervals don't carry.
        weights: the run whose checkpoint stands for the champion: its typical replica, or the search's own run where
            nothing was confirmed.
        evidence: what is known of the champion.
        confirmed: what was trained on fresh seeds; empty where nothing was.
    """

    champion: Candidate | None
    ddpm: Candidate | None
    ambient: Candidate | None
    separated: bool
    sentence: str
    weights: Candidate | None = None
    evidence: Evidence | None = None
    confirmed: tuple[Confirmed, ...] = ()


def conclude(land: Landscape, trials: Sequence[TrialRecord], objectives: Objectives, rule: Rule) -> Verdict:
    """The answer from fresh seeds where every replica that was begun has ended, else the search's own.

    Args:
        land: the search's candidates.
        trials: all of the study's, replicas included.
        objectives: the names of the two scores.
        rule: the champion rule.
    """
    running = any(t.replica_of is not None and t.state == "running" for t in trials)
    found = [] if running else confirmed(trials, objectives)
    if not found:
        return decide(land, objectives, rule)
    return decide_confirmed(found, objectives, rule, land.reference[0] if land.reference else None)


def decide(land: Landscape, objectives: Objectives, rule: Rule) -> Verdict:
    """The search's own answer, from one run of each configuration.

    Args:
        land: all candidates of the study.
        objectives: the names of the two scores.
        rule: the champion rule; its tolerance says what matched fidelity is.
    """
    sides = Comparison(land.candidates, objectives, rule)
    admitted, _ = rule.order(land.candidates, sides.best, land.reference[0] if land.reference else None)
    champion = admitted[0] if admitted else None
    compared = sides.ddpm is not None and (sides.ambient or sides.rival) is not None
    sentence = sides.sentence() + (_NOT_CONFIRMED if compared else "") + _chosen(champion, objectives, rule)
    evidence = None if champion is None else _evidence(champion, sides, sentence, shown=False)
    return Verdict(
        champion=champion,
        ddpm=original(sides.ddpm) if sides.ddpm else None,
        ambient=original(sides.ambient) if sides.ambient else None,
        separated=sides.separated,
        sentence=sentence,
        weights=champion,
        evidence=evidence,
    )


def decide_confirmed(
    found: Sequence[Confirmed], objectives: Objectives, rule: Rule, useful: float | None = None
) -> Verdict:
    """The answer from fresh training seeds.

    The champion must have shown a gain over DDPM's own choice (`tracking.models.promotion.gain`; for the knee, which
    trades one objective for the other, in one of them); where nothing has, DDPM's own choice is it, because nothing
    better was shown.

    Args:
        found: from `ambient_ray.tuning.confirmation.confirmed`.
        objectives: the names of the two scores.
        rule: the champion rule, over the means.
        useful: see `Rule.order`.
    """
    points = [c for c in found if c.planned]
    sides = Comparison(points, objectives, rule)
    admitted, _ = rule.order(points, sides.best, useful)
    own, others = rule.order([c for c in points if c.arm == "ddpm"], sides.best, useful)
    shown = [c for ddpm in [*own, *others][:1] for c in admitted if c.arm != "ddpm" and _better(c, ddpm, sides)]
    champion = next(iter([*shown, *own, *admitted]), None)
    sentence = sides.sentence() + _chosen(champion, objectives, rule)
    return Verdict(
        champion=original(champion) if champion else None,
        ddpm=original(sides.ddpm) if sides.ddpm else None,
        ambient=original(sides.ambient) if sides.ambient else None,
        separated=sides.separated,
        sentence=sentence,
        weights=champion.typical if champion else None,
        evidence=_evidence(champion, sides, sentence, shown=bool(shown)) if champion else None,
        confirmed=tuple(found),
    )


def _better(point: Confirmed, ddpm: Confirmed, sides: Comparison) -> bool:
    """Whether the intervals show a gain over DDPM's own choice under the rule."""
    if sides.rule.name == "knee":
        return point.of_memorization.below(ddpm.of_memorization) or point.of_fidelity.below(ddpm.of_fidelity)
    new, held = (_evidence(p, sides, "", shown=False) for p in (point, ddpm))
    return gain(new, held).moves


def _evidence(point: Point, sides: Comparison, sentence: str, *, shown: bool) -> Evidence:
    """What is known of a point, as the registry keeps it."""
    candidate = original(point)
    ours = sides.ambient or sides.rival
    if not isinstance(point, Confirmed):
        known = "not confirmed on fresh seeds"
    elif sides.ddpm is None:
        known = "no DDPM was scored"
    else:
        known = "shown" if shown else "nothing is shown to be better than DDPM"
    notes = {
        "arm": candidate.trial.arm,
        "configuration": candidate.trial.label,
        "images_seen": candidate.rung.images_seen,
        "gain": known,
        "separated_from_ddpm": sides.separated if ours is not None else None,
    }
    if isinstance(point, Confirmed):
        notes |= {"failed": point.failed, "diverged": point.diverged}
    return Evidence(
        objectives=(sides.objectives.fidelity, sides.objectives.memorization),
        fidelity=quality(point, sides.objectives),
        memorization=copying(point, sides.objectives),
        confirmed=isinstance(point, Confirmed),
        rule=sides.rule.name,
        tolerance=sides.rule.tolerance,
        max_memorization=sides.rule.max_memorization,
        limit=sides.limit if sides.ddpm is not None else None,
        seeds=point.seeds if isinstance(point, Confirmed) else (),
        sentence=sentence,
        facts=(point.typical if isinstance(point, Confirmed) else point).rung.facts,
        notes=notes,
    )


def _chosen(champion: Point | None, objectives: Objectives, rule: Rule) -> str:
    """For rules other than the comparison's own: which point the champion is, and whether its bound is shown."""
    if rule.name == "matched":
        return ""
    bound = f"{objectives.memorization} of at most {rule.max_memorization or 0:g}"
    what = "the knee of the front" if rule.name == "knee" else f"the best {objectives.fidelity} with {bound}"
    if champion is None:
        return f" Nothing has {bound}, so there is no champion."
    memorization = copying(champion, objectives)
    text = (
        f" Champion by the rule {rule.name} ({what}): {where(champion)}, {objectives.fidelity}"
        f" {quality(champion, objectives).text('.3g')}, {objectives.memorization} {memorization.text()}"
    )
    if rule.name == "max_memorization" and rule.max_memorization is not None:
        inside = memorization.high is not None and memorization.high <= rule.max_memorization
        text += ", its interval within the bound" if inside else ", its interval not within the bound: no evidence"
    return text + "."


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
    rule = Rule("matched", tolerance)
    ours = [c for c in land.candidates if c.trial.arm == "ambient"]
    stops = [c for c in land.candidates if c.trial.arm == "ddpm"]
    for stop in sorted(stops, key=lambda c: (c.trial.number, c.rung.rung)):
        admitted, _ = rule.order(ours, stop.fidelity)
        best = admitted[0] if admitted else None
        said = word(copying(best, objectives), copying(stop, objectives)) or "no difference" if best else ""
        found.append(Match(stop, best, said))
    return found


def memorization(candidate: Candidate, objectives: Objectives) -> str:
    """`0.123 [0.100, 0.150]`, value and 95 % interval of one run's samples."""
    return copying(candidate, objectives).text()


def metrics(point: Confirmed, objectives: Objectives) -> dict[str, float]:
    """A confirmed point as metrics of its trial's run: `confirmed.NAME`, `_low`, `_high`, and the counts of runs."""
    found = {
        "confirmed.seeds": float(len(point.replicas)),
        "confirmed.failed": float(point.failed),
        "confirmed.diverged": float(point.diverged),
    }
    for name, interval in ((objectives.fidelity, point.of_fidelity), (objectives.memorization, point.of_memorization)):
        ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
        found |= {f"confirmed.{name}{end}": value for end, value in ends.items() if value is not None}
    return found
