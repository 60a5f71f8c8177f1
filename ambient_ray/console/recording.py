"""What a search tells MLflow: its start, each trial as it goes, and how it ended."""

import json
import sys
from pathlib import Path

from ambient_ray.reporting.verdict import Verdict, metrics
from ambient_ray.tracking import DatasetFacts, Registration, RungScores, StudyRecorder
from ambient_ray.tuning.records import Landscape, RungRecord, TrialRecord

from .preparation import Prepared


class Tracked:
    """Hands a search's events to MLflow's one writer."""

    def __init__(self, recorder: StudyRecorder) -> None:
        self._recorder = recorder

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        """A trial begins, or is taken up again."""
        self._recorder.trial_started(trial.number, trial.arm, trial.settings, parent=trial.replica_of)
        for rung in trial.rungs:  # a search that was killed may have died before MLflow heard of these
            self.rung_scored(trial, rung)

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        """A rung's scores, with its checkpoint for the pictures."""
        self._recorder.rung_scored(trial.number, _scores(rung))

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial is finished, stopped or failed."""
        self._recorder.trial_ended(trial.number, trial.state, trial.reason)


def start_recording(prepared: Prepared, recorder: StudyRecorder) -> None:
    """Begin the study in MLflow, or go on with it, and bring it up to date with the study's storage."""
    config, subsets, space = prepared.config, prepared.subsets, prepared.space
    facts = DatasetFacts(
        name=prepared.images.name or config.study,
        content_hash=prepared.images.content_hash,
        source=config.dataset.source,
        shape=prepared.images.shape,
        profile={
            "n": len(prepared.images), "n_train": len(subsets.train), "n_heldout": len(subsets.heldout),
            "num_classes": prepared.images.num_classes, "skipped": len(prepared.images.skipped),
            "duplicates_dropped": subsets.dropped, "train_hash": subsets.train.content_hash,
        },
    )  # fmt: skip
    recorder.start(
        config.study,
        config.model_dump(mode="json") | {"backbone": dict(prepared.settings.backbone)},
        dataset=facts,
        train_images=subsets.train.images,
        objectives=(prepared.objectives.fidelity, prepared.objectives.memorization),
        searched=[name for name in space.order if name not in space.conditions],
        conditional=[name for name in space.order if name in space.conditions],
    )
    for trial in prepared.study.trials():
        if trial.state != "running":
            recorder.replay(
                trial.number,
                trial.arm,
                trial.settings,
                [_scores(r) for r in trial.rungs],
                trial.state,
                trial.reason,
                parent=trial.replica_of,
            )


def record_conclusion(
    prepared: Prepared, recorder: StudyRecorder, land: Landscape, verdict: Verdict
) -> Registration | None:
    """Register the champion, log the confirmed means, the front and the sentence; what became of the registration."""
    registration = None
    for point in verdict.confirmed:
        original = point.original
        recorder.measured(original.trial.number, original.rung.images_seen, metrics(point, prepared.objectives))
    if verdict.weights is not None and verdict.evidence is not None:
        future = recorder.register_champion(
            verdict.weights.trial.number,
            _scores(verdict.weights.rung),
            verdict.evidence,
            model=prepared.config.model_name,
        )
        try:
            registration = future.result(timeout=120)
        except Exception as error:
            print(f"MLflow: the champion could not be registered: {error}", file=sys.stderr)
    recorder.log_text(verdict.sentence + "\n", "answer.txt")
    _record_reproducibility(prepared, recorder, land)
    trials = prepared.study.trials()
    counts = {
        "front_size": len(land.front),
        "candidates": len(land.candidates),
        "trials": sum(t.replica_of is None for t in trials),
        "replicas": sum(t.replica_of is not None for t in trials),
    }
    recorder.finish({"hypervolume": land.hypervolume, **counts}, note=verdict.sentence)
    return registration


def _record_reproducibility(prepared: Prepared, recorder: StudyRecorder, land: Landscape) -> None:
    """How alike the images of every two models are, of the front and DDPM's stops: numbers and a picture."""
    from ambient_ray.tracking.reproduced import reproducibility_figure, reproducibility_of_pairs

    front = land.front
    shown = [c for c in land.candidates if c in front or c.trial.arm == "ddpm"]
    names = {
        f"{c.trial.label} · trial {c.trial.number} · {c.rung.images_seen:,}": Path(c.rung.checkpoint) for c in shown
    }
    pairs = reproducibility_of_pairs(names)
    if not pairs:
        return
    rows = [
        {"a": a, "b": b, "rp": rp.value, "low": rp.low, "high": rp.high, "n": rp.n, "other_latents": null.value}
        for (a, b), (rp, null) in pairs.items()
    ]
    recorder.log_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "reproducibility.json")
    recorder.log_file(reproducibility_figure(pairs, prepared.config.folder / "reproducibility.png"))


def _scores(rung: RungRecord) -> RungScores:
    return RungScores(
        rung.rung, rung.images_seen, dict(rung.scores), dict(rung.facts), Path(rung.checkpoint), rung.seconds, rung.at
    )
