"""What a suggestion costs in a study of 500 and of 5,000 trials, sampler by sampler.

    python benchmarks/ask.py [--world digits] [--samplers tpe gp ...] [--sizes 500 5000]

Milliseconds of processor time, the median over suggestions with one trial told in between; the first one, which reads
the whole study as after a restart, is printed beside it. One line of JSON at the end.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from replays import DATA, Place, world

from ambient_ray.simulation import Curves
from ambient_ray.tuning.records import RungRecord
from ambient_ray.tuning.samplers import choose_sampler, shipped_sampler
from ambient_ray.tuning.study import Study


def asks(place: Place, samplers: Sequence[str], sizes: Sequence[int]) -> dict[str, dict[int, float]]:
    """Print the milliseconds of an ask in studies of so many trials, two in three of them stopped."""
    curves, found = world(place), {}
    print(f"\nms of processor an ask (median, one trial told in between), {len(curves.space.parameters)} dimensions")
    for key in samplers:
        found[key] = {size: _ask(key, size, curves) for size in sizes}
        print(f"{key:<8}", "  ".join(f"{size:>6,} trials {ms:8.1f}" for size, ms in found[key].items()), flush=True)
    return found


class _Handover:
    """Random search fills a study at no cost, then another proposer is asked."""

    def __init__(self, proposer: Any) -> None:
        self.proposer = proposer

    def propose(self, *arguments: Any, **options: Any) -> Any:
        return self.proposer.propose(*arguments, **options)


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


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="digits")
    parser.add_argument("--samplers", nargs="+", default=["tpe", "gp", "nsga2", "nsga3", "qmc", "random"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[500, 5000])
    given = parser.parse_args()
    found = asks(Place(DATA, given.world), given.samplers, given.sizes)
    print(json.dumps({f"ask_{key}": value for key, value in found.items()}))


if __name__ == "__main__":
    main()
