"""How much less training our search needs than its rivals, on recorded learning curves and a simulated clock.

    python benchmarks/search.py [--quick] [--seeds 30] [--world digits] [--jobs 2]    tables, and one line of JSON
    python benchmarks/search.py --compare lessons|policies|within|samplers|priors     what the defaults were chosen by
    python benchmarks/search.py --ask                                                 milliseconds a suggestion

A world is benchmarks/data/NAME.parquet (benchmarks/record.py), and every seed a landscape of its own that agrees with
what was recorded. The target H of a seed is what random search without stopping dominates in the end, when its N
trials are trained; a search's figure is how many training images it needs to dominate as much, and a ratio is a
rival's images over ours, paired by seed (same landscape, noise and DDPM run). That is the stricter of two readings
for vs_random: what random search needed, not all that it spent (which is printed, too). Every search runs DDPM first,
pays for it, and may not count it: hypervolume is of the candidates that were searched, at all rungs, below one fixed
reference point a world, by their true quality: the curves without seed and sampling noise, so that a lucky draw is no
progress ("by seen" is with it). Seeds in which random search finds nothing below the reference have nothing to reach;
they are counted and left out. A rival that has not reached H within random's budget counts with the budget, which is
in its favour; ours is given twice that before it is counted so. Ratios are averaged as geometric means, for which
twice and half are even; intervals are 95 %, bootstrapped over seeds.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

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
from ambient_ray.tuning.proposer import Lesson
from ambient_ray.tuning.records import RungRecord
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.study import Study

WORLDS = ("digits", "fashion")
#: Random search's trials: ten dimensions want some six each; two are well covered by half as many.
TRIALS = {"digits": 64, "fashion": 32}
OURS = Method("ours", prior_weight=PRIOR_WEIGHT)
RANDOM = Method("random, no stopping", "random", reduction_factor=None)
FULL = {
    "vs_random": RANDOM,
    "vs_tpe": Method("TPE, no stopping", "tpe", reduction_factor=None),
    "vs_moasha": Method("Syne Tune's MOASHA", "moasha"),
    "vs_nsga2": Method("NSGA-II, no stopping", "nsga2", reduction_factor=None),
    "vs_gp": Method("GP, no stopping", "gp", reduction_factor=None),
}
FD, GAP, MEM = ("fd",), ("fd", "gap"), ("fd", "f_mem")


def variants(kind: str) -> list[Method]:
    """The methods of one comparison."""
    if kind == "lessons":
        stopping = [replace(OURS, name=f"stopped: {lesson}", lesson=lesson) for lesson in LESSONS]
        return [*stopping, *(replace(m, name=f"{m.name}, no beliefs", prior_weight=0.0) for m in stopping)]
    if kind == "within":
        return [replace(OURS, name=within, within=within) for within in ("crowding", "epsilon_net")]
    if kind == "samplers":
        return [replace(OURS, name=key, sampler=key) for key in ("tpe", "gp", "nsga2", "nsga3", "qmc", "random")]
    if kind == "priors":
        return []  # they depend on the world: see `beliefs`
    rules = {
        "fd,fd | both": (FD, FD, MEM, MEM),
        "gap,gap | both": (GAP, GAP, MEM, MEM),
        "fd,gap | both": (FD, GAP, MEM, MEM),
    }
    rules |= {"fd,fd,fd | both": (FD, FD, FD, MEM), "both everywhere": (MEM,) * 4}
    return [
        replace(OURS, name=f"{name}, 1/{factor}", values=values, reduction_factor=factor)
        for name, values in rules.items()
        for factor in (2.0, 3.0, 4.0)
    ]


LESSONS = get_args(Lesson)


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


def budget(place: Place) -> float:
    """Random search's training images."""
    return float(TRIALS[place.name] * world(place).rungs[-1])


def table(place: Place, methods: Sequence[Method], seeds: int, simulations: Simulations) -> dict[Method, Figure]:
    """Print how methods compare with the first of them; for each, its images to H over the first one's."""
    images = budget(place)
    limits = {method: images * (2 if method is methods[0] else 1) for method in methods}
    everyone = list(dict.fromkeys([*methods, RANDOM]))
    jobs = [Job(place, m, seed, limits.get(m, images)) for seed in range(seeds) for m in everyone]
    runs: dict[Method, list[Run]] = {method: [] for method in everyone}
    for job, result in zip(jobs, simulations(jobs), strict=True):
        runs[job.method].append(result)
    curves = world(place)
    print(
        f"\n{place.name}, {place.mode}: {len(curves.recordings.settings)} recorded configurations;"
        f" reference {curves.reference(place.delta)[0]:.3g}; {seeds} seeds; H: random search after"
        f" {TRIALS[place.name]} trials of {curves.rungs[-1]:,} images"
    )
    targets = [r.true[-1] for r in runs[RANDOM]]
    told = [seed for seed in range(seeds) if targets[seed] > runs[RANDOM][seed].baseline * (1 + 1e-9)]
    print(f"random search finds something in {len(told)} of {seeds} seeds; the others have nothing to reach")
    line = "{:<26}{:>7}{:>9}  {:<22}{:>6}{:>10}{:>9}  {:<22}{:>10}{:>10}".format
    print(
        line(
            "search",
            "trials",
            "stopped",
            "HV at budget",
            "seen",
            "M to H",
            "reached",
            "images over first",
            "by totals",
            "by seen",
        )
    )
    ratios: dict[Method, Figure] = {}
    first = [runs[methods[0]][s].to_reach(targets[s], limits[methods[0]]) for s in told]
    for method in methods:
        own = [runs[method][s].to_reach(targets[s], limits[method]) for s in told]
        if told:
            ratios[method] = geometric([a / b for (a, _), (b, _) in zip(own, first, strict=True)])
        print(
            line(
                method.name,
                f"{np.mean([r.begun_by(images) for r in runs[method]]):.0f}",
                f"{np.mean([r.stopped / r.trials for r in runs[method]]):.0%}",
                shown(mean([r.at(images) for r in runs[method]]), 3),
                f"{np.mean([r.at(images, seen=True) for r in runs[method]]):.3f}",
                f"{np.mean([a for a, _ in own]) / 1e6:.2f}" if told else "",
                f"{np.mean([there for _, there in own]):.0%}" if told else "",
                shown(ratios[method]) if told else "",
                f"{sum(a for a, _ in own) / sum(a for a, _ in first):.2f}" if told else "",
                f"{_by_seen(runs, method, methods[0], limits):.2f}",
            )
        )
    if told:
        print(
            f"all of random's budget over the first's images to H: {shown(geometric([images / a for a, _ in first]))}"
        )
    speed = [60 * sum(r.trials for r in own) / sum(r.wall for r in own) for own in (runs[methods[0]], runs[RANDOM])]
    print(f"trials a minute and process: {speed[0]:,.0f} ({methods[0].name}), {speed[1]:,.0f} (random)")
    return ratios


def _by_seen(runs: dict[Method, list[Run]], method: Method, first: Method, limits: dict[Method, float]) -> float:
    """The ratio of images by what the searches have seen, luck included."""
    pairs = [
        (own.to_reach(r.seen[-1], limits[method], seen=True)[0], ours.to_reach(r.seen[-1], limits[first], seen=True)[0])
        for own, ours, r in zip(runs[method], runs[first], runs[RANDOM], strict=True)
    ]
    return float(np.exp(np.mean([np.log(a / b) for a, b in pairs])))


def crowd(place: Place, seeds: int, simulations: Simulations) -> Figure:
    """Print 256 workers against 4 at equal training, the driver's measured time on the clock; the share busy."""
    images = (8 if len(world(place).space.parameters) > 4 else 16) * budget(place)
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


def asks(place: Place, sizes: Sequence[int]) -> dict[str, dict[int, float]]:
    """Print the milliseconds of an ask in studies of so many trials, two in three of them stopped."""
    curves, found = world(place), {}
    print(f"\nms of processor an ask (median, one trial told in between), {len(curves.space.parameters)} dimensions")
    for key in ("tpe", "gp", "nsga2", "nsga3", "qmc", "random"):
        found[key] = {size: _ask(key, size, curves) for size in sizes}
        print(f"{key:<8}", "  ".join(f"{size:>6,} trials {ms:8.1f}" for size, ms in found[key].items()), flush=True)
    return found


class _Handover:
    """Random search fills a study at no cost, then another proposer is asked."""

    def __init__(self, proposer: Any) -> None:
        self.proposer = proposer

    def propose(self, *arguments: Any, **options: Any) -> Any:
        return self.proposer.propose(*arguments, **options)

    def accepted(self, *arguments: Any) -> None:
        self.proposer.accepted(*arguments)


def _ask(key: str, size: int, curves: Curves) -> float:
    handover = _Handover(choose_sampler(shipped_sampler("random"), curves.space).proposer(seed=0))
    study = Study("asked", "memory:", curves.objectives, handover)
    for number in range(size):
        _train(study, curves, study.ask(curves.space), stopped=number % 3 > 0)
    handover.proposer = choose_sampler(shipped_sampler(key), curves.space).proposer(seed=0)
    took: list[float] = []
    for number in range(22):
        if sum(took) > 20 and number > 4:  # a slow sampler: few will do
            break
        began = time.process_time()
        trial = study.ask(curves.space)
        took.append(time.process_time() - began)
        _train(study, curves, trial, stopped=number % 3 > 0)
    return 1e3 * float(np.median(took[2:]))  # the first one reads the whole study, as after a restart


def _train(study: Study, curves: Curves, trial: Any, stopped: bool) -> None:
    scores = curves.draw(trial.settings, 0)[: 1 if stopped else None]
    for rung, scored in enumerate(scores):
        study.record_rung(trial.number, RungRecord(rung, curves.rungs[rung], scored, {}, ""))
    left = 1 - curves.rungs[len(scores) - 1] / curves.rungs[-1]
    study.finish(trial.number, "stopped" if stopped else "finished", rungs_left=left)


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
    parser.add_argument("--compare", choices=("lessons", "policies", "within", "samplers", "priors"))
    parser.add_argument("--ask", action="store_true")
    given = parser.parse_args()
    names = [given.world] if given.world else [w for w in WORLDS if (given.data / f"{w}.parquet").is_file()]
    if not names:
        raise SystemExit(f"no recorded curves in {given.data}; benchmarks/record.py makes them")
    places = [Place(given.data, name, given.mode, given.delta, given.baselines) for name in names]
    seeds = 4 if given.quick else given.seeds
    if given.quick:
        print("--quick: 4 seeds, so intervals are wide; no GP, no 256 workers")
    if given.ask:
        print(json.dumps({f"ask_{k}": v for k, v in asks(places[0], (500, 5000)).items()}))
        return
    everywhere = places if given.compare or given.quick else [*places, *(replace(p, mode="nearest") for p in places)]
    simulations = Simulations(given.jobs, everywhere)
    if given.compare:
        for place in places:
            methods = beliefs(world(place)) if given.compare == "priors" else variants(given.compare)
            table(place, methods, seeds, simulations)
        return
    print(json.dumps(_against_rivals(places, everywhere, seeds, given.quick, simulations)))


def _against_rivals(
    places: Sequence[Place], everywhere: Sequence[Place], seeds: int, quick: bool, simulations: Simulations
) -> dict[str, float | None]:
    """All tables; of each ratio the geometric mean over the worlds."""
    chosen = dict(FULL)
    if quick:
        del chosen["vs_gp"]
    if not rivals.available():
        del chosen["vs_moasha"]
        print("Syne Tune is not installed (pip install --no-deps syne-tune): vs_moasha is left out")
    plain = [replace(OURS, name="ours, no beliefs", prior_weight=0.0)] if PRIOR_WEIGHT else []
    figures: dict[str, list[float]] = {key: [] for key in [*FULL, "busy_256"]}
    for place in everywhere:
        if place.mode == "surrogate":
            quality(place)
        # The check on recorded configurations alone does without the slowest rival.
        shown_here = [m for key, m in chosen.items() if place.mode == "surrogate" or key != "vs_gp"]
        ratios = table(place, [OURS, *plain, *shown_here], seeds, simulations)
        if place in places:
            for key, method in chosen.items():
                figures[key] += [ratios[method][0]] if method in ratios else []
    for place in [] if quick else places:
        figures["busy_256"].append(crowd(place, min(seeds, 10), simulations)[0])
    return {
        key: round(float(np.exp(np.mean(np.log(values)))), 3) if values else None for key, values in figures.items()
    }


if __name__ == "__main__":
    main()
