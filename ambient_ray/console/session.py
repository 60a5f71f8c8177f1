"""One search from start to end: Ray, the trials, the recording, the closing words."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ambient_ray.tracking import DatasetFacts, RungScores, StudyRecorder
from ambient_ray.tuning.records import Landscape, RungRecord, TrialRecord
from ambient_ray.tuning.run import SearchPlan, run_search, start_ray
from ambient_ray.tuning.space import Space

from .closing import draw_front, print_closing
from .configuration import Configuration
from .estimate import print_estimate
from .preparation import Prepared, bank_for, cores, prepare
from .progress import Progress
from .verdict import Verdict, decide

_SHORT = 500_000  # training images; the shortest preset for larger images has twice as many


class _Tracked:
    """Hands a search's events to MLflow's one writer."""

    def __init__(self, recorder: StudyRecorder) -> None:
        self._recorder = recorder

    def trial_started(self, trial: TrialRecord, resumed: bool) -> None:
        self._recorder.trial_started(trial.number, trial.arm, trial.settings)
        for rung in trial.rungs:  # a search that was killed may have died before MLflow heard of these
            self.rung_scored(trial, rung)

    def rung_scored(self, trial: TrialRecord, rung: RungRecord) -> None:
        scores = _scores(rung)
        self._recorder.rung_scored(
            trial.number, scores.rung, scores.images_seen, scores.scores, scores.facts, scores.checkpoint
        )

    def trial_ended(self, trial: TrialRecord) -> None:
        self._recorder.trial_ended(trial.number, trial.state, trial.reason)


def conduct(config: Configuration, space: Space | None = None) -> int:
    """Prepare, announce, and search, or only estimate where `dry_run` is set; returns the exit code.

    Args:
        config: validated.
        space: what is searched, instead of the one that `config.search_space` names.
    """
    prepared = prepare(config, space)
    announce(prepared)
    if config.dry_run:
        print_estimate(prepared)
        return 0
    return search(prepared)


def terminal() -> Console:
    """The terminal, or a wide page where the output goes into a file."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def announce(prepared: Prepared) -> None:
    """Say what is searched, on what, and what it costs at the most."""
    config, shape = prepared.config, prepared.shape
    say = Console(soft_wrap=True, highlight=False).print
    for name in prepared.images.skipped:
        say(f"skipped, broken: {name}", markup=False)
    if prepared.images.skipped:
        say(f"{len(prepared.images.skipped)} broken files skipped (dataset.skip_broken=true)")
    for group in prepared.subsets.duplicates:
        say(f"exact duplicates, only the first is used: {', '.join(group)}", markup=False)
    say(prepared.subsets.describe(), markup=False)
    done = [t for t in prepared.study.trials() if t.state != "running"]
    todo = max(0, config.trials - len(done))
    say(
        f"study {config.study}: {todo} of {config.trials} trials to run over {prepared.space.name}"
        f" ({', '.join(prepared.space.parameters)}), rungs at {', '.join(f'{r:,}' for r in config.trial.rungs)} images"
        f"{f', {len(done)} kept from before' if done else ''}",
        markup=False,
    )  # fmt: skip
    if prepared.images.shape[-1] > 8 and config.trial.rungs[-1] < _SHORT:
        say(
            f"note: {config.trial.rungs[-1]:,} training images suit 8x8 digits; larger images want more before anything"
            " is copied, see trial.rungs and the presets"
        )
    say(
        f"objectives {prepared.objectives.fidelity} and {prepared.objectives.memorization}, both minimised;"
        f" a trial is {shape.workers} worker(s) of {shape.cpus:g} CPUs and {shape.gpus:g} GPUs",
        markup=False,
    )  # fmt: skip


def search(prepared: Prepared) -> int:
    """Run the search to its end and report. Returns the exit code: 0, or 130 after Ctrl-C."""
    config, console, recorder = prepared.config, terminal(), StudyRecorder(prepared.store)
    finished, version = False, None
    try:
        _start_recording(prepared, recorder)
        finished = _run_trials(prepared, recorder, console)
        land = prepared.study.landscape()
        verdict = decide(land, prepared.objectives, config.evaluation.tolerance)
        figure = draw_front(land, prepared.objectives, verdict.champion, config.folder / "front.png")
        if finished:
            version = _conclude(prepared, recorder, land, verdict, figure)
    finally:
        for problem in recorder.close(state="finished" if finished else "killed"):
            console.print(f"MLflow: {problem}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    print_closing(
        console, land, prepared.objectives, verdict, tolerance=config.evaluation.tolerance,
        tracking_uri=prepared.store.uri, model=config.model_name, version=version,
        figure=figure, output_dir=config.output_dir,
    )  # fmt: skip
    if not finished:
        console.print("Stopped. All scored rungs are kept; the same command goes on:", highlight=False)
        console.print(f"  {_command()}", soft_wrap=True, highlight=False, markup=False)
    return 0 if finished else 130


def _run_trials(prepared: Prepared, recorder: StudyRecorder, console: Console) -> bool:
    """Run until the study is full; False after Ctrl-C."""
    import ray

    config = prepared.config
    progress = Progress(prepared.study, config.trials, tuple(config.trial.rungs), prepared.objectives, console)
    try:
        with progress:
            progress.say("starting Ray")
            start_ray(config.address, cores(), _data_bytes(prepared))
            real = len(prepared.subsets.train) + len(prepared.subsets.heldout)
            progress.say(f"{prepared.extractor.name} features of {real:,} real images")
            plan = _plan(prepared, _shared(prepared))
            run_search(prepared.study, plan, (_Tracked(recorder), progress), progress.watch)
    except KeyboardInterrupt:
        return False
    finally:
        ray.shutdown()
    return True


def _data_bytes(prepared: Prepared) -> int:
    """Roughly what `_shared` puts into the object store: images, noise bank, features of up to 2,048 float32."""
    noises = 1 if prepared.settings.noise_draws == "inf" else int(prepared.settings.noise_draws)
    per_image = int(prepared.images.images[0].nbytes)
    return 2 * len(prepared.images) * (per_image + 8192) + 4 * noises * len(prepared.subsets.train) * per_image


def _shared(prepared: Prepared) -> dict[str, Any]:
    """What every worker reads: large arrays go into the object store once a node."""
    import ray

    from ambient_ray.evaluation import EvaluationSettings, References
    from ambient_ray.training import TrainingData

    subsets, reference = prepared.subsets, prepared.config.evaluation.reference
    references = References.build(
        prepared.extractor,
        subsets.train,
        subsets.heldout,
        full=prepared.images if reference == "full" else None,
        settings=EvaluationSettings(reference=reference, mirror=prepared.settings.flip),
    )
    data = TrainingData(
        train=subsets.train, heldout=subsets.heldout, noise_bank=bank_for(prepared),
        references=references, extractor=prepared.extractor,
    )  # fmt: skip
    return {
        "data": ray.put(data),
        "training": prepared.settings.to_dict(),
    }


def _plan(prepared: Prepared, shared: Mapping[str, Any]) -> SearchPlan:
    config = prepared.config
    return SearchPlan(
        space=prepared.space,
        trials=config.trials,
        rungs=tuple(config.trial.rungs),
        policy=prepared.policy,
        shape=prepared.shape,
        shared=shared,
        folder=str(config.folder / "trials"),
        max_concurrent=config.trial.max_concurrent,
        max_failures=config.trial.max_failures,
    )


def _start_recording(prepared: Prepared, recorder: StudyRecorder) -> None:
    config, subsets = prepared.config, prepared.subsets
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
            )


def _conclude(
    prepared: Prepared, recorder: StudyRecorder, land: Landscape, verdict: Verdict, figure: Path | None
) -> int | None:
    """Register the champion, log the front and the sentence; returns the model's version."""
    version = None
    if verdict.champion is not None:
        future = recorder.register_champion(
            verdict.champion.trial.number,
            _scores(verdict.champion.rung),
            _evidence(verdict),
            model=prepared.config.model_name,
        )
        try:
            version = future.result(timeout=120)
        except Exception as error:
            print(f"MLflow: the champion could not be registered: {error}", file=sys.stderr)
    if figure is not None:
        recorder.log_file(figure)
    recorder.log_text(verdict.sentence + "\n", "answer.txt")
    counts = {"front_size": len(land.front), "candidates": len(land.candidates)}
    recorder.finish(
        {"hypervolume": land.hypervolume, "trials": len(prepared.study.trials()), **counts}, note=verdict.sentence
    )
    return version


def _evidence(verdict: Verdict) -> dict[str, Any]:
    return {"sentence": verdict.sentence, "separated_from_ddpm": verdict.separated, "confirmed": False}


def _scores(rung: RungRecord) -> RungScores:
    return RungScores(rung.rung, rung.images_seen, dict(rung.scores), dict(rung.facts), Path(rung.checkpoint))


def _command() -> str:
    import shlex

    return "python -m ambient_ray.search " + shlex.join(sys.argv[1:])
