"""What a search tells MLflow: its start, each trial as it goes, and how it ended."""

import json
import sys
from pathlib import Path

from ambient_ray.redaction import without_secrets
from ambient_ray.reporting.registered import Chosen, models_to_register
from ambient_ray.reporting.verdict import Verdict, metrics
from ambient_ray.storage import SAMPLES, locate
from ambient_ray.tracking import DatasetFacts, FoundModel, RungScores, StudyRecorder
from ambient_ray.tracking.checkpoint import CheckpointUnreadableError, local_checkpoint
from ambient_ray.tuning.listener import Listener
from ambient_ray.tuning.records import Landscape, RungRecord, TrialRecord

from .closing import Registered
from .preparation import Prepared
from .refreshing import images_spent
from .retrain import command, retrain_command

_WAIT, _WAIT_EACH = 120.0, 30.0  # seconds: for what is queued before the models, and for each of them


class Tracked(Listener):
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

    def trial_noted(self, trial: TrialRecord, text: str) -> None:
        """What a trial waits for, or got over."""
        self._recorder.trial_noted(trial.number, text)

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
        without_secrets(config.model_dump(mode="json")) | {"backbone": dict(prepared.settings.backbone)},
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


def record_conclusion(prepared: Prepared, recorder: StudyRecorder, land: Landscape, verdict: Verdict) -> Registered:
    """Register the front and the champion, log the confirmed means, the front and the sentence.

    Returns what became of the models; where the registry refused some, that is part of it, and the search goes on.
    """
    for point in verdict.confirmed:
        original = point.original
        recorder.measured(original.trial.number, original.rung.images_seen, metrics(point, prepared.objectives))
    registered = _register(prepared, recorder, land, verdict)
    recorder.log_text(verdict.sentence + "\n", "answer.txt")
    trials = prepared.study.trials()
    counts = {
        "front_size": len(land.front),
        "candidates": len(land.candidates),
        "trials": sum(t.replica_of is None for t in trials),
        "replicas": sum(t.replica_of is not None for t in trials),
    }
    metrics_of_all = {"hypervolume": land.hypervolume, **counts}
    recorder.finish(metrics_of_all, note=verdict.sentence, images_seen=images_spent(trials))
    return registered


def _register(prepared: Prepared, recorder: StudyRecorder, land: Landscape, verdict: Verdict) -> Registered:
    """Hand the models to the recorder's thread and wait for what becomes of them."""
    config = prepared.config
    chosen, left_out = models_to_register(
        land, verdict, prepared.objectives, prepared.rule, config.tracking.register_front
    )
    if not chosen:
        return Registered(None)
    future = recorder.register_models(
        [_found_model(prepared, one) for one in chosen], model=config.model_name, command=command(sys.argv)
    )
    try:
        return Registered(future.result(timeout=_WAIT + _WAIT_EACH * len(chosen)), left_out)
    except TimeoutError:
        future.cancel()  # what becomes of it is among the recorder's problems then
        return Registered(None, left_out, "the registry has not answered yet")
    except Exception as error:
        return Registered(None, left_out, " ".join(str(error).split()).rstrip("."))


def _found_model(prepared: Prepared, chosen: Chosen) -> FoundModel:
    weights = chosen.weights
    front = ("on it" if chosen.useful else "on it, fidelity of no use") if chosen.on_front else "not on it"
    retrain = retrain_command(
        sys.argv, prepared.config.study, prepared.settings, weights.trial, weights.rung.images_seen
    )
    return FoundModel(
        weights.trial.number, _scores(weights.rung), chosen.evidence, chosen.aliases, {"front": front}, retrain
    )


def record_reproducibility(prepared: Prepared, recorder: StudyRecorder) -> None:
    """How alike the images of every two models are, of the front and DDPM's stops: numbers and a picture."""
    land = prepared.study.landscape()
    from ambient_ray.tracking.drawing.reproduced import reproducibility_figure, reproducibility_of_pairs

    front = land.front
    shown = [c for c in land.candidates if c in front or c.trial.arm == "ddpm"]
    names = {
        f"{c.trial.label} · trial {c.trial.number} · {c.rung.images_seen:,}": folder
        for c in shown
        if (folder := _samples_of(c.rung)) is not None
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
        rung.rung, rung.images_seen, dict(rung.scores), dict(rung.facts), locate(rung.checkpoint), rung.seconds,
        rung.at, rung.digest,
    )  # fmt: skip


def _samples_of(rung: RungRecord) -> Path | None:
    """The checkpoint's samples on this machine; None where they cannot be had, which its rung's pictures told."""
    try:
        return local_checkpoint(locate(rung.checkpoint), (SAMPLES,), rung.digest)
    except CheckpointUnreadableError:
        return None
