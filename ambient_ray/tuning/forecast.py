"""Where a stopped trial would have ended: its last scores, carried on as other trials of the study went on."""

import math
from bisect import insort
from collections.abc import Sequence

import numpy as np

from .records import Objectives, TrialRecord


class Forecast:
    """Learning curves of a study as steps from rung to rung, shared by all its trials.

    From one rung to the next, fidelity changes by the median factor and memorization by the median difference over the
    trials that were scored at both. Curves keep their order well from rung to rung (rank correlation of an early with
    the last fidelity on recorded curves: .7 to .98), which is all that a sampler needs.
    """

    def __init__(self) -> None:
        # By rung: the steps to the next one, sorted, so that a median costs the same however many there are.
        self._fidelity: dict[int, list[float]] = {}
        self._memorization: dict[int, list[float]] = {}
        self._learnt: dict[int, int] = {}  # trial -> rungs of it that were taken in

    def learn(self, trials: Sequence[TrialRecord], objectives: Objectives) -> None:
        """Take in what is known of all trials; what was taken in before may be given again."""
        for trial in trials:
            known = self._learnt.get(trial.number, 0)
            if len(trial.rungs) == known:
                continue
            self._learnt[trial.number] = len(trial.rungs)
            for index in range(max(known, 1), len(trial.rungs)):
                before, after = trial.rungs[index - 1], trial.rungs[index]
                (f0, m0), (f1, m1) = objectives.of(before.scores), objectives.of(after.scores)
                step = math.log(f1 / f0) if f0 > 0 and f1 > 0 else 0.0
                insort(self._fidelity.setdefault(before.rung, []), step)
                insort(self._memorization.setdefault(before.rung, []), m1 - m0)

    def of(
        self, trial: TrialRecord, objectives: Objectives, reference: tuple[float, float] | None
    ) -> tuple[float, float]:
        """The best of a trial's rungs, those that it was stopped before among them.

        Args:
            trial: with at least one scored rung.
            objectives: the names of the two scores.
            reference: bounds the volume by which rungs are compared; None: the last one it would have reached.
        """
        points = [objectives.of(rung.scores) for rung in trial.rungs]
        rung = trial.rungs[-1].rung
        while rung in self._fidelity:
            fidelity, memorization = points[-1]
            fidelity *= math.exp(_median(self._fidelity[rung]))
            memorization += _median(self._memorization[rung])
            points.append((fidelity, min(max(memorization, 0.0), 1.0)))
            rung += 1
        if reference is None:
            return points[-1]
        volumes = [max(reference[0] - f, 0.0) * max(reference[1] - m, 0.0) for f, m in points]
        return points[int(np.argmax(volumes))] if max(volumes) > 0 else points[-1]


def _median(ordered: Sequence[float]) -> float:
    """The middle of sorted values, or the mean of the two in the middle."""
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
