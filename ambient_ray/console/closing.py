"""What a search leaves behind: the table of its front, the sentence, and where to look."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ambient_ray.redaction import redacted
from ambient_ray.reporting.tables import Table as Content
from ambient_ray.reporting.tables import confirmed_table, front_table, match_table
from ambient_ray.reporting.verdict import Verdict, matches
from ambient_ray.reporting.volume import bounds
from ambient_ray.tracking import Registration
from ambient_ray.tuning.records import Landscape, Objectives, TrialRecord


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


def rich_table(content: Content) -> Table:
    """A table of the report as the terminal shows it."""
    table = Table(title=content.caption, title_justify="left")
    for column in content.columns:
        table.add_column(column.name, justify="right" if column.number else "left")
    for row in content.rows:
        table.add_row(*row)
    return table


def load_lines(tracking_uri: str, model: str) -> str:
    """Three lines of Python that load the champion and draw from it."""
    return (
        "from ambient_ray.tracking import load_model\n"
        f'model = load_model("models:/{model}@champion", tracking_uri="{redacted(tracking_uri)}")\n'
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
    if len(found.versions) > 1 or registered.left_out:
        front = (
            f"{len(found.versions)} models of this search are versions {_numbers(found.versions)} of the model {model}"
        )
        less = f"; {registered.left_out} more of the front are not registered (tracking.register_front)"
        lines.append(front + (less if registered.left_out else "") + ":")
        lines += [f"  @{alias}: {told}" for alias, told in found.aliases.items()]
    else:  # all aliases are the one version's; what is said of them matters only where another holds them
        lines += [f"@{alias} {told}" for alias, told in found.aliases.items() if told != f"version {found.version}"]
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
        console.print(rich_table(front_table(land, objectives, verdict.champion)))
    if found := matches(land, objectives, tolerance):
        console.print(rich_table(match_table(found, objectives, tolerance)))
    if verdict.confirmed:
        console.print(rich_table(confirmed_table(verdict.confirmed, objectives, verdict.champion)))
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
    look = "make ui" if default else f"mlflow ui --backend-store-uri {redacted(tracking_uri)}"
    console.print(Text(f"All runs, pictures and models: {look}"), soft_wrap=True)
    if registration is not None:
        for line in registration_lines(registration, tracking_uri, model):
            console.print(Text(line), soft_wrap=True)
