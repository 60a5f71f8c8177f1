"""What a trial costs beyond its training, in warm slots and with a Ray Train run of its own, by phase.

    python benchmarks/overhead.py [--quick]

Real trials through Ray Tune, Ray Train, the judge and the study, two at once on two cores: the default search's network
and data, few training steps. A trial's seconds beyond its training are its share of the slots' time less what its
rungs took to train, sample and score. `seconds_beyond_training` counts the slots' own start, shared by 21 trials, as
many as the default search trains with its confirmation; `warm_trial` does not. The alternative, measured first in the
same run, starts the slot anew for every trial, which is what a Train run for each trial is. The last line printed is
one JSON object.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from ambient_ray.console.command import load
from ambient_ray.console.configuration import validate
from ambient_ray.console.preparation import cores, network_imports, prepare
from ambient_ray.console.trials import shared_data
from ambient_ray.tuning.budget import Budget
from ambient_ray.tuning.running.run import SearchPlan, run_search, start_ray
from ambient_ray.tuning.running.searcher import StudySearcher


class Clock:
    """Notes when the driver hears of what: a listener, and a wrapper around the searcher for the workers' own clock."""

    def __init__(self):
        self.started, self.ended, self.training, self.worker, self.slot = {}, {}, {}, {}, {}

    def trial_started(self, trial, resumed):
        self.started[trial.number] = time.time()
        self.training[trial.number] = 0.0

    def trial_told(self, trial, told):
        pass

    def rung_scored(self, trial, rung):
        self.training[trial.number] += rung.seconds

    def trial_survived(self, trial, fault):
        pass

    def trial_noted(self, trial, text):
        print(f"trial {trial.number} {text}")

    def trial_ended(self, trial):
        self.ended[trial.number] = time.time()

    def watch(self):
        clock, suggest, result = self, StudySearcher.suggest, StudySearcher.on_trial_result

        def suggested(self, trial_id):
            config = suggest(self, trial_id)
            if isinstance(config, dict):
                clock.slot[config["number"]] = config["slot"].slot
            return config

        def heard(self, trial_id, message):
            if "began" in message:
                clock.worker[self._numbers[trial_id]] = (message["began"], message["ended"])
            result(self, trial_id, message)

        StudySearcher.suggest, StudySearcher.on_trial_result = suggested, heard

    def phases(self, trials):
        """Medians over trials that followed another in their slot: seconds of each phase."""
        rows = []
        for number in trials:
            before = [self.ended[n] for n in trials if self.slot[n] == self.slot[number] and n < number]
            if before:
                began, ended = self.worker[number]
                rows.append(
                    {
                        "the slot is free until Tune begins the next trial": self.started[number] - max(before),
                        "begun until the worker has it": began - self.started[number],
                        "network, optimizer, checkpoint, judge": ended - began - self.training[number],
                        "ended until the study has heard": self.ended[number] - ended,
                    }
                )
        return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="under 60 s on a quiet machine")
    options = parser.parse_args()
    cold, warm = (2, 6) if options.quick else (6, 21)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"output_dir={folder}", "trial.rungs=[2560,5120]", "trial.reduction_factor=null"]
        prepared = prepare(validate(load("search", [*overrides, "evaluation.samples=100"])))
        start_ray("local", cores())
        shared, study, clock = shared_data(prepared, print), prepared.study, Clock()
        clock.watch()
        wait_until_idle()
        at_once = 2

        def search(until, slots):
            plan = SearchPlan(
                prepared.space, Budget(until), tuple(prepared.config.trial.rungs), prepared.policy, prepared.shape,
                str(Path(folder) / "trials"), max_concurrent=at_once,
                imports=network_imports(prepared.settings.backbone),
            )  # fmt: skip
            slots = slots or plan.slots()
            before, began = set(clock.ended), time.time()
            run_search(study, plan, slots, shared, (clock,))
            return slots, sorted(set(clock.ended) - before), began

        alone = []
        for _ in range(cold // at_once):  # one trial a slot
            slots, trials, began = search(len(study.trials()) + at_once, None)
            slots.close()
            alone += [time.time() - began - clock.training[n] for n in trials]
        slots, trials, began = search(len(study.trials()) + warm, None)
        took = max(clock.ended[n] for n in trials) - began
        slots.close()
    beyond = (at_once * took - sum(clock.training[n] for n in trials)) / warm
    phases = clock.phases(trials)
    print(f"{cold} trials with a Train run of their own: {statistics.median(alone):.2f} s each beyond their training")
    print(
        f"{warm} trials in {at_once} warm slots: {beyond:.2f} s each beyond their training, the slots' start included"
    )
    for name, seconds in phases.items():
        print(f"  {seconds:6.2f} s  {name}")
    print(
        json.dumps(
            {
                "seconds_beyond_training": round(beyond, 2),
                "warm_trial": round(sum(phases.values()), 2),
                "own_train_run": round(statistics.median(alone), 2),
                "vs_own_train_run": round(statistics.median(alone) / beyond, 2),
            }
        )
    )


def wait_until_idle(seconds=2.0):
    """Ray starts a process for every core when it starts: they are not the trials' cost."""
    time.sleep(seconds)


if __name__ == "__main__":
    main()
