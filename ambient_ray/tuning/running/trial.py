"""One trial inside Ray Tune: a driver of no CPUs that has a slot train it and passes on what the slot tells."""

from typing import Any

from ambient_ray.storage import locate

from .causes import root_cause
from .slots import TrialEnd


def drive_trial(config: dict[str, Any]) -> None:
    """Ray Tune's trainable: has one configuration trained in a slot and returns when the trial has ended itself.

    Args:
        config: what `StudySearcher.suggest` gives: number, arm, replica_of, settings, slot (a `TrialEnd`), and
            `kept` (checkpoints that the study knows of), and `shared`, the same for all trials (training: the study's
            settings as a dict, data, judge, needed, uid, folder, patience, and study, its name).
    """
    from ray import tune

    shared, slot = config["shared"], config["slot"]
    assert isinstance(slot, TrialEnd)
    job = {key: config[key] for key in ("number", "arm", "settings", "replica_of", "kept")}
    job |= {key: shared[key] for key in ("training", "data", "judge", "needed")}
    job["study"] = shared.get("study", "")
    job |= {"patience": shared["patience"]} if "patience" in shared else {}
    job["folder"] = str(locate(shared["folder"]) / f"{config['number']:04d}-{shared['uid']}")
    try:
        for message in slot.run(job):
            tune.report(dict(message))
    except Exception as error:  # whatever became of the slot ends this trial, with its reason, and not the search
        tune.report({"state": "failed", "reason": root_cause(error), "cause": "host died"})
