"""How a search stands, from any process or machine that reaches its storage: `python -m ambient_ray.status STUDY`.

It reads the study's storage and what the search's driver writes every ten seconds, and writes and locks nothing.

`--json` prints one object a look, on one line:

    study, time (UTC)
    driver             life (alive | dead | unknown), why, silent_seconds since its last word, host, pid, phase
    searched_seconds   over all processes that searched the study
    trials             running, finished, stopped (by the judge), failed, planned (null: hours bound it); replicas and
                       replicas_ended are the confirmation's
    rungs_done, images_seen    over all trials
    running            of each trial: trial, label, arm, replica_of, doing (trains | is scored | waits for room | waits
                       for storage | waits for its turn | left behind, by a search that died), waits_for, where (of each
                       worker: rank, host, address, pid, gpus), rung (those done) of rungs, images of next_rung,
                       images_per_second, loss, silent_seconds since its last sign of life, starts (of its workers, by
                       this driver), eta_seconds at the most, eta_rests_on
    waiting            room, storage: numbers of trials
    failures           by cause: trials (number: reason) that failed, and how often trials survived it
    front              objectives, hypervolume, candidates, points (trial, label, rung, images, scores); null: unknown
    mlflow             queued and away_seconds by the driver's word, spooled on the disk
    eta                seconds (null: unknown) until the search and its confirmation end, rests_on

Exit codes: 0; 2 for an unknown study and other bad input; 3 where trials are running by the storage and no driver lives
to run them: the same search command goes on with them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ambient_ray.console.exits import guarded
from ambient_ray.errors import UserError

ABANDONED = 3


class StatusError(UserError):
    """An argument of the status command cannot be met."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 after one sentence about bad input, or 3 (see above)."""
    args = parser().parse_args(argv)
    return guarded(lambda: status(args))


def status(args: argparse.Namespace) -> int:
    """Look once, or again and again until no driver lives, and print; the exit code. Raises UserError."""
    if args.watch is not None and args.watch <= 0:
        raise StatusError(f"--watch takes seconds above 0, got {args.watch:g}")
    folder = Path(args.output_dir).expanduser().absolute() / args.study
    storage = args.storage or f"journal:{folder / 'study.journal'}"
    before: dict[str, Any] | None = None
    while True:
        found, live = look(args.study, storage, folder, before)
        show(found, as_json=args.json, again=args.watch is not None)
        code = ABANDONED if found["driver"]["life"] == "dead" and unfinished(found) else 0
        if args.watch is None or found["driver"]["life"] == "dead":
            return code
        before = live
        time.sleep(args.watch)


def look(
    study: str, storage: str, folder: Path, before: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """How the study stands now, and the driver's live state that it rests on.

    A driver on another machine whose last word is old is watched for a moment, because its clock may be wrong.

    Args:
        study: its name.
        storage: as for the search.
        folder: the study's, which need not be there.
        before: the live state of an earlier look, if there was one: a count that has moved since is proof of life.
    """
    from ambient_ray.console.driver import judge_driver, wait_for_move
    from ambient_ray.console.live import read_live
    from ambient_ray.console.standing import standing
    from ambient_ray.tracking.recording.spool import entries
    from ambient_ray.tracking.recording.upload import SPOOL
    from ambient_ray.tuning.reading import read_study

    stored = read_study(study, storage)
    live = read_live(folder, stored.attrs)
    moved = True if live and before and live["count"] != before["count"] and not live["ended"] else None
    driver = judge_driver(live, time.time(), moved)
    if live is not None and driver.life == "unknown":
        waited = wait_for_move(
            live["count"], lambda: read_live(folder, read_study(study, storage).attrs), 2.5 * live["every"]
        )
        stored = read_study(study, storage)
        live = read_live(folder, stored.attrs) or live
        driver = judge_driver(live, time.time(), waited)
    return standing(stored, live, driver, len(entries(folder / SPOOL)), time.time()), live


def unfinished(found: dict[str, Any]) -> bool:
    """Whether trials were begun and have not ended."""
    return bool(found["running"])


def show(found: dict[str, Any], *, as_json: bool, again: bool) -> None:
    """Print it: a line of JSON, or a page, which on a terminal takes the place of the one before."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False), flush=True)
        return
    from rich.console import Console

    from ambient_ray.console.standing_page import page

    console = Console(highlight=False)
    if again and console.is_terminal:
        console.clear()
    console = console if console.is_terminal else Console(highlight=False, width=160)
    console.print(page(found), soft_wrap=False)


def parser() -> argparse.ArgumentParser:
    """The command line: STUDY --output-dir --storage --json --watch."""
    arguments = argparse.ArgumentParser(
        prog="ambient-status",
        description="Say how a search stands: what runs where, how far it is, what failed, the front, the time left.",
        epilog="exit codes: 0; 2: unknown study; 3: trials are running by the storage, and no driver lives to run them",
    )
    arguments.add_argument("study", metavar="STUDY", help="the study's name")
    arguments.add_argument(
        "--output-dir", metavar="FOLDER", default="outputs", help="the search's output_dir (default: ./outputs)"
    )
    arguments.add_argument(
        "--storage", metavar="URL", help="the search's storage= (default: the journal in FOLDER/STUDY)"
    )
    arguments.add_argument("--json", action="store_true", help="one JSON object on one line, for programs")
    arguments.add_argument("--watch", metavar="SECONDS", type=float, help="look again every so often while it runs")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
