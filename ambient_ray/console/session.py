"""One search from start to end: Ray, the trials, the recording, the closing words."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from ambient_ray.redaction import redacted
from ambient_ray.reporting.figures.front import draw_front
from ambient_ray.reporting.figures.study_figures import StudyView
from ambient_ray.reporting.figures.study_view import key_of
from ambient_ray.reporting.verdict import conclude
from ambient_ray.tracking import SPOOL, StudyRecorder
from ambient_ray.tuning.confirmation import failed_replicas
from ambient_ray.tuning.emm import memorized_sizes
from ambient_ray.tuning.lease import StudyTakenError
from ambient_ray.tuning.space import Space

from .closing import print_closing
from .collecting import Collector
from .configuration import Configuration
from .estimate import print_estimate
from .images import publish_subset
from .operations import Operations
from .preparation import Prepared, prepare
from .recording import record_conclusion
from .refreshing import LAST, LiveFigures
from .retrain import command
from .trials import run_trials

if TYPE_CHECKING:
    pass

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
    if shape.gpus and config.training.get("precision") == "auto" and prepared.settings.precision == "fp32":
        say(
            "note: training.precision=auto is fp32, as this machine has no GPU with bf16;"
            " training.precision=bf16 where the trials' GPUs have it"
        )


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
        finished = run_trials(prepared, recorder, figures, operations, console, collector)
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
