"""The pictures of a report: the study's figures, drawn anew, and what MLflow keeps of its models' samples."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ambient_ray.tracking.study_files import StudyFiles
from ambient_ray.tuning.records import Candidate

from ..figures.interactive import IMAGES, shown_first
from ..figures.study_figures import StudyView, draw_study
from ..figures.study_view import key_of
from .recall import Recalled
from .subjects import Subject, subjects

KINDS = ("samples", "nearest", "partial")  # folders among a trial's artifacts
_THUMBNAIL = 176  # pixels
_AT_ONCE = 16  # files fetched at a time


@dataclass(frozen=True)
class Pictures:
    """PNGs by name.

    figures: the study's, by file name, front.html being text; models: of each subject by its name, samples, nearest
    and partial; missing: what MLflow did not give, a text each.
    """

    figures: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    models: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    reproducibility: bytes | None = field(default=None, repr=False)
    missing: tuple[str, ...] = ()


def gather(study: Recalled, files: StudyFiles) -> Pictures:
    """Draw the figures and fetch the images; what cannot be had is named in `missing`."""
    runs = {trial.number: trial.run_id for trial in study.stored.trials}
    models: dict[str, dict[str, bytes]] = {}
    missing = []
    for subject in subjects(study):
        models[subject.name] = _images(subject, runs, files)
        if "samples" not in models[subject.name]:
            missing.append(f"the samples of {subject.name} ({subject.where})")
    pairs = files.fetch(study.stored.run_id, "reproducibility.png") if not study.stored.running else None
    view = _view(study)
    reachable = any("samples" in kept for kept in models.values())  # else hundreds of requests would fail as well
    small = _thumbnails(shown_first(view)[:IMAGES], runs, files) if reachable else {}
    with tempfile.TemporaryDirectory(prefix="ambient-report-figures-") as folder:
        drawn = draw_study(view, Path(folder), thumbnail=lambda candidate: small.get(key_of(candidate)))
        figures = {name: path.read_bytes() for name, path in drawn.items()}
    return Pictures(figures, models, None if pairs is None else pairs.read_bytes(), tuple(missing))


def _view(study: Recalled) -> StudyView:
    champion = study.verdict.champion
    return StudyView(
        study.stored.name, study.trials, study.objectives, study.land.reference, study.rungs, study.searched,
        champion=None if champion is None else key_of(champion), running=study.stored.running,
    )  # fmt: skip


def _thumbnails(
    candidates: Sequence[Candidate], runs: Mapping[int, str], files: StudyFiles
) -> dict[tuple[int, int], bytes]:
    """A small picture of each candidate that has one, by trial and rung."""

    def one(candidate: Candidate) -> bytes | None:
        found = files.fetch(runs[candidate.trial.number], _artifact("samples", candidate))
        return None if found is None else _small(found)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        drawn = zip(candidates, pool.map(one, candidates), strict=True)
        return {key_of(candidate): picture for candidate, picture in drawn if picture is not None}


def _images(subject: Subject, runs: Mapping[int, str], files: StudyFiles) -> dict[str, bytes]:
    run_id = runs[subject.shown.trial.number]
    found = {kind: files.fetch(run_id, _artifact(kind, subject.shown)) for kind in KINDS}
    return {kind: path.read_bytes() for kind, path in found.items() if path is not None}


def _artifact(kind: str, candidate: Candidate) -> str:
    return f"{kind}/{candidate.rung.images_seen:010d}.png"


def _small(grid: Path) -> bytes:
    """The upper left quarter of a grid of samples, small enough to be shown two hundred times."""
    from PIL import Image

    with Image.open(grid) as picture:
        part = picture.convert("RGB").crop((0, 0, picture.width // 2, picture.height // 2))
    part.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stored = io.BytesIO()
    part.save(stored, "WEBP", quality=70)
    return stored.getvalue()
