"""How much less training our search needs than its rivals, on recorded learning curves and a simulated clock.

    python benchmarks/search.py [--quick] [--seeds 30] [--world digits] [--jobs 2]    tables, and one line of JSON
    python benchmarks/search.py --mode nearest                                        on recorded configurations alone
    python benchmarks/search.py --compare lessons|policies|within|fewest|samplers|priors [--budgets 3 --workers 2]
                                                                       what the defaults were chosen by

A world is benchmarks/data/NAME.parquet (benchmarks/record.py), and every seed a landscape of its own that agrees with
what was recorded. The target H of a seed and of a number N of trials is what random search without stopping dominates
when N trials are trained; a search's figure is how many training images it needs to dominate as much, and a ratio is a
rival's images over ours, paired by seed (same landscape, noise and DDPM run). vs_random takes what random search
needed to get there, not all that its N trials cost (which is printed, too). What a better search saves grows with N,
so every table has several; the JSON's is the largest. Every search runs DDPM first, pays for it, and may not count
it: hypervolume is of the candidates that were searched, at all rungs, below one fixed reference point a world, by their
true quality: the curves without seed and sampling noise, so that a lucky draw is no progress ("seen" is with it).
Seeds in which random search finds nothing below the reference have nothing to reach; they are left out, and counted. A
rival that has not reached H within the largest N's budget counts with the budget, which is in its favour; ours is
given twice that before it is counted so. Ratios are averaged as geometric means, for which twice and half are even;
intervals are 95 %, bootstrapped over seeds. GP takes seconds a suggestion and MOASHA a time that grows with the square
of the trials, so their tables are shorter.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import rivals
from replays import (
    DATA,
    DELTA,
    PRIOR_WEIGHT,
    Figure,
    Job,
    Method,
    Place,
    Run,
    Simulations,
    geometric,
    mean,
    shown,
    world,
)

from ambient_ray.simulation import Curves
from ambient_ray.tuning.memory import Lesson

WORLDS = ("digits", "fashion")
#: Random search's trials, of which the largest number a table has bounds its searches' training.
BUDGETS = (16, 32, 64, 128, 256)
#: The budgets where every variant of ours is compared, where a suggestion takes seconds, and with --quick.
COMPARED, SLOW, BRIEF = (16, 32, 64, 128), (16, 32), (16, 32)
CROWDED_SEEDS = 4
#: Training of the searches with 256 workers, in whole trials.
CROWDED = 2048
OURS = Method("ours", prior_weight=PRIOR_WEIGHT)
RANDOM = Method("random, no stopping", "random", reduction_factor=None, even_start=0)
FULL = {
    "vs_random": RANDOM,
    "vs_tpe": Method("TPE, no stopping", "tpe", reduction_factor=None, even_start=0, whole_front=False),
    "vs_moasha": Method("Syne Tune's MOASHA", "moasha"),
    "vs_nsga2": Method("NSGA-II, no stopping", "nsga2", reduction_factor=None, even_start=0),
    "vs_gp": Method("GP, no stopping", "gp", reduction_factor=None, even_start=0),
}
FD, GAP, MEM = ("fd",), ("fd", "gap"), ("fd", "f_mem")


def variants(kind: str) -> list[Method]:
    """The methods of one comparison."""
    if kind == "lessons":
        told = [replace(OURS, name=f"stopped: {lesson}", lesson=lesson) for lesson in ("extrapolated", *OTHERS)]
        return [*told, replace(OURS, name="best rungs alone", whole_front=False)]
    if kind == "within":
        return [replace(OURS, name=within, within=within) for within in ("crowding", "epsilon_net")]
    if kind == "fewest":
        return [replace(OURS, name=f"{n} at least", fewest=n) for n in (3, 2, 4, 6)]
    if kind == "samplers":
        return [replace(OURS, name=key, sampler=key) for key in ("tpe", "gp", "nsga2", "nsga3", "qmc", "random")]
    if kind == "priors":
        return []  # they depend on the world: see `beliefs`
    rules = {
        "fd twice | both": (FD, FD, MEM, MEM),
        "fd | fd,gap | both": (FD, GAP, MEM, MEM),
        "fd,gap twice | both": (GAP, GAP, MEM, MEM),
        "fd | both": (FD, MEM, MEM, MEM),
        "fd thrice | both": (FD, FD, FD, MEM),
        "both everywhere": (MEM,) * 4,
    }
    rows = [(name, values, 2.0) for name, values in rules.items()]
    rows += [("fd twice | both", rules["fd twice | both"], factor) for factor in (1.5, 3.0)]
    return [replace(OURS, name=f"{n}, 1/{factor:g}", values=v, reduction_factor=factor) for n, v, factor in rows]


OTHERS = [lesson for lesson in get_args(Lesson) if lesson != "extrapolated"]


def beliefs(curves: Curves) -> list[Method]:
    """No belief, a good one (the best recorded configuration) and a bad one (the worst), each at the shipped weight."""
    fidelity = [np.nanmean(np.log(runs[:, -1, 0])) for runs in curves.recordings.values]
    chosen = {"best": int(np.nanargmin(fidelity)), "worst": int(np.nanargmax(fidelity))}
    found = [replace(OURS, name="no beliefs", prior_weight=0.0), replace(OURS, name="as shipped")]
    for name, index in chosen.items():
        settings = curves.recordings.settings[index]
        own = tuple((key, settings[key]) for key in curves.space.parameters)
        found.append(replace(OURS, name=f"the {name} recorded", prior_weight=0.5, beliefs=own))
    return found


def table(
    place: Place,
    methods: Sequence[Method],
    budgets: Sequence[int],
    seeds: int,
    simulations: Simulations,
    patience: float = 2.0,
    workers: int = 4,
) -> dict[Method, Figure]:
    """Print how methods compare with the first of them; for each, its images to the largest budget's H over ours.

    Args:
        place: the world.
        methods: ours first.
        budgets: of random search, in trials, growing.
        seeds: how many.
        simulations: runs them.
        patience: the first may take this many times the largest budget before it counts as having taken that.
        workers: trials at once.
    """
    curves = world(place)
    images = float(budgets[-1] * curves.rungs[-1])
    limits = {method: images * (patience if method is methods[0] else 1) for method in methods}
    everyone = list(dict.fromkeys([*methods, RANDOM]))
    jobs = [Job(place, m, seed, images, workers) for seed in range(seeds) for m in everyone]
    runs: dict[Method, list[Run]] = {method: [] for method in everyone}
    for job, result in zip(jobs, simulations(jobs), strict=True):
        runs[job.method].append(result)
    targets, ours = [r.true[-1] for r in runs[RANDOM]], runs[methods[0]]
    late = [s for s in range(seeds) if patience > 1 and not ours[s].to_reach(targets[s], images)[1]]
    for s, longer in zip(
        late, simulations([Job(place, methods[0], s, limits[methods[0]], workers) for s in late]), strict=True
    ):
        ours[s] = longer
    print(
        f"\n{place.name}, {place.mode}: {len(curves.recordings.settings)} recorded configurations;"
        f" reference {curves.reference(place.delta)[0]:.3g}; {seeds} seeds; trials of {curves.rungs[-1]:,} images"
    )
    goals = [Goal(trials, images * trials / budgets[-1], runs[RANDOM]) for trials in budgets]
    print("last columns: images to what N random trials dominate, over the first row's")
    print(f"{'search':<26}{'trials':>7}{'stopped':>9}  {'HV at budget':<22}{'seen':>6}{'reached':>9}   ", end="")
    print("".join(f"{f'N={goal.trials}':<21}" for goal in goals))
    ratios: dict[Method, Figure] = {}
    for method in methods:
        figures = [goal.ratio(runs[method], limits[method], runs[methods[0]], limits[methods[0]]) for goal in goals]
        ratios |= {method: figures[-1]} if figures[-1] else {}
        print(
            f"{method.name:<26}{np.mean([r.begun_by(images) for r in runs[method]]):>7.0f}"
            f"{np.mean([r.stopped / r.trials for r in runs[method]]):>9.0%}"
            f"  {shown(mean([r.at(images) for r in runs[method]]), 3):<22}"
            f"{np.mean([r.at(images, seen=True) for r in runs[method]]):>6.3f}"
            f"{goals[-1].reached(runs[method], limits[method]):>9.0%}   "
            + "".join(f"{shown(figure) if figure else '':<21}" for figure in figures),
            flush=True,
        )
    whole = [goal.whole(runs[methods[0]], limits[methods[0]]) for goal in goals]
    print(f"{'all N random trials':<82}" + "".join(f"{shown(figure) if figure else '':<21}" for figure in whole))
    print("seeds in which random search finds something: " + ", ".join(f"{len(g.told)} (N={g.trials})" for g in goals))
    speed = [60 * sum(r.trials for r in own) / sum(r.wall for r in own) for own in (runs[methods[0]], runs[RANDOM])]
    print(f"trials a minute and process: {speed[0]:,.0f} ({methods[0].name}), {speed[1]:,.0f} (random)")
    return ratios


class Goal:
    """What random search dominates after so many trials, seed by seed, and who reaches it when."""

    def __init__(self, trials: int, images: float, random: Sequence[Run]) -> None:
        self.trials, self._images = trials, images
        self._targets = [r.at(images) * r.box for r in random]
        self.told = [s for s, r in enumerate(random) if self._targets[s] > r.baseline * (1 + 1e-9)]

    def _needed(self, runs: Sequence[Run], limit: float) -> np.ndarray:
        return np.array([runs[s].to_reach(self._targets[s], limit)[0] for s in self.told])

    def ratio(self, runs: Sequence[Run], limit: float, first: Sequence[Run], first_limit: float) -> Figure | None:
        """Images needed, over the first's."""
        return geometric(self._needed(runs, limit) / self._needed(first, first_limit)) if self.told else None

    def whole(self, first: Sequence[Run], limit: float) -> Figure | None:
        """All that random search spent, over what the first needed."""
        return geometric(self._images / self._needed(first, limit)) if self.told else None

    def reached(self, runs: Sequence[Run], limit: float) -> float:
        """The share of seeds in which it was reached."""
        return float(np.mean([runs[s].to_reach(self._targets[s], limit)[1] for s in self.told])) if self.told else 0.0


def crowd(place: Place, seeds: int, simulations: Simulations) -> Figure:
    """Print 256 workers against 4 at equal training, the driver's measured time on the clock; the share busy."""
    images = float(CROWDED * world(place).rungs[-1])
    jobs = [Job(place, OURS, s, images, workers, True) for s in range(seeds) for workers in (4, 256)]
    runs = simulations(jobs)
    few, many = runs[::2], runs[1::2]
    gain = mean([b.at(images) - a.at(images) for a, b in zip(few, many, strict=True)])
    busy = mean([r.busy for r in many])
    print(f"\n{place.name}: 256 workers against 4, {images / 1e6:.0f} M images each, rungs of", end=" ")
    print(", ".join(f"{s:.0f}" for s in world(place).seconds), "s, the driver's own time on the clock")
    print(f"busy {shown(busy, 3)} (4 workers: {np.mean([r.busy for r in few]):.3f}),", end=" ")
    print(f"{np.mean([1e3 * r.driver / r.trials for r in many]):.1f} ms of the driver a trial")
    print(
        f"final HV {np.mean([r.at(images) for r in many]):.3f} against {np.mean([r.at(images) for r in few]):.3f},",
        end=" ",
    )
    print(f"difference {shown(gain, 4)}")
    return busy


def quality(place: Place) -> None:
    """Print how well the surrogate predicts a recorded configuration that it is not shown."""
    curves = world(place)
    print(f"\n{place.name}: left-out configurations predicted by the others (Spearman, R2), by images and score")
    for row in curves.quality():
        print(f"{row.images:>10,}  {row.score:<16}{row.spearman:>7.2f}{row.r2:>7.2f}")


def main() -> None:
    """Parse, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 seeds, without GP and 256 workers: under 60 s")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--world", choices=WORLDS, help="default: all that are recorded")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded curves")
    parser.add_argument("--delta", type=float, default=DELTA, help="reference: (1 + delta) x DDPM's best fidelity")
    parser.add_argument("--baselines", action="store_true", help="DDPM's own candidates count in the hypervolume, too")
    parser.add_argument("--mode", choices=("surrogate", "nearest"), default="surrogate")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", nargs="+", choices=[*FULL, "busy_256"], help="these figures alone")
    parser.add_argument("--compare", choices=("lessons", "policies", "within", "fewest", "samplers", "priors"))
    parser.add_argument("--budgets", type=int, nargs="+", default=COMPARED, help="trials, growing; of --compare")
    parser.add_argument("--workers", type=int, default=4, help="trials at once; of --compare")
    given = parser.parse_args()
    names = [given.world] if given.world else [w for w in WORLDS if (given.data / f"{w}.parquet").is_file()]
    if not names:
        raise SystemExit(f"no recorded curves in {given.data}; benchmarks/record.py makes them")
    places = [Place(given.data, name, given.mode, given.delta, given.baselines) for name in names]
    seeds = 4 if given.quick else given.seeds
    if given.quick:
        print("--quick: 4 seeds, so intervals are wide; no GP, no 256 workers")
    simulations = Simulations(given.jobs, places)
    if given.compare:
        for place in places:
            methods = beliefs(world(place)) if given.compare == "priors" else variants(given.compare)
            table(place, methods, given.budgets, seeds, simulations, 1.0, given.workers)  # our own variants, all alike
        return
    only = given.only or [key for key in (*FULL, "busy_256") if not given.quick or key not in {"vs_gp", "busy_256"}]
    print(json.dumps(_against_rivals(places, seeds, given.quick, only, simulations)))


def _against_rivals(
    places: Sequence[Place], seeds: int, quick: bool, only: Sequence[str], simulations: Simulations
) -> dict[str, float | None]:
    """The tables of these figures; of each ratio the geometric mean over the worlds."""
    chosen = {key: method for key, method in FULL.items() if key in only}
    if "vs_moasha" in chosen and not rivals.available():
        del chosen["vs_moasha"]
        print("Syne Tune is not installed (pip install --no-deps syne-tune): vs_moasha is left out")
    slow, quadratic = chosen.pop("vs_gp", None), chosen.pop("vs_moasha", None)
    figures: dict[str, list[float]] = {key: [] for key in [*FULL, "busy_256"]}

    def compare(place: Place, methods: dict[str, Method], budgets: Sequence[int], seeds: int) -> None:
        ratios = table(place, [OURS, *methods.values()], budgets, seeds, simulations)
        for key, method in methods.items():
            figures[key] += [ratios[method][0]] if method in ratios and place.mode == "surrogate" else []

    for place in places:
        quality(place)
        if chosen:
            compare(place, chosen, BRIEF if quick else BUDGETS, seeds)
        if quadratic:
            compare(place, {"vs_moasha": quadratic}, BRIEF if quick else COMPARED, seeds)
        if slow:
            compare(place, {"vs_gp": slow}, SLOW, seeds)
        if "busy_256" in only:
            figures["busy_256"].append(crowd(place, min(seeds, CROWDED_SEEDS), simulations)[0])
    return {
        key: round(float(np.exp(np.mean(np.log(values)))), 3) if values else None for key, values in figures.items()
    }


if __name__ == "__main__":
    main()
