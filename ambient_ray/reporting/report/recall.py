"""From a study as MLflow has it to what the search itself knew: its trials, its landscape, its verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ambient_ray.errors import UserError
from ambient_ray.tracking.labels import OBJECTIVES, SEARCHED
from ambient_ray.tracking.stored import StoredStudy, StoredTrial
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.records import Landscape, Objectives, RungRecord, State, TrialRecord, settled_reference

from ..verdict import Verdict, conclude

_NOT_SEARCHED = frozenset({"seed", "rungs"})


class StudyIncompleteError(UserError):
    """A study's run lacks what its report needs."""


@dataclass(frozen=True)
class Recalled:
    """A study, rebuilt.

    Attributes:
        stored: as it was read.
        objectives: the names of the two scores.
        rule: the champion rule.
        delta: fidelity worse than (1 + delta) times DDPM's best is of no use.
        rungs: training lengths, in images.
        searched: the parameters that the search varies.
        trials: all of them by number, replicas included; without the rungs in `unscored`.
        land: the search's candidates.
        verdict: the answer.
        unscored: (trial, images seen) of rungs without a finite objective; they are no candidates.
    """

    stored: StoredStudy
    objectives: Objectives
    rule: Rule
    delta: float
    rungs: tuple[int, ...]
    searched: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    land: Landscape
    verdict: Verdict
    unscored: tuple[tuple[int, int], ...] = ()

    @property
    def own(self) -> tuple[TrialRecord, ...]:
        """The search's own trials."""
        return tuple(t for t in self.trials if t.replica_of is None)

    @property
    def replicas(self) -> tuple[TrialRecord, ...]:
        """Trials that repeat one of the search's on a fresh training seed."""
        return tuple(t for t in self.trials if t.replica_of is not None)


def recall(stored: StoredStudy) -> Recalled:
    """The study as the search that wrote it knew it: the same candidates, reference and answer.

    A trial that was killed counts as running, as in the search's own storage: it is taken up again.

    Raises:
        StudyIncompleteError: a setting is missing or is not what a search writes.
    """
    objectives = _objectives(stored)
    try:
        rule = Rule(
            stored.params["confirm.rule"],
            float(stored.params["evaluation.tolerance"]),
            stored.params.get("confirm.max_memorization"),
        )
        delta = float(stored.params["evaluation.delta"])
        rungs = tuple(int(rung) for rung in stored.params["trial.rungs"])
    except (KeyError, TypeError, ValueError) as error:
        raise StudyIncompleteError(
            f"the run of study '{stored.name}' was not written by ambient_ray's search: its parameters lack or garble "
            f"{error}"
        ) from error
    trials = tuple(_trial(trial, objectives) for trial in stored.trials)
    unscored = tuple(
        (t.number, r.images_seen) for t in stored.trials for r in t.rungs if not _finite(r.scores, objectives)
    )
    land = Landscape.of(trials, objectives, settled_reference(trials, objectives, delta))
    verdict = conclude(land, trials, objectives, rule)
    return Recalled(
        stored, objectives, rule, delta, rungs, _searched(stored, trials), trials, land, verdict, unscored
    )  # fmt: skip


def _objectives(stored: StoredStudy) -> Objectives:
    """From the study's tag; of a study without one, as the search derives the names from its settings."""
    if tag := stored.tags.get(OBJECTIVES):
        try:
            fidelity, memorization = json.loads(tag)
        except (ValueError, TypeError) as error:
            raise StudyIncompleteError(
                f"the run of study '{stored.name}' has the tag {OBJECTIVES}={tag}; expected two names as JSON"
            ) from error
        return Objectives(str(fidelity), str(memorization))
    wanted = str(stored.params.get("evaluation.fidelity", "fd"))
    extractors = [r.facts["extractor"] for t in stored.trials for r in t.rungs if "extractor" in r.facts]
    if extractors:
        from ambient_ray.evaluation import fidelity_key

        key = fidelity_key(str(extractors[0]))
        wanted = {"fd": key, "fd_inf": f"{key}_inf", "mi_fd": f"mi_{key}"}.get(wanted, wanted)
    return Objectives(wanted, str(stored.params.get("evaluation.memorization", "f_mem")))


def _searched(stored: StoredStudy, trials: Sequence[TrialRecord]) -> tuple[str, ...]:
    """From the study's tag; else the settings in which its own trials differ, or that only some of them have."""
    if tag := stored.tags.get(SEARCHED):
        return tuple(str(name) for name in json.loads(tag))
    own = [trial.settings for trial in trials if trial.replica_of is None]
    keys = dict.fromkeys(key for settings in own for key in settings if key not in _NOT_SEARCHED)
    return tuple(
        key for key in keys if len({json.dumps(settings.get(key, "unset"), default=str) for settings in own}) > 1
    )


def _trial(trial: StoredTrial, objectives: Objectives) -> TrialRecord:
    state = "running" if trial.state == "killed" else trial.state
    rungs = tuple(
        RungRecord(r.rung, r.images_seen, r.scores, r.facts, "", r.seconds, r.at)
        for r in trial.rungs
        if _finite(r.scores, objectives)
    )
    return TrialRecord(
        trial.number, trial.arm, trial.settings, cast(State, state), rungs, trial.reason, trial.replica_of
    )


def _finite(scores: Mapping[str, Any], objectives: Objectives) -> bool:
    return all(math.isfinite(scores.get(name, math.nan)) for name in (objectives.fidelity, objectives.memorization))
