"""Where a registered model comes from and how to make it again, as one tag of its version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

REPRODUCE = "reproduce"  # the tag


@dataclass(frozen=True)
class Origin:
    """Where a model comes from and how to make it again: plain values, kept as the tag `reproduce`.

    Attributes:
        study: its study.
        trial: number of the trial, a replica as a rule where it was confirmed; replica_of: the trial that it repeats.
        arm: ddpm | ambient | rival.
        settings: what the trial set.
        dataset: name, content_hash, shape (C, H, W) and counts (n, n_train, n_heldout, num_classes, train_hash).
        training: all settings of the training, resolved, its seeds among them.
        configuration: the search's, resolved.
        command: of the search; retrain: the command that trains this one model, empty where none does.
        commit: of the package, empty outside of a checkout.
        packages: versions that the training ran with.
    """

    study: str
    trial: int
    arm: str
    replica_of: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    retrain: str = ""
    commit: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    def tag(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> Origin | None:
        """What `tag` wrote, among a version's tags; None on versions of other makers."""
        try:
            return cls(**json.loads(tags[REPRODUCE]))
        except (KeyError, ValueError, TypeError):
            return None
