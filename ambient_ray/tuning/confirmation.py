"""Confirmation: the best candidates trained again on fresh seeds, and what that says of them.

The search's own run of a candidate is the best of many and so looks better than the configuration is; retraining
moves the fidelity three times more than resampling (SCIENCE.md 5). Hence replicas on seeds that the search never saw,
and intervals over them. Pure functions of the study's trials: asked again, they say what is left to do.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median_low

from ambient_ray.interval import Interval, over_seeds

from .champion import Rule
from .records import Candidate, Landscape, Objectives, TrialRecord

DIVERGED = 2.0  # times the median fidelity of the same configuration at the same rung


@dataclass(frozen=True)
class Replica:
    """A replica to begin: `study.replicate(number, seed, rungs)`.

    Attributes:
        number: the trial whose configuration is trained again.
        seed: its fresh training seed.
        rungs: training length at each rung, in images.
    """

    number: int
    seed: int
    rungs: tuple[int, ...]


@dataclass(frozen=True)
class Confirmed:
    """A configuration at a rung, over fresh training seeds.

    Attributes:
        original: the same rung of the search's own run: which configuration this is. Its scores are no evidence.
        replicas: the runs that count, by seed; never empty.
        of_fidelity: mean and 95 % Student t interval over the replicas; no interval with one replica.
        of_memorization: likewise, cut to [0, 1].
        planned: this is the rung that the configuration was to be confirmed at (every rung of DDPM is).
        failed: replicas that ended without a score at this rung; not in the means.
        diverged: replicas with more than twice the median fidelity of their sisters; not in the means. A run whose
            loss becomes NaN fails and counts in no mean; a run that collapses into finite numbers is the same accident
            (one of six DDPM seeds on digits ends at 96 instead of 4.5), so it is treated, and reported, the same. With
            two replicas the better one is the measure.
    """

    original: Candidate
    replicas: tuple[Candidate, ...]
    of_fidelity: Interval
    of_memorization: Interval
    planned: bool = True
    failed: int = 0
    diverged: int = 0

    @property
    def fidelity(self) -> float:
        """Mean fidelity."""
        return self.of_fidelity.mean

    @property
    def memorization(self) -> float:
        """Mean memorization."""
        return self.of_memorization.mean

    @property
    def arm(self) -> str:
        """The configuration's arm."""
        return self.original.trial.arm

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds that count."""
        return tuple(int(c.trial.settings["seed"]) for c in self.replicas)

    @property
    def typical(self) -> Candidate:
        """The replica nearest to the mean of both objectives, each in units of its spread: not the luckiest.

        Its weights are the ones to register: what the means say holds for them better than for any other's.
        """
        pairs = ((c.fidelity - self.fidelity, c.memorization - self.memorization) for c in self.replicas)
        gaps = list(pairs)
        scale = [math.sqrt(math.fsum(g[i] ** 2 for g in gaps)) or 1.0 for i in (0, 1)]
        far = [math.hypot(f / scale[0], m / scale[1]) for f, m in gaps]
        return self.replicas[far.index(min(far))]


def candidates_to_confirm(land: Landscape, rule: Rule, top: int) -> list[Candidate]:
    """The search's candidates that deserve fresh seeds: one rung each of different configurations.

    Args:
        land: the search's candidates; replicas are not among them.
        rule: the champion rule. The `top` first choices under it, whichever their arm; where it admits fewer, the next
            nearest to being admitted fill up.
        top: how many; DDPM's own stop under the rule and DDPM's best fidelity, which sets the limit, come on top of
            these unless they are among them. 0: none at all.

    Returns:
        The first choice first; at most `top` and DDPM's.
    """
    if top <= 0 or not land.candidates:
        return []
    ddpm = [c for c in land.candidates if c.trial.arm == "ddpm"]
    best = min(ddpm or land.candidates, key=lambda c: (c.fidelity, c.memorization))
    useful = land.reference[0] if land.reference is not None else None
    chosen: dict[str, Candidate] = {}
    for candidate in _ordered(rule, land.candidates, best.fidelity, useful):
        if len(chosen) < top:
            chosen.setdefault(_configuration(candidate.trial), candidate)
    if ddpm:
        for candidate in (_ordered(rule, ddpm, best.fidelity, useful)[0], best):
            chosen.setdefault(_configuration(candidate.trial), candidate)
    return list(chosen.values())


def replicas_to_begin(
    trials: Sequence[TrialRecord], candidates: Sequence[Candidate], seeds: int, search_seed: int
) -> list[Replica]:
    """Which replicas are still to be begun; empty when all have been.

    A replica that was begun counts, whatever became of it: one that failed is a result and is not repeated. Seeds are
    the same for all candidates (common random numbers), and never the search's own.

    Args:
        trials: all of the study's, replicas included.
        candidates: what is to be confirmed. Each is trained up to its rung; DDPM to its last one, since its best
            fidelity sets the limit and its early stops compete.
        seeds: replicas of each.
        search_seed: the training seed of the search.

    Returns:
        In the order to begin them: every candidate's first, then every candidate's second, ...; of these the longest
        first, so that few wait for one that began last.
    """
    todo: list[tuple[int, int, int, Replica]] = []
    for place, candidate in enumerate(candidates):
        trial = candidate.trial
        rungs = tuple(
            r.images_seen for r in trial.rungs if trial.arm == "ddpm" or r.images_seen <= candidate.rung.images_seen
        )
        begun = [t for t in trials if t.replica_of == trial.number]
        reach = {int(t.settings["seed"]) for t in begun if _planned(t) >= rungs[-1]}
        taken = {int(t.settings["seed"]) for t in begun} | {search_seed, trial.settings.get("seed", search_seed)}
        fresh = (seed for seed in count(search_seed + 1) if seed not in taken)
        for turn in range(len(reach), seeds):
            todo.append((turn, -rungs[-1], place, Replica(trial.number, next(fresh), rungs)))
    return [replica for *_, replica in sorted(todo, key=lambda item: item[:3])]


def confirmed(trials: Sequence[TrialRecord], objectives: Objectives) -> list[Confirmed]:
    """Every configuration with replicas, at every rung that one of them was scored at.

    For each: the mean over training seeds and its 95 % Student t interval, for both objectives, memorization cut to
    [0, 1] and distances at 0. With one seed there is no interval. It is never narrower than sampling leaves it: where
    the runs' own scores carry intervals (`NAME_low`, `NAME_high`), their mean half-width over sqrt(n) is the least.

    Args:
        trials: all of the study's; running replicas count with the rungs that they have.
        objectives: the names of the two scores.

    Returns:
        By trial number and rung.
    """
    found = []
    for trial in trials:
        replicas = [t for t in trials if t.replica_of == trial.number]
        for rung in trial.rungs:
            scored = [c for t in replicas for c in _scored(t, rung.rung, objectives)]
            if not scored:
                continue
            middle = median_low(c.fidelity for c in scored)
            kept = [c for c in scored if middle <= 0 or c.fidelity <= DIVERGED * middle]
            here = {c.trial.number for c in scored}
            planned = [t for t in replicas if _planned(t) >= rung.images_seen]
            found.append(
                Confirmed(
                    original=Candidate(trial, rung, *objectives.of(rung.scores)),
                    replicas=tuple(sorted(kept, key=lambda c: int(c.trial.settings["seed"]))),
                    of_fidelity=_interval(kept, objectives.fidelity, _range_of(objectives.fidelity)),
                    of_memorization=_interval(kept, objectives.memorization, (0.0, 1.0)),
                    planned=trial.arm == "ddpm" or any(_planned(t) == rung.images_seen for t in planned),
                    failed=sum(t.state != "running" and t.number not in here for t in planned),
                    diverged=len(scored) - len(kept),
                )
            )
    return found


def failed_replicas(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Replicas that ended before their last rung, to be reported with their reasons."""
    return [
        t
        for t in trials
        if t.replica_of is not None and t.state != "running" and (not t.rungs or t.rungs[-1].images_seen < _planned(t))
    ]


def _scored(trial: TrialRecord, rung: int, objectives: Objectives) -> list[Candidate]:
    found = [r for r in trial.rungs if r.rung == rung]
    points = [(r, objectives.of(r.scores)) for r in found]
    return [Candidate(trial, r, *point) for r, point in points if all(map(math.isfinite, point))]


def _interval(
    replicas: Sequence[Candidate], name: str, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """Mean and interval of one score; what sampling leaves open is averaged over the runs that know it."""
    scores = [c.rung.scores for c in replicas]
    below = [s[name] - s[f"{name}_low"] for s in scores if f"{name}_low" in s]
    above = [s[f"{name}_high"] - s[name] for s in scores if f"{name}_high" in s]
    halves = [math.fsum(gaps) / len(gaps) / math.sqrt(len(scores)) if gaps else 0.0 for gaps in (below, above)]
    error = [half if math.isfinite(half) else 0.0 for half in halves]
    return over_seeds([s[name] for s in scores], error=(error[0], error[1]), bounds=bounds)


def _range_of(fidelity: str) -> tuple[float, float]:
    """A distance is not below 0; a KID, which is unbiased, may be."""
    return (0.0, math.inf) if fidelity.startswith(("fd", "fid")) else (-math.inf, math.inf)


def _planned(replica: TrialRecord) -> int:
    """How far a replica was to be trained, in images."""
    return int(replica.settings["rungs"][-1])


def _configuration(trial: TrialRecord) -> str:
    """What makes two trials the same configuration: all settings but the seed and the length."""
    own = {key: value for key, value in trial.settings.items() if key not in {"seed", "rungs"}}
    return json.dumps(own, sort_keys=True, default=str)


def _ordered(rule: Rule, candidates: Sequence[Candidate], best: float, useful: float | None) -> list[Candidate]:
    admitted, others = rule.order(candidates, best, useful)
    return [*admitted, *others]
