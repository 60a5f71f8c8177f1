"""The few models that a report looks at closely: which they are, and which run of each is shown."""

from __future__ import annotations

from dataclasses import dataclass

from ambient_ray.tuning.records import Candidate

from .recall import Recalled


@dataclass(frozen=True)
class Subject:
    """A model of the report.

    Attributes:
        name: what it is to the study: `champion`, `DDPM at matched fidelity`, ...; several, joined with commas.
        original: the search's own run of it.
        shown: the run whose images and scores stand for it: the typical one of its replicas where it was confirmed
            (`Confirmed.typical`), else the original.
    """

    name: str
    original: Candidate
    shown: Candidate

    @property
    def where(self) -> str:
        """`trial 3, sigma_tn 0.5, ratio 0.50, 307,200 images (trained again as trial 12, seed 1)`."""
        again = ""
        if self.shown.trial.replica_of is not None:
            again = f" (trained again as trial {self.shown.trial.number}, seed {self.shown.trial.settings['seed']})"
        label, images = self.original.trial.label, self.original.rung.images_seen
        return f"trial {self.original.trial.number}, {label}, {images:,} images{again}"


def subjects(study: Recalled) -> tuple[Subject, ...]:
    """The champion, DDPM and Ambient at matched fidelity, and the least copying model of use; each model once."""
    verdict, found = study.verdict, dict[tuple[int, int], tuple[list[str], Candidate]]()
    named = [
        ("champion", verdict.champion),
        ("DDPM at matched fidelity", verdict.ddpm),
        ("Ambient at matched fidelity", verdict.ambient),
        ("lowest memorization", least_copying(study)),
    ]
    for name, candidate in named:
        if candidate is not None:
            key = (candidate.trial.number, candidate.rung.rung)
            found.setdefault(key, ([], candidate))[0].append(name)
    return tuple(Subject(", ".join(names), c, _shown(study, c)) for names, c in found.values())


def least_copying(study: Recalled) -> Candidate | None:
    """The candidate of the front with the least memorization whose fidelity is still of use (`Study.reference`)."""
    limit = study.land.reference
    useful = [c for c in study.land.front if limit is None or c.fidelity <= limit[0]]
    return min(useful, key=lambda c: (c.memorization, c.fidelity), default=None)


def _shown(study: Recalled, candidate: Candidate) -> Candidate:
    typical = (c.typical for c in study.verdict.confirmed if c.original == candidate)
    return next(typical, candidate)
