"""A release gate for generated images: `python -m ambient_ray.audit out/ --train /data/faces --max f_mem=0.01`.

Scores the images of any generator, or of a registered model, against a training set, by the evaluation of the search.
Exit code 0: no bound was exceeded (or none given); 1: a bound was exceeded; 2: bad input, after one sentence.

In a workflow of GitHub Actions:

    - run: pip install ambient-ray
    - run: python generate.py --n 1000 --to out            # whatever your generator is
    - run: >
        ambient-audit out --train data/train --heldout data/test
        --max f_mem=0.01 --max partial=0.05 --by upper --to audit
    - if: always()
      run: cat audit/audit.md >> "$GITHUB_STEP_SUMMARY"
    - if: always()
      uses: actions/upload-artifact@v4
      with: {name: memorization-audit, path: audit}

A bound is held against the measured value, and the verdict says besides whether the 95 % interval lies wholly on that
side; `--by upper` asks for that: a measure then passes only where it is shown to stay within. Why the value is the
default: `ambient_ray/console/auditing/gate.py`. argparse, not Hydra, for an alias's `@`.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ambient_ray.console.folders import check_writable
from ambient_ray.errors import UserError

if TYPE_CHECKING:
    from ambient_ray.console.auditing.scoring import Audit

#: Options of this command, for the keys that the sentences of other rooms name.
_KEYS = re.compile(r"\b(?:dataset|evaluation|tracking)\.([a-z_0-9]+)(?:=([^\s,;:]*[^\s,;:.])?)?")
_SWITCHES = ("skip_broken", "mirror")


class AuditError(UserError):
    """An argument of the audit command cannot be met."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 beyond a bound, or 2 after one sentence about bad input."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(given)
    try:
        return run(args, " ".join(["ambient-audit", shlex.join(_without_passwords(given))]))
    except UserError as error:
        print(f"error: {_in_options(str(error))}", file=sys.stderr)
        return 2


def run(args: argparse.Namespace, command: str) -> int:
    """Audit what the parsed arguments name, print and write it; the exit code. Raises UserError."""
    _check(args)
    found = audit(args)
    from ambient_ray.console.auditing.report import document, write_report

    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    content = document(found, command=command, at=at, public=args.public)
    if args.to is not None:
        write_report(found, content, args.to, public=args.public)
    if args.json:
        print(json.dumps(content, indent=1, allow_nan=False))
    else:
        _print(found, content, args.to)
    return int(content["exit_code"])


def audit(args: argparse.Namespace) -> Audit:
    """All that the command computes, cheap checks first. Raises UserError."""
    from ambient_ray.console.auditing import gate, generated, real_images

    bounds = gate.parse_bounds([*args.max, *_short(args)], args.min)
    generated.check_exists(args.model)
    if args.to is not None:
        check_writable(args.to, "--to ")
    reading = real_images.Reading(args.resolution, args.channels, args.labels, args.skip_broken)
    model = None
    if generated.is_model(args.model):
        with _status("loading the model"):
            model = generated.load_generator(args.model, tracking_uri=args.tracking_uri, device=args.device)
    facts: dict[str, Any] = {} if model is None else dict(model.facts)
    with _status("reading the images"):
        real = real_images.read_real(args.train, reading, subset=args.subset, heldout=args.heldout, facts=facts)
        if model is None:  # else they are drawn below, once nothing can be wrong any more
            images = generated.read_generated(args.model, reading, real)
    from ambient_ray.console.auditing import scoring  # seconds: torch
    from ambient_ray.evaluation import EvaluationSettings, fidelity_key

    settings = EvaluationSettings(
        tau=args.tau,
        mirror=bool(facts.get("mirror", 0)) if args.mirror is None else args.mirror,
        shift=int(facts.get("shift", 0)) if args.shift is None else args.shift,
    )
    with _status("preparing the features"):
        extractor = scoring.make_extractor(
            scoring.choose_features(args.features, model, real), model, real, device=_device(args.device),
            weights=args.weights, sha256=args.sha256, repo=args.repo, precision=args.precision,
        )  # fmt: skip
    wanted = gate.named(bounds, fidelity_key(extractor.name), scoring.missing_measures(real))
    notes: list[str | None] = []
    if model is not None:
        seed = model.fresh_seed() if args.seed is None else args.seed
        notes = [generated.data_warning(model, real), generated.seed_note(model, seed)]
        with _status(f"drawing {args.n:,} images"):
            images = generated.draw(model, args.n, seed, reading, real)
    with _status("comparing with the training images"):
        return scoring.run_audit(
            images, real, extractor, settings, bounds=wanted, by=args.by, notes=[note for note in notes if note]
        )


def _check(args: argparse.Namespace) -> None:
    if args.n < 3:
        raise AuditError(f"--n must be at least 3, got {args.n}")
    if args.shift is not None and args.shift < 0:
        raise AuditError(f"--shift must be a number of pixels, 0 or more, got {args.shift}")
    if args.subset is not None and not args.subset.is_file():
        raise AuditError(f"--subset {args.subset} is no file: give a study's list, e.g. subset-n300-seed0.json")


def _short(args: argparse.Namespace) -> list[str]:
    return [] if args.max_memorization is None else [f"f_mem={args.max_memorization}"]


def _device(asked: str | None) -> str:
    if asked is not None:
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _print(found: Audit, content: dict[str, Any], to: Path | None) -> None:
    from rich.console import Console
    from rich.text import Text

    from ambient_ray.console.auditing.words import sentence, table

    console = Console()
    if not console.is_terminal:  # a log of a CI has no width
        console = Console(width=120)
    console.print(table(found, narrow=console.width < 100))
    for note in content["notes"]:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    colour = {"passed": "bold green", "failed": "bold red"}.get(found.verdict, "bold")
    console.print(Text(sentence(found), style=colour), soft_wrap=True)
    if to is not None:
        console.print(Text(f"report: {to / 'audit.md'}"), soft_wrap=True)


def _status(text: str) -> AbstractContextManager[object]:
    """Says what is done, on a terminal's standard error; nothing elsewhere."""
    from rich.console import Console

    return Console(stderr=True).status(text)


def _in_options(sentence: str) -> str:
    """A sentence about keys of the search's configuration, in this command's options."""

    def option(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        name = {"path": "train", "uri": "tracking-uri", "null_quantile": "tau"}.get(name, name).replace("_", "-")
        return f"--{name}" if value is None or match[1] in _SWITCHES else f"--{name} {value}"

    return _KEYS.sub(option, sentence)


def _without_passwords(words: Sequence[str]) -> list[str]:
    return [re.sub(r"(://[^:/@\s]+):[^@/\s]+@", r"\1:***@", word) for word in words]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(
        prog="ambient-audit",
        description="Score generated images, or a model's samples, against the images that it was trained on.",
        epilog="exit code: 0 within all bounds, 1 beyond one, 2 bad input. "
        "example: ambient-audit out --train data/train --heldout data/test --max f_mem=0.01 --to audit",
    )
    arguments.add_argument(
        "model",
        metavar="MODEL",
        help="generated images (folder, zip, .npz, .npy), or models:/NAME@ALIAS, models:/NAME/3, runs:/RUN_ID/NAME, or "
        "a model's or checkpoint's folder",
    )
    images = arguments.add_argument_group("real images")
    images.add_argument(
        "--train",
        required=True,
        metavar="PATH",
        help="the training images: a path as above, or a named set (cifar10, ...)",
    )
    images.add_argument(
        "--subset", type=Path, metavar="LIST.json", help="a study's list of the images of --train that it trained on"
    )
    images.add_argument(
        "--heldout",
        metavar="PATH",
        help="real images that were not trained on: gives fidelity, C_T and nulls of its own",
    )
    images.add_argument("--resolution", type=int, metavar="N", help="centre crop and scale all images to N pixels")
    images.add_argument("--channels", type=int, choices=(1, 3), help="bring all images to grey or to colour")
    images.add_argument("--labels", default="auto", choices=("auto", "folders", "none"), help="as dataset.labels")
    images.add_argument("--skip-broken", action="store_true", help="leave broken files out and count them")
    _add_gate(arguments)
    _add_scoring(arguments)
    output = arguments.add_argument_group("output")
    output.add_argument(
        "--to", type=Path, metavar="FOLDER", help="write audit.json, audit.md, nearest.png and partial.png here"
    )
    output.add_argument(
        "--public", action="store_true", help="leave out the pictures and the names of training images, to publish it"
    )
    output.add_argument("--json", action="store_true", help="print audit.json to standard output, and no table")
    return arguments


def _add_gate(arguments: argparse.ArgumentParser) -> None:
    gate = arguments.add_argument_group("gate")
    gate.add_argument(
        "--max", action="append", default=[], metavar="MEASURE=VALUE",
        help="exit with 1 where a measure is above this; repeatable: f_mem, s_tau, partial, fd, ...",
    )  # fmt: skip
    gate.add_argument(
        "--min", action="append", default=[], metavar="MEASURE=VALUE",
        help="exit with 1 below this, for measures that are better where larger: authentic, c_t, recall, ...",
    )  # fmt: skip
    gate.add_argument("--max-memorization", metavar="VALUE", help="short for --max f_mem=VALUE")
    gate.add_argument(
        "--by", default="value", choices=("value", "upper"),
        help="what a bound is held against: the value (default) or the far end of its 95 %% interval: it must be shown",
    )  # fmt: skip


def _add_scoring(arguments: argparse.ArgumentParser) -> None:
    scoring = arguments.add_argument_group("scoring")
    scoring.add_argument("--n", type=int, default=1000, help="samples of a model (default: 1000)")
    scoring.add_argument("--seed", type=int, help="of a model's samples (default: one that its search did not use)")
    scoring.add_argument("--mirror", action=argparse.BooleanOptionalAction, help="mirror images count as copies")
    scoring.add_argument("--shift", type=int, metavar="PIXELS", help="so do images moved by up to so many pixels")
    scoring.add_argument(
        "--features", default="auto",
        help="efficientnet_lite0 (default), classifier, pixels, inception, dinov2, ..., or package.module.Class; for a "
        "model of a search: its own, where they need no weights",
    )  # fmt: skip
    scoring.add_argument(
        "--tau", type=float, help="similarity threshold of s_tau (default: real images' 99.9th percentile)"
    )
    scoring.add_argument("--weights", type=Path, help="file of weights, for inception or dinov2")
    scoring.add_argument("--sha256", help="digest that these weights must have")
    scoring.add_argument("--repo", type=Path, help="a clone of DINOv2's repository")
    scoring.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the features")
    scoring.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    scoring.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where the registry is (default: MLFLOW_TRACKING_URI, else ./outputs/mlflow.db)",
    )


if __name__ == "__main__":
    sys.exit(main())
