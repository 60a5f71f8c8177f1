"""A study's report, rebuilt from MLflow: `python -m ambient_ray.report STUDY --to report.html --pdf`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ambient_ray.console.exits import guarded
from ambient_ray.console.folders import check_writable
from ambient_ray.errors import UserError

if TYPE_CHECKING:
    from ambient_ray.reporting.report.document import Document
    from ambient_ray.reporting.report.recall import Recalled


class ReportError(UserError):
    """An argument of the report command cannot be met."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 after one sentence about bad input."""
    args = parser().parse_args(argv)
    return guarded(lambda: report(args))


def report(args: argparse.Namespace) -> int:
    """Read the study, or the two, and write what the parsed arguments ask for; 0. Raises UserError."""
    names = _studies(args)
    page = _page(args, names)
    _check_writable(page)
    from ambient_ray.tracking import catch_up

    for line in catch_up(args.tracking_uri):
        print(line, file=sys.stderr)
    if args.compare:
        document, said = _compared(names[0], names[1], args.tracking_uri)
    else:
        document, said = _reported(names[0], args.tracking_uri)
    from ambient_ray.reporting.report.web import write_page

    page.write_text(write_page(document), encoding="utf-8")
    print(said)
    print(f"report: {page}")
    if args.pdf:
        from ambient_ray.reporting.report.paper import write_pdf

        print(f"report: {write_pdf(document, page.with_suffix('.pdf'))}")
    return 0


def _reported(name: str, tracking_uri: str | None) -> tuple[Document, str]:
    """One study's report, and what is said of it on the terminal."""
    study = _recalled(name, tracking_uri)
    from ambient_ray.console.again import search_command
    from ambient_ray.reporting.report.page import study_report
    from ambient_ray.reporting.report.pictures import gather
    from ambient_ray.tracking.study_files import StudyFiles

    with StudyFiles(study.stored.tracking_uri, study.stored.artifact_uris) as files:
        pictures = gather(study, files)
    document = study_report(study, pictures, command=search_command(study.stored.params))
    return document, _said(study)


def _compared(first: str, second: str, tracking_uri: str | None) -> tuple[Document, str]:
    a, b = _recalled(first, tracking_uri), _recalled(second, tracking_uri)
    from ambient_ray.reporting.report.side_by_side import two_studies

    return two_studies(a, b), f"{first}: {_said(a)}\n{second}: {_said(b)}"


def _recalled(name: str, tracking_uri: str | None) -> Recalled:
    from ambient_ray.tracking.reading import read_study  # seconds: MLflow

    stored = read_study(tracking_uri, name)
    from ambient_ray.reporting.report.recall import recall

    return recall(stored)


def _said(study: Recalled) -> str:
    running = "The study is still running; this is how it stands. " if study.stored.running else ""
    return running + study.verdict.sentence


def _studies(args: argparse.Namespace) -> tuple[str, ...]:
    if args.compare and args.study:
        raise ReportError(f"give either STUDY or --compare A B, not both (got {args.study} and {args.compare[0]})")
    if args.compare and args.compare[0] == args.compare[1]:
        raise ReportError(f"--compare needs two different studies, got {args.compare[0]} twice")
    if not args.compare and not args.study:
        raise ReportError("which study? Give its name, or two after --compare")
    return tuple(args.compare or [args.study])


def _page(args: argparse.Namespace, names: Sequence[str]) -> Path:
    """Where the page goes: FILE.html as given, else a file named after the study in the folder given, or here."""
    to = Path(args.to).expanduser() if args.to else Path()
    if to.suffix.lower() in (".html", ".htm"):
        return to
    if to.suffix.lower() == ".pdf":
        raise ReportError(f"--to names the page or a folder, got {to}; the PDF goes beside the page with --pdf")
    return to / f"{'-'.join(names).replace('/', '-')}-report.html"


def _check_writable(page: Path) -> None:
    check_writable(page.parent)
    if page.is_dir():
        raise ReportError(f"{page} is a folder: name a file, or a folder without .html")


def parser() -> argparse.ArgumentParser:
    """The command line: STUDY --tracking-uri --to --pdf --compare."""
    arguments = argparse.ArgumentParser(
        prog="ambient-report",
        description="Write a study's report as one HTML page (and a PDF), rebuilt from MLflow alone.",
        epilog="example: ambient-report digits --tracking-uri http://mlflow:5000 --to digits.html --pdf",
    )
    arguments.add_argument("study", nargs="?", metavar="STUDY", help="the study's name")
    arguments.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two studies side by side instead of one")
    arguments.add_argument("--to", metavar="FOLDER|FILE.html", help="where to (default: ./STUDY-report.html)")
    arguments.add_argument("--pdf", action="store_true", help="write a PDF beside the page, too")
    arguments.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow has the study (default: MLFLOW_TRACKING_URI, else ./outputs/mlflow.db)",
    )
    return arguments


if __name__ == "__main__":
    sys.exit(main())
