"""Which files of a study's checkpoints nothing needs any more. Pure functions of its records.

Kept of a trial that has ended: all of its last checkpoint, and the weights and samples of its own front, which holds
whatever of it is on the study's front, now or ever: what another rung of the same trial dominates stays dominated.
The same of every DDPM stop, since each competes and the report compares them, and of every rung of a replica, since
any may stand for its configuration in the registry. Of a trial that may still be taken up nothing goes.
"""

from collections.abc import Mapping
from math import isfinite

import numpy as np

from ambient_ray.storage import MODEL, SAMPLES, TRAIN_STATE

from .pareto import pareto_front
from .records import Objectives, TrialRecord

#: What training goes on from; nothing else needs it, and it is four fifths of a checkpoint.
RESUME = frozenset({TRAIN_STATE})
EVERYTHING = frozenset({TRAIN_STATE, MODEL, SAMPLES})


def needless(trial: TrialRecord, objectives: Objectives) -> Mapping[int, frozenset[str]]:
    """The names of the files that may go, by rung; rungs of which all is needed are left out.

    Args:
        trial: as the study knows it.
        objectives: the names of the two scores.
    """
    if not trial.ended or len(trial.rungs) < 2:
        return {}
    front = own_front(trial, objectives)
    compared = trial.arm == "ddpm" or trial.replica_of is not None
    return {rung.rung: RESUME if compared or rung.rung in front else EVERYTHING for rung in trial.rungs[:-1]}


def own_front(trial: TrialRecord, objectives: Objectives) -> frozenset[int]:
    """The rungs of a trial that no other of its rungs dominates; equal ones are on it together."""
    points = [(rung.rung, objectives.of(rung.scores)) for rung in trial.rungs]
    finite = [(rung, point) for rung, point in points if all(map(isfinite, point))]
    if not finite:
        return frozenset()
    on_front = pareto_front(np.array([point for _, point in finite]))
    return frozenset(rung for (rung, _), keep in zip(finite, on_front, strict=True) if keep)
