"""What a search leaves behind: the table of its front, the sentence, and where to look."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ambient_ray.interval import Interval
from ambient_ray.reporting.comparison import percent
from ambient_ray.reporting.verdict import Match, Verdict, matches, memorization
from ambient_ray.tracking import Registration
from ambient_ray.tuning.confirmation import Confirmed
from ambient_ray.tuning.records import Candidate, Landscape, Objectives, TrialRecord


@dataclass(frozen=True)
class Registered:
    """What became of a study's models.

    Attributes:
        registration: None where nothing was registered, or not all of it.
        left_out: how many of the front were not to be registered.
        problem: what the registry refused, without a full stop.
    """

    registration: Registration | None
    left_out: int = 0
    problem: str = ""


def front_table(land: Landscape, objectives: Objectives, champion: Candidate | None) -> Table:
    """The front, best fidelity first, with 95 % intervals of memorization and the champion marked."""
    table = Table(title="Pareto front: fidelity against memorization, both lower is better", title_justify="left")
    for name in (
        "",
        "trial",
        "configuration",
        "images seen",
        objectives.fidelity,
        objectives.memorization,
        "95 % interval",
    ):
        table.add_column(name, justify="right" if name not in {"", "configuration"} else "left")
    for candidate in land.front:
        scores = candidate.rung.scores
        low, high = (scores.get(f"{objectives.memorization}_{end}") for end in ("low", "high"))
        table.add_row(
            "champion" if candidate == champion else "",
            str(candidate.trial.number),
            candidate.trial.label,
            f"{candidate.rung.images_seen:,}",
            f"{candidate.fidelity:.4g}",
            f"{candidate.memorization:.3f}",
            "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]",
        )
    return table


def match_table(found: Sequence[Match], objectives: Objectives, tolerance: float) -> Table:
    """DDPM's stops, each beside the least copying Ambient candidate at no worse a fidelity."""
    title = f"The search's runs at the fidelity of each DDPM stop (within {percent(tolerance)})"
    table = Table(title=title, title_justify="left")
    for name in ("DDPM stopped at", objectives.fidelity, objectives.memorization):
        table.add_column(name, justify="right")
    table.add_column("least copying Ambient candidate")
    for name in (objectives.fidelity, objectives.memorization):
        table.add_column(name, justify="right")
    table.add_column("Ambient copies")
    for match in found:
        ambient = match.ambient
        where = f"{ambient.trial.label}, {ambient.rung.images_seen:,}" if ambient else "none comes as near"
        scores = (f"{ambient.fidelity:.3g}", memorization(ambient, objectives)) if ambient else ("", "")
        stop = (f"{match.ddpm.rung.images_seen:,}", f"{match.ddpm.fidelity:.3g}", memorization(match.ddpm, objectives))
        table.add_row(*stop, where, *scores, match.word)
    return table


def confirmed_table(found: Sequence[Confirmed], objectives: Objectives, champion: Candidate | None) -> Table:
    """What was trained again on fresh seeds, the least copying first: both means with their 95 % intervals.

    Configurations at the rung that they were to be confirmed at, and DDPM at all of its stops, which compete.
    """
    table = Table(title="Confirmed on fresh training seeds: means and 95 % intervals", title_justify="left")
    for name in ("", "trial", "configuration", "images seen", objectives.fidelity, objectives.memorization, "seeds"):
        table.add_column(name, justify="right" if name not in {"", "configuration", "seeds"} else "left")
    for point in sorted((p for p in found if p.planned), key=lambda p: (p.memorization, p.fidelity)):
        lost = [f"{n} {word}" for n, word in ((point.diverged, "diverged"), (point.failed, "failed")) if n]
        table.add_row(
            "champion" if point.original == champion else "",
            str(point.original.trial.number),
            point.original.trial.label,
            f"{point.original.rung.images_seen:,}",
            _padded(point.of_fidelity, ".3g"),
            _padded(point.of_memorization, ".3f"),
            "; ".join([", ".join(map(str, point.seeds)), *lost]),
        )
    return table


def _padded(interval: Interval, form: str) -> str:
    return interval.text(form) if interval.low is not None else f"{interval.text(form)} (no interval)"


def bounds(land: Landscape, objectives: Objectives, delta: float) -> str:
    """What bounds the hypervolume, in words: `fd_classifier 9.2 (twice DDPM's best) and f_mem 1`.

    Args:
        land: with the study's reference.
        objectives: the names of the two scores.
        delta: of the study: fidelity worse than (1 + delta) times DDPM's best is of no use.
    """
    if land.reference is None:
        return ""
    whose = "DDPM's" if any(c.trial.arm == "ddpm" for c in land.candidates) else "the first trial's"
    times = "twice" if delta == 1 else f"{1 + delta:g} times"
    fidelity, copied = land.reference
    return f"{objectives.fidelity} {fidelity:.4g} ({times} {whose} best) and {objectives.memorization} {copied:g}"


def draw_front(land: Landscape, objectives: Objectives, champion: Candidate | None, path: Path) -> Path | None:
    """The plane of the two objectives as a PNG: all candidates, the front, DDPM's path; None without candidates."""
    if not land.candidates:
        return None
    from ambient_ray.reporting.front import FrontPoint, front_figure

    front = {(c.trial.number, c.rung.rung) for c in land.front}
    points = [
        FrontPoint(
            fidelity=c.fidelity,
            memorization=c.memorization,
            low=c.rung.scores.get(f"{objectives.memorization}_low"),
            high=c.rung.scores.get(f"{objectives.memorization}_high"),
            arm=c.trial.arm,
            trial=c.trial.number,
            images_seen=c.rung.images_seen,
            on_front=(c.trial.number, c.rung.rung) in front,
            champion=c == champion,
        )
        for c in land.candidates
    ]
    null = land.candidates[0].rung.scores.get(f"{objectives.memorization}_heldout")
    names = {"fidelity": objectives.fidelity, "memorization": objectives.memorization}
    return front_figure(points, path, **names, null=null)


def load_lines(tracking_uri: str, model: str) -> str:
    """Three lines of Python that load the champion and draw from it."""
    return (
        "from ambient_ray.tracking import load_model\n"
        f'model = load_model("models:/{model}@champion", tracking_uri="{tracking_uri}")\n'
        "images = model.sample(16, seed=0)    # uint8 [16, H, W, C]"
    )


def registration_lines(registered: Registered, tracking_uri: str, model: str) -> list[str]:
    """What became of the study's models in the registry, and how to load the champion."""
    found = registered.registration
    lines = []
    if registered.problem:
        again = "The same command again registers what is missing, and trains nothing"
        lines.append(f"Not all models were registered: {registered.problem}. {again}.")
    if found is None:
        return lines
    others = [version for version in found.versions if version != found.version]
    if len(found.versions) > 1 or (others and found.version is None):
        front = (
            f"{len(found.versions)} models of this search are versions {_numbers(found.versions)} of the model {model}"
        )
        less = f"; {registered.left_out} more of the front are not registered (tracking.register_front)"
        lines.append(front + (less if registered.left_out else "") + ".")
    for alias, told in found.aliases.items():
        lines.append(f"  @{alias}: {told}")
    if found.champion is not None:
        text = f"The champion is version {found.champion} of the model {model}"
        if found.version is not None and found.champion != found.version:
            text += f". This search's own is version {found.version} and did not take its place"
            text += f": {found.why}.\nThe champion"
        lines.append(f"{text}:\n{load_lines(tracking_uri, model)}")
    return lines


def _numbers(versions: Sequence[int]) -> str:
    """`1 to 5`, or `1, 4, 7`."""
    found = sorted(versions)
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))


def print_closing(
    console: Console,
    land: Landscape,
    objectives: Objectives,
    verdict: Verdict,
    *,
    tolerance: float,
    delta: float,
    tracking_uri: str,
    model: str,
    registration: Registered | None,
    figure: Path | None,
    output_dir: Path,
    failed: Sequence[TrialRecord] = (),
) -> None:
    """Print the front, the confirmation, the answer, and where to look.

    Args:
        console: where to.
        land: the search's candidates.
        objectives: the names of the two scores.
        verdict: the answer.
        tolerance: what matched fidelity is.
        delta: of the study (`Study.delta`), for the words about the hypervolume's bound.
        tracking_uri: the MLflow store.
        model: the registered model's name.
        registration: what became of the models in the registry; None where the search did not come so far.
        figure: the drawn front.
        output_dir: the search's.
        failed: replicas that failed (`confirmation.failed_replicas`); each is named with its reason.
    """
    if land.front:
        console.print(front_table(land, objectives, verdict.champion))
    if found := matches(land, objectives, tolerance):
        console.print(match_table(found, objectives, tolerance))
    if verdict.confirmed:
        console.print(confirmed_table(verdict.confirmed, objectives, verdict.champion))
    for replica in failed:
        console.print(
            Text(
                f"Replica {replica.number} of trial {replica.replica_of} (seed {replica.settings.get('seed')}) failed"
                f" after {len(replica.rungs)} rungs: {replica.reason or 'no reason was given'}"
            ),
            soft_wrap=True,
        )
    console.print(Text(verdict.sentence, style="bold"), soft_wrap=True)
    if land.reference is not None:
        console.print(
            f"Hypervolume {land.hypervolume:.4g}, bounded by {bounds(land, objectives, delta)};"
            f" {len(land.candidates)} candidates.",
            soft_wrap=True,
            highlight=False,
        )
    if figure is not None:
        console.print(Text(f"Front as a picture: {figure}"), soft_wrap=True)
    default = tracking_uri == f"sqlite:///{output_dir / 'mlflow.db'}" and output_dir == Path("outputs").absolute()
    default = default and Path("Makefile").is_file()  # in the project's checkout
    look = "make ui" if default else f"mlflow ui --backend-store-uri {tracking_uri}"
    console.print(Text(f"All runs, pictures and models: {look}"), soft_wrap=True)
    if registration is not None:
        for line in registration_lines(registration, tracking_uri, model):
            console.print(Text(line), soft_wrap=True)
