"""The comparison at matched fidelity, in words: Ambient, or the best rival, against DDPM and its early stops."""

from collections.abc import Sequence
from typing import TypeAlias

from ambient_ray.interval import Interval
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.confirmation import Confirmed
from ambient_ray.tuning.records import Candidate, Objectives

# A run of the search, or a configuration over fresh seeds: both are points in the plane, under the same rule.
Point: TypeAlias = Candidate | Confirmed
_NAMES = {"ambient": "Ambient", "rival": "the rival", "ddpm": "DDPM"}


class Comparison:
    """Who is compared with whom at matched fidelity.

    Several candidates are compared with DDPM without a correction for their number: for `confirm.top` up to 20 some
    false gain is found in less than 5 % of searches (`Interval.below`), which is all that Holm's would ensure.

    Args:
        points: all that compete.
        objectives: the names of the two scores.
        rule: its tolerance says what matched is, whatever its name.

    Attributes:
        best: DDPM's best fidelity over its stops; of all points without DDPM; 0 without points.
        limit: the worst fidelity that counts as matched.
        ddpm: DDPM's stop within the limit with the lowest memorization; None without DDPM.
        ambient: the Ambient point compared with it: within the limit, the lowest memorization whose interval lies
            below DDPM's, or just the lowest; None when none is within the limit.
        rival: likewise among rivals (DDPM with weight decay, dropout, ...).
    """

    def __init__(self, points: Sequence[Candidate] | Sequence[Confirmed], objectives: Objectives, rule: Rule) -> None:
        self.points: list[Point] = list(points)
        self.objectives, self.rule = objectives, rule
        ddpm = [p for p in self.points if arm(p) == "ddpm"]
        self.best = min((p.fidelity for p in ddpm or self.points), default=0.0)
        self.limit = rule.limit(self.best)
        admitted, _ = Rule("matched", rule.tolerance).order(self.points, self.best)
        stops = [p for p in admitted if arm(p) == "ddpm"]
        self.ddpm: Point | None = stops[0] if stops else None
        self.ambient = self._against_ddpm([p for p in admitted if arm(p) == "ambient"])
        self.rival = self._against_ddpm([p for p in admitted if arm(p) == "rival"])

    @property
    def separated(self) -> bool:
        """Whether the 95 % intervals of Ambient's (else the rival's) and DDPM's memorization do not overlap."""
        ours = self.ambient or self.rival
        return ours is not None and self.ddpm is not None and self._word(ours, self.ddpm) != ""

    def _against_ddpm(self, admitted: Sequence[Point]) -> Point | None:
        if self.ddpm is None:
            return admitted[0] if admitted else None
        ddpm = copying(self.ddpm, self.objectives)
        shown = [p for p in admitted if copying(p, self.objectives).below(ddpm)]
        return next(iter([*shown, *admitted]), None)

    def sentence(self) -> str:
        """The answer: what is compared, both figures with their intervals, and what they carry."""
        if self.ddpm is None:
            if any(isinstance(p, Confirmed) for p in self.points):
                return "No DDPM baseline was scored on fresh training seeds, so nothing can be compared."
            return "No DDPM baseline has been scored, so nothing can be compared yet."
        matched = f"At matched fidelity ({self.objectives.fidelity} within {percent(self.rule.tolerance)} of DDPM's"
        matched = f"{matched} best, {self.best:.3g})"
        theirs = f"{self._copying(self.ddpm)} ({stop(self.ddpm)})"
        ours = self.ambient or self.rival
        if ours is None:
            return f"{matched} {self._nobody()}; DDPM's memorization is {theirs}.{self._lost(self.ddpm)}"
        whose = "Ambient's memorization" if arm(ours) == "ambient" else "the best rival's memorization"
        text = f"{matched}, {whose} is {self._copying(ours)} ({where(ours)}) against DDPM's {theirs}: "
        text += f"{self._claim(ours, self.ddpm)}."
        if self.ambient is not None and self.rival is not None:
            text += f" Against the best rival's {self._copying(self.rival)} ({where(self.rival)}): "
            text += f"{self._claim(self.ambient, self.rival)}."
        return text + self._lost(ours) + self._lost(self.ddpm)

    def _copying(self, point: Point) -> str:
        return copying(point, self.objectives).text()

    def _word(self, ours: Point, theirs: Point) -> str:
        return word(copying(ours, self.objectives), copying(theirs, self.objectives))

    def _claim(self, ours: Point, theirs: Point) -> str:
        found = self._word(ours, theirs)
        name = _NAMES[arm(ours)]
        on = ""
        if isinstance(ours, Confirmed) and isinstance(theirs, Confirmed):
            n, m = len(ours.replicas), len(theirs.replicas)
            if min(n, m) == 1:
                return "no evidence of a difference (a single fresh training seed has no interval)"
            on = f"on {n} fresh training seeds each" if n == m else f"on {n} and {m} fresh training seeds"
        if not found:
            return f"no evidence of a difference (the 95 % intervals overlap) {on}".rstrip()
        return f"{name} copies {found}" + (f", confirmed {on}" if on else "")

    def _nobody(self) -> str:
        """Why nobody is compared with DDPM: what came nearest, and what the search had thought of it."""
        arms = {arm(p) for p in self.points}
        kind = "rival" if "rival" in arms and "ambient" not in arms else "Ambient"
        tried = [p for p in self.points if arm(p) == kind.lower()]
        if not tried:
            return f"there is no {kind} candidate to compare"
        near = min(tried, key=lambda p: p.fidelity)
        name = self.objectives.fidelity
        if isinstance(near, Confirmed):
            return (
                f"there is no {kind} candidate left on fresh training seeds: the nearest ({where(near)}) has"
                f" {name} {near.of_fidelity.text('.3g')}, where the search's one run, the best of many, had"
                f" {near.original.fidelity:.3g}"
            )
        return (
            f"there is no {kind} candidate: the nearest of those searched ({where(near)}) has"
            f" {name} {near.fidelity:.3g}"
        )

    def _lost(self, point: Point) -> str:
        """A sentence on runs that are in no mean; empty when there are none."""
        if not isinstance(point, Confirmed):
            return ""
        same = [p for p in self.points if isinstance(p, Confirmed) and p.original.trial is point.original.trial]
        worst = max(same, key=lambda p: p.failed + p.diverged)
        parts = [f"{n} {what}" for n, what in ((worst.diverged, "diverged"), (worst.failed, "failed")) if n]
        if not parts:
            return ""
        runs = len(worst.replicas) + worst.diverged + worst.failed
        at = f" at {worst.original.rung.images_seen:,} images" if worst is not point else ""
        return f" Of {_NAMES[arm(point)]}'s {runs} fresh runs, {' and '.join(parts)}{at}: not in its mean."


def arm(point: Point) -> str:
    """The point's arm: ddpm, rival or ambient."""
    return original(point).trial.arm


def original(point: Point) -> Candidate:
    """The search's own run of the point."""
    return point.original if isinstance(point, Confirmed) else point


def copying(point: Point, objectives: Objectives) -> Interval:
    """Memorization with its 95 % interval: over fresh seeds, or of one run's samples."""
    if isinstance(point, Confirmed):
        return point.of_memorization
    return _own(point, objectives.memorization)


def quality(point: Point, objectives: Objectives) -> Interval:
    """Fidelity with its 95 % interval: over fresh seeds, or of one run's samples where its score has one."""
    if isinstance(point, Confirmed):
        return point.of_fidelity
    return _own(point, objectives.fidelity)


def _own(candidate: Candidate, key: str) -> Interval:
    scores = candidate.rung.scores
    return Interval(scores[key], scores.get(f"{key}_low", scores[key]), scores.get(f"{key}_high", scores[key]))


def word(ours: Interval, theirs: Interval) -> str:
    """`less` or `more`; empty where the intervals overlap."""
    return "less" if ours.below(theirs) else "more" if theirs.below(ours) else ""


def stop(point: Point) -> str:
    """`stopped at 307,200 images`."""
    return f"stopped at {original(point).rung.images_seen:,} images"


def where(point: Point) -> str:
    """`sigma_tn 0.58, ratio 0.38, stopped at 307,200 images`."""
    return f"{original(point).trial.label}, {stop(point)}"


def percent(share: float) -> str:
    """`5 %`, `2.5 %`."""
    return f"{100 * share:g} %"
