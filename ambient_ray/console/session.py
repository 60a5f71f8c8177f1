"""One search from start to end: Ray, the trials, the recording, the closing words."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ambient_ray.redaction import redacted
from ambient_ray.reporting.figures.front import draw_front
from ambient_ray.reporting.figures.study_figures import StudyView
from ambient_ray.reporting.figures.study_view import key_of
from ambient_ray.reporting.verdict import conclude
from ambient_ray.tracking import SPOOL, StudyRecorder
from ambient_ray.tuning.budget import Budget
from ambient_ray.tuning.confirmation import candidates_to_confirm, failed_replicas, replicas_to_begin
from ambient_ray.tuning.emm import memorized_sizes
from ambient_ray.tuning.lease import StudyTakenError
from ambient_ray.tuning.running.guard import open_to_everybody
from ambient_ray.tuning.running.run import SearchPlan, joins, run_search, start_ray, trials_ahead
from ambient_ray.tuning.space import Space

from .checks import augmentation
from .closing import print_closing
from .collecting import Collector
from .configuration import Configuration
from .estimate import print_estimate, replicas_planned
from .exits import terminate_as_interrupt
from .images import publish_subset
from .operations import Operations
from .preparation import Prepared, bank_for, cores, network_imports, prepare
from .progress import Beats, Progress
from .recording import Tracked, record_conclusion, record_reproducibility, start_recording
from .refreshing import LAST, LiveFigures
from .retrain import command

if TYPE_CHECKING:
    from ambient_ray.tuning.running.searcher import Listener

_SHORT = 500_000  # training images; the shortest preset for larger images has twice as many


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
    try:
        return search(prepared)
    finally:
        if prepared.lease is not None:
            prepared.lease.release()


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
    own = [t for t in prepared.study.trials() if t.replica_of is None]
    done = sum(t.ended for t in own)
    budget = [f"{max(0, config.trials - done)} of {config.trials} trials to run"] if config.trials is not None else []
    budget += [f"{config.hours:g} hours"] if config.hours is not None else []
    budget += [f"{config.gpu_hours:g} GPU hours"] if config.gpu_hours is not None else []
    varied = ", ".join(prepared.space.parameters)
    say(
        f"study {config.study}: {' or '.join(budget)} over {prepared.space.name} ({varied}),"
        f" rungs at {', '.join(f'{r:,}' for r in config.trial.rungs)} images"
        f"{f', {done} kept from before' if done else ''}",
        markup=False,
    )
    if config.confirm.top and len(prepared.space.parameters) > 0:
        say(
            f"then the {config.confirm.top} best and DDPM again on {config.confirm.seeds} fresh training seeds each"
            " (confirm.top=0 leaves that out)"
        )
    if prepared.images.shape[-1] > 8 and config.trial.rungs[-1] < _SHORT:
        say(
            f"note: {config.trial.rungs[-1]:,} training images suit 8x8 digits; larger images want more before anything"
            " is copied, see trial.rungs and the presets"
        )
    say(
        f"objectives {prepared.objectives.fidelity} and {prepared.objectives.memorization}, both minimised;"
        f" a trial is {shape.workers}{f' to {shape.most_workers}' if shape.elastic else ''} worker(s)"
        f" of {shape.cpus:g} CPUs and {shape.gpus:g} GPUs"
        f"{f', {prepared.pack} small trials packed to each' if prepared.pack > 1 else ''}",
        markup=False,
    )  # fmt: skip


def search(prepared: Prepared) -> int:
    """Run the search to its end, confirm its best and report. Returns the exit code: 0, or 130 when it was stopped.

    Raises:
        StudyTakenError: another process has taken the study over.
    """
    recorder = StudyRecorder(prepared.store, spool=prepared.config.folder / SPOOL)
    with Operations(prepared, recorder) as operations:
        return operations.ended(_search(prepared, recorder, operations))


def _search(prepared: Prepared, recorder: StudyRecorder, operations: Operations) -> int:
    config, console = prepared.config, terminal()
    publish_subset(config, prepared.images, prepared.subsets)
    finished, registration = False, None
    collector = Collector(prepared.objectives, recorder.afterwards) if config.keep_checkpoints == "front" else None
    try:
        figures = LiveFigures(recorder, lambda: _view(prepared))
        finished = _run_trials(prepared, recorder, figures, operations, console, collector)
        if prepared.lease is not None and prepared.lease.lost:
            raise StudyTakenError(prepared.lease.lost)
        operations.phase("records the answer")
        land, trials = prepared.study.landscape(), prepared.study.trials()
        verdict = conclude(land, trials, prepared.objectives, prepared.rule)
        shown = None if verdict.champion is None else key_of(verdict.champion)
        figure = draw_front(replace(_view(prepared), champion=shown), config.folder / "front.png")
        if finished:
            figures.draw(verdict.champion, only=LAST)
            registration = record_conclusion(prepared, recorder, land, verdict)
    finally:
        for problem in recorder.close(state="finished" if finished else "killed"):
            console.print(redacted(f"MLflow: {problem}"), style="yellow", soft_wrap=True, highlight=False, markup=False)
        for line in _collected_lines(collector):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    print_closing(
        console, land, prepared.objectives, verdict,
        tolerance=config.evaluation.tolerance, delta=config.evaluation.delta,
        tracking_uri=prepared.store.uri, model=config.model_name, registration=registration,
        figure=figure, output_dir=config.output_dir, failed=failed_replicas(trials),
    )  # fmt: skip
    if "n_train" in prepared.space.parameters:
        for size in memorized_sizes(trials):
            console.print(f"EMM, {size}", highlight=False, markup=False, soft_wrap=True)
    if not finished:
        console.print("Stopped. All scored rungs are kept; the same command goes on:", highlight=False)
        console.print(f"  {command(sys.argv)}", soft_wrap=True, highlight=False, markup=False)
    return 0 if finished else 130


def _view(prepared: Prepared) -> StudyView:
    """What the study is at the moment, for its pictures."""
    study, config = prepared.study, prepared.config
    return StudyView(
        config.study,
        study.trials(),
        prepared.objectives,
        study.reference,
        tuple(config.trial.rungs),
        tuple(prepared.space.parameters),
    )


def _collected_lines(collector: Collector | None) -> list[str]:
    """What was deleted of the checkpoints, and what could not be."""
    if collector is None:
        return []
    done = collector.close()
    lines = [f"checkpoints: {problem}" for problem in done.problems]
    if done.files:
        size = f"{done.bytes / 1e9:.2g} GB" if done.bytes >= 1e8 else f"{done.bytes / 1e6:.2g} MB"
        lines.append(
            f"checkpoints: {done.files} files of {done.checkpoints} that nothing needs were deleted, {size}"
            " (keep_checkpoints=all keeps them)"
        )
    return lines


def _run_trials(
    prepared: Prepared,
    recorder: StudyRecorder,
    figures: LiveFigures,
    operations: Operations,
    console: Console,
    collector: Collector | None,
) -> bool:
    """Search until the budget is spent, then confirm; False after Ctrl-C or SIGTERM."""
    import ray

    config, study = prepared.config, prepared.study
    progress = Progress(study, config.trials, tuple(config.trial.rungs), prepared.objectives, console)
    say = operations.said(progress.say)

    def watch(beats: Beats) -> None:
        progress.watch(operations.overhearing(beats))

    try:
        recorder.tell_state(say)
        study.tell_waits(say)
        with progress:
            say("starting Ray")
            operations.phase("starts Ray")
            start_ray(config.address, cores(), _data_bytes(prepared))
            if warning := open_to_everybody():
                say(warning)
            terminate_as_interrupt()
            operations.ray_runs()
            plan = _plan(prepared)
            listeners: list[Listener] = [Tracked(recorder), figures, operations, progress]
            listeners += [collector] if collector is not None else []  # behind what records: deleted when that is done
            slots, at_once = plan.slots(), trials_ahead(study, plan, say)[1]
            slots.grow(at_once)  # their processes start while the rest is made ready
            start_recording(prepared, recorder)
            if collector is not None:  # an earlier life may have died before it came to this
                for trial in (t for t in study.trials() if t.ended):
                    collector.trial_ended(trial)
            real = len(prepared.subsets.train) + len(prepared.subsets.heldout)
            progress.say(f"{prepared.extractor.name} features of {real:,} real images")
            shared = _shared(prepared, progress.say)
            operations.phase("searches", at_once=at_once)
            if ended := run_search(study, plan, slots, shared, listeners, watch, say):
                say(f"no more trials are begun: {ended}")
            figures.draw()  # while the best are confirmed, or the cluster goes
            record_reproducibility(prepared, recorder)
            if begun := _begin_replicas(prepared):
                say(f"confirmation: {begun} replicas on fresh training seeds")
                operations.phase("confirms")
                run_search(study, plan, slots, shared, listeners, watch, say, only_begun=True)
            if plan.joined:  # a cluster of one's own ends with all that runs on it
                slots.close()
    except KeyboardInterrupt:
        return False
    finally:
        recorder.tell_state(None)
        ray.shutdown()
    return True


def _begin_replicas(prepared: Prepared) -> int:
    """Enter into the study the replicas that confirmation still needs; how many there were."""
    config, study = prepared.config, prepared.study
    if not config.confirm.top or not prepared.space.parameters:
        return 0
    chosen = candidates_to_confirm(study.landscape(), prepared.rule, config.confirm.top)
    todo = replicas_to_begin(study.trials(), chosen, config.confirm.seeds, config.seed)
    for replica in todo:
        study.replicate(replica.number, replica.seed, replica.rungs)
    return len(todo)


def _data_bytes(prepared: Prepared) -> int:
    """Roughly what `_shared` puts into the object store: images, noise bank, features of up to 2,048 float32."""
    noises = 1 if prepared.settings.noise_draws == "inf" else int(prepared.settings.noise_draws)
    per_image = int(prepared.images.images[0].nbytes)
    real = len(prepared.subsets.train) + len(prepared.subsets.heldout)
    return 2 * real * (per_image + 8192) + 4 * noises * len(prepared.subsets.train) * per_image


def _shared(prepared: Prepared, say: Callable[[str], None]) -> dict[str, Any]:
    """What every worker reads: large arrays go into the object store once a node."""
    import ray

    from ambient_ray.evaluation import CachedExtractor, EvaluationSettings, References
    from ambient_ray.training import TrainingData

    subsets, reference = prepared.subsets, prepared.config.reference
    mirror, shift = augmentation(prepared.settings, prepared.space)
    references = References.build(
        CachedExtractor(prepared.extractor, prepared.config.output_dir / "cache"),
        subsets.train,
        subsets.heldout,
        full=prepared.images if reference == "full" else None,
        other=prepared.other,
        settings=EvaluationSettings(reference=reference, mirror=mirror, shift=shift),
        narrow=prepared.settings.n_train is not None or "n_train" in prepared.space.parameters,
    )
    if caution := references.caution(prepared.settings.samples):
        say(f"note: {caution}")
    data = TrainingData(
        train=subsets.train, heldout=subsets.heldout, noise_bank=bank_for(prepared),
        references=references, extractor=prepared.extractor, nested=subsets.nested,
    )  # fmt: skip
    return {
        "data": ray.put(data),
        "training": prepared.settings.to_dict(),
    }


def _plan(prepared: Prepared) -> SearchPlan:
    config = prepared.config
    replicas = replicas_planned(config)
    return SearchPlan(
        space=prepared.space,
        budget=Budget(config.trials, config.hours, config.gpu_hours, replica_images=replicas * config.trial.rungs[-1]),
        rungs=tuple(config.trial.rungs),
        policy=prepared.policy,
        shape=prepared.shape,
        folder=str(config.checkpoint_folder),
        patience=config.checkpoint_patience,
        max_concurrent=config.trial.max_concurrent,
        max_failures=config.trial.max_failures,
        imports=network_imports(prepared.settings.backbone),
        pack=prepared.pack,
        joined=joins(config.address),
        wait_minutes=config.trial.wait_for_nodes_minutes,
        hang_minutes=config.trial.hang_minutes,
    )
