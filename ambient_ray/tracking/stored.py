"""A study as MLflow has it: plain values, read by `read_study`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .recording.events import RungScores

ENDED = ("FINISHED", "FAILED", "KILLED")  # MLflow's words for a run that is over


@dataclass(frozen=True)
class StoredDataset:
    """The training data as they were logged. profile: counts such as n, n_train, n_heldout, and hashes."""

    name: str
    content_hash: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredTrial:
    """A trial, or a replica of one.

    state: running, finished, stopped, failed or killed; settings: with the types that the search gave them; rungs: in
    order, without checkpoints; started, ended: seconds since 1970, ended None while it runs; from_metrics: images seen
    of the rungs whose record could not be had, so that their scores come from the metric history and their facts from
    the run's tags.
    """

    run_id: str
    number: int
    arm: str
    state: str
    reason: str = ""
    replica_of: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    rungs: tuple[RungScores, ...] = ()
    started: float = 0.0
    ended: float | None = None
    from_metrics: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredStudy:
    """A study as MLflow has it.

    params: flat, dotted keys, parsed back to types; where a later command changed one, its newest value. status:
    MLflow's, RUNNING while the search runs; ended None then. note: the text of the run's page. trials: by number,
    replicas included. unread: why artifacts could not be had, a sentence each, in words of the store. artifact_uris:
    by run.
    """

    name: str
    tracking_uri: str
    run_id: str
    status: str
    started: float
    ended: float | None
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    dataset: StoredDataset | None = None
    trials: tuple[StoredTrial, ...] = ()
    unread: tuple[str, ...] = ()
    artifact_uris: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def running(self) -> bool:
        """Whether nobody has said that the search ended; a search that died without a word looks the same."""
        return self.status not in ENDED

    def trial(self, number: int) -> StoredTrial:
        """The trial of this number. Raises KeyError."""
        found = [trial for trial in self.trials if trial.number == number]
        if not found:
            raise KeyError(number)
        return found[0]
