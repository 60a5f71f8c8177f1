"""Promotion by people: `python -m ambient_ray.promote digits --version 3 --to champion --reason "..."`.

argparse, not Hydra: the `@` of a model's alias does not pass Hydra's grammar.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ambient_ray.console.exits import guarded
from ambient_ray.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.table import Table


class PromoteArgumentError(UserError):
    """An argument of the promote command is missing or cannot be met."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 after one sentence about what is wrong, with nothing changed."""
    args = parser().parse_args(argv)
    return guarded(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """List a model's versions, or promote one; 0. Raises UserError."""
    _check(args)
    from mlflow.exceptions import MlflowException  # seconds

    from ambient_ray.tracking import catch_up
    from ambient_ray.tracking.location import existing_store
    from ambient_ray.tracking.models.aliases import sentence
    from ambient_ray.tracking.store import open_client

    uri = existing_store(args.tracking_uri)
    for line in catch_up(uri):
        print(line, file=sys.stderr)
    client = open_client(uri)
    try:
        if args.list:
            _list(client, args.model)
        else:
            _promote(client, uri, args)
    except MlflowException as error:
        raise PromoteArgumentError(f"the registry at {uri} does not answer as it should: {sentence(error)}") from error
    return 0


def _promote(client: MlflowClient, uri: str, args: argparse.Namespace) -> None:
    from ambient_ray.tracking.models.by_hand import promote_by_hand

    done = promote_by_hand(
        client, uri, args.model, args.to, args.reason,
        number=args.version, without_evidence=args.without_evidence, dry_run=args.dry_run,
    )  # fmt: skip
    what = f"version {done.version} of {done.model}"
    if done.before == done.version:
        print(f"{what} is @{done.alias} already")
        return
    text = f"{what} {'would be' if args.dry_run else 'is'} @{done.alias}{'' if args.dry_run else ' now'}"
    if done.before is not None:
        kept = ", which stays reachable as @previous-champion" if done.alias == "champion" else ""
        text += f", after version {done.before}{kept}"
    if done.why:
        text += " (without evidence, as its tags and card say)" if done.why == "none" else f" ({done.why})"
    print(text)


def _list(client: MlflowClient, reference: str) -> None:
    from rich.console import Console

    from ambient_ray.tracking.models.by_hand import name_of
    from ambient_ray.tracking.models.model import ModelNotFoundError
    from ambient_ray.tracking.models.versions import versions

    name = name_of(reference)
    if not versions(client, name):
        known = ", ".join(sorted(model.name for model in client.search_registered_models(max_results=20))) or "none"
        raise ModelNotFoundError(f"there is no registered model '{name}' with a version (registered models: {known})")
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(version_table(client, name))


def version_table(client: MlflowClient, name: str) -> Table:
    """All versions of a model, newest first: aliases, configuration, both objectives with intervals, promotion."""
    from rich.table import Table

    from ambient_ray.tracking.models.aliases import aliases
    from ambient_ray.tracking.models.promotion import Evidence
    from ambient_ray.tracking.models.versions import versions

    held: dict[int, list[str]] = {}
    for alias, version in sorted(aliases(client, name).items()):
        held.setdefault(version, []).append(f"@{alias}")
    found = sorted(versions(client, name), key=lambda one: -int(one.version))
    known = {int(one.version): Evidence.read(one.tags) for one in found}
    named = {evidence.objectives for evidence in known.values() if evidence is not None}
    scores = named.pop() if len(named) == 1 else ("fidelity", "memorization")  # of several kinds: named in each cell
    table = Table(title=f"Versions of {name}", title_justify="left")
    for column in ("version", "aliases", "arm", "configuration", *scores, "evidence", "promoted"):
        table.add_column(column, justify="right" if column == "version" else "left", overflow="fold")
    for one in found:
        evidence = known[int(one.version)]
        figures, carried, what = ["", ""], "none", ""
        if evidence is not None:
            figures = [evidence.fidelity.text(".3g"), evidence.memorization.text()]
            if evidence.objectives != scores:
                figures = [f"{key} {text}" for key, text in zip(evidence.objectives, figures, strict=True)]
            carried = f"{len(evidence.seeds)} fresh seeds" if evidence.confirmed else "one run"
            what = str(evidence.notes.get("configuration", ""))
        seen = f", {int(one.tags['images_seen']):,} images" if "images_seen" in one.tags else ""
        holds = "\n".join(held.get(int(one.version), []))
        arm = one.tags.get("ambient_ray.arm", "")
        table.add_row(str(one.version), holds, arm, what + seen, *figures, carried, _promoted(one.tags))
    return table


def _promoted(tags: Mapping[str, str]) -> str:
    """`2026-05-01 by ann: her reason`, and whether it lacks evidence or its end."""
    from ambient_ray.tracking.models.aliases import BEGUN, STATE

    if "promoted.at" not in tags:
        return ""
    text = f"{tags['promoted.at'][:10]} by {tags.get('promoted.by', 'unknown')}: {tags.get('promoted.reason', '')}"
    text += " (without evidence)" if tags.get("promoted.evidence") == "none" else ""
    return text + (" (begun, not finished: promote it again)" if tags.get(STATE) == BEGUN else "")


def _check(args: argparse.Namespace) -> None:
    if args.list:
        return
    if args.to is None:
        raise PromoteArgumentError("nothing to do: give --to ALIAS with --reason TEXT, or --list")
    if args.reason is None:
        raise PromoteArgumentError("give --reason TEXT: why this version is promoted is recorded with it")
    if args.without_evidence and args.to != "champion":
        raise PromoteArgumentError("--without-evidence is for --to champion alone: other aliases ask for no evidence")


def parser() -> argparse.ArgumentParser:
    """The command line: MODEL --to --reason --version --without-evidence --dry-run --list --tracking-uri."""
    arguments = argparse.ArgumentParser(
        prog="ambient-promote",
        description="Give a version of a registered model an alias, with the reason recorded. champion asks for"
        " evidence, confirmed on fresh seeds, that shows a gain over the version that holds it, which becomes"
        " previous-champion.",
        epilog='example: ambient-promote digits --version 3 --to champion --reason "its gallery was looked through"',
    )
    arguments.add_argument("model", help="NAME (with --version), NAME@ALIAS, models:/NAME@ALIAS or models:/NAME/3")
    arguments.add_argument("--to", metavar="ALIAS", help="champion, or any alias of your own")
    arguments.add_argument("--reason", metavar="TEXT", help="why: kept with your user name and the time")
    arguments.add_argument("--version", type=int, metavar="N", help="which version of NAME")
    arguments.add_argument(
        "--without-evidence",
        action="store_true",
        help="promote to champion although nothing shows a gain; the version's tags and card say so",
    )
    arguments.add_argument("--dry-run", action="store_true", help="check everything, change nothing")
    arguments.add_argument("--list", action="store_true", help="show all versions with aliases, scores and arm")
    arguments.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where the registry is (default: MLFLOW_TRACKING_URI, else ./outputs/mlflow.db)",
    )
    return arguments


if __name__ == "__main__":
    sys.exit(main())
