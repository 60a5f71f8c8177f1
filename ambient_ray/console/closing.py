"""What a search leaves behind: the table of its front, the sentence, and where to look."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ambient_ray.tuning.records import Candidate, Landscape, Objectives

from .verdict import Match, Verdict, matches, memorization


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
    table = Table(title=f"At the fidelity of each DDPM stop (within {tolerance:.0%})", title_justify="left")
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


def draw_front(land: Landscape, objectives: Objectives, champion: Candidate | None, path: Path) -> Path | None:
    """The plane of the two objectives as a PNG: all candidates, the front, DDPM's path; None without candidates."""
    if not land.candidates:
        return None
    from ambient_ray.tracking.front_figure import FrontPoint, front_figure

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


def print_closing(
    console: Console,
    land: Landscape,
    objectives: Objectives,
    verdict: Verdict,
    *,
    tolerance: float,
    tracking_uri: str,
    model: str,
    version: int | None,
    figure: Path | None,
    output_dir: Path,
) -> None:
    """Print the front, the answer, and where to look."""
    if land.front:
        console.print(front_table(land, objectives, verdict.champion))
    if found := matches(land, objectives, tolerance):
        console.print(match_table(found, objectives, tolerance))
    console.print(Text(verdict.sentence, style="bold"), soft_wrap=True)
    if land.reference is not None:
        whose = "DDPM" if verdict.ddpm else "the worst"
        bounds = f"{objectives.fidelity} {land.reference[0]:.4g} ({whose} at its first rung)"
        console.print(
            f"Hypervolume {land.hypervolume:.4g}, bounded by {bounds} and {objectives.memorization}"
            f" {land.reference[1]:g}; {len(land.candidates)} candidates.",
            soft_wrap=True,
            highlight=False,
        )
    if figure is not None:
        console.print(Text(f"Front as a picture: {figure}"), soft_wrap=True)
    default = tracking_uri == f"sqlite:///{output_dir / 'mlflow.db'}" and output_dir == Path("outputs").absolute()
    default = default and Path("Makefile").is_file()  # in the project's checkout
    look = "make ui" if default else f"mlflow ui --backend-store-uri {tracking_uri}"
    console.print(Text(f"All runs, pictures and models: {look}"), soft_wrap=True)
    if version is not None:
        console.print(
            Text(f"The champion is version {version} of the model {model}:\n{load_lines(tracking_uri, model)}"),
            soft_wrap=True,
        )
