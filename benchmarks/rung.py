"""What the judge and the searcher add to a rung, in milliseconds, in a study that has many trials already.

    python benchmarks/rung.py [--quick]

Measured: the worker's question to the judge (a real Ray actor, there and back) and what the searcher does with the
reported rung in the driver (storage and display's front included). The last line is one JSON object.
"""

import argparse
import io
import json
import statistics
import tempfile
import time

import numpy as np
import ray
from rich.console import Console

from ambient_ray.console.progress import Progress
from ambient_ray.tuning.judge import RungPolicy, start_judge
from ambient_ray.tuning.records import Objectives, RungRecord
from ambient_ray.tuning.running.run import start_ray
from ambient_ray.tuning.running.searcher import StudySearcher
from ambient_ray.tuning.space import Range, Space
from ambient_ray.tuning.study import Study

OBJECTIVES = Objectives("fd", "f_mem")
SPACE = Space("ambient", {"sigma_tn": Range(0.1, 4.0, True), "noisy_ratio": Range(0.1, 0.9)}, {}, ({"sigma_tn": 0.0},))
RUNGS = (1, 2, 3, 4)


def rung(index, rng):
    scores = {"fd": float(rng.random()), "f_mem": float(rng.random()), "gap": float(rng.random())}
    scores |= {f"other_{i}": float(rng.random()) for i in range(40)}  # a rung reports about this many
    return RungRecord(index, RUNGS[index], scores, {"extractor": "classifier", "n": 500}, f"rung-{index}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    trials = 50 if parser.parse_args().quick else 200
    rng = np.random.default_rng(0)
    policy = RungPolicy(len(RUNGS), 2.0, [["fd", "gap"], ["fd", "gap"], ["fd", "f_mem"], ["fd", "f_mem"]])
    with tempfile.TemporaryDirectory() as folder:
        study = Study("bench", f"journal:{folder}/study.journal", OBJECTIVES)
        progress = Progress(study, trials, RUNGS, OBJECTIVES, Console(file=io.StringIO()))
        searcher = StudySearcher(study, SPACE, {}, RUNGS, listeners=(progress,), slots=("one",))
        start_ray("local", 1)
        judge = start_judge(study, policy)
        ask, tell = [], []
        for number in range(trials):
            config = searcher.suggest(f"t{number}")
            for index in range(len(RUNGS)):
                record = rung(index, rng)
                began = time.perf_counter()
                ray.get(judge.decide.remote(number, config["arm"], index, dict(record.scores)))
                asked = time.perf_counter()
                searcher.on_trial_result(f"t{number}", {"rungs": [record.to_dict()]})
                ask.append(asked - began)
                tell.append(time.perf_counter() - asked)
            searcher.on_trial_result(f"t{number}", {"state": "finished"})
            searcher.on_trial_complete(f"t{number}")
        ray.shutdown()
    last = len(ask) // 4  # the last quarter: the fullest study
    judge_ms, searcher_ms = (1000 * statistics.median(values[-last:]) for values in (ask, tell))
    print(
        f"{trials} trials: judge {judge_ms:.1f} ms, searcher {searcher_ms:.1f} ms a rung (median of the last quarter)"
    )
    print(json.dumps({"judge_and_searcher_ms": round(judge_ms + searcher_ms, 2)}))


if __name__ == "__main__":
    main()
