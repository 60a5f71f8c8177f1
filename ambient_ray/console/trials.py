"""The part of a search that Ray runs: its trials, then confirmation on fresh seeds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ambient_ray.tracking import StudyRecorder
from ambient_ray.tuning.budget import Budget
from ambient_ray.tuning.confirmation import candidates_to_confirm, replicas_to_begin
from ambient_ray.tuning.running.guard import open_to_everybody
from ambient_ray.tuning.running.run import SearchPlan, joins, run_search, start_ray, trials_ahead

from .checks import augmentation
from .collecting import Collector
from .estimate import replicas_planned
from .exits import terminate_as_interrupt
from .operations import Operations
from .preparation import Prepared, bank_for, cores, network_imports
from .progress import Beats, Progress
from .recording import Tracked, record_reproducibility, start_recording
from .refreshing import LiveFigures

if TYPE_CHECKING:
    from ambient_ray.tuning.listener import Listener


def run_trials(
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
            shared = shared_data(prepared, progress.say)
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
    """Roughly what `shared_data` puts into the object store: images, noise bank, features of up to 2,048 float32."""
    noises = 1 if prepared.settings.noise_draws == "inf" else int(prepared.settings.noise_draws)
    per_image = int(prepared.images.images[0].nbytes)
    real = len(prepared.subsets.train) + len(prepared.subsets.heldout)
    return 2 * real * (per_image + 8192) + 4 * noises * len(prepared.subsets.train) * per_image


def shared_data(prepared: Prepared, say: Callable[[str], None]) -> dict[str, Any]:
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
