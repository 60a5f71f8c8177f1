"""What an audit leaves in its folder: audit.json, audit.md, and pictures of what looks most like a copy."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .errors import AuditFolderError
from .gate import Judged, Measure
from .scoring import Audit, own_scores, unlike_own
from .words import evidence, heading, interval, null, number, sentence, shown

FORMAT = 1
_NOT_PUBLIC = "The pictures show training images, and audit.json names them: `--public` leaves both out."
NEAREST, PARTIAL, JSON, MARKDOWN = "nearest.png", "partial.png", "audit.json", "audit.md"
LIMITS = (
    "No privacy guarantee is claimed. A small share says what these samples showed, not what the model could be made "
    "to show: whoever has the weights, or asks for it, may extract more.",
    "f_mem and partial compare pixel by pixel in the same place: copies that are shifted, mirrored, scaled, recoloured "
    "or put elsewhere are not seen, except mirrored and shifted ones with --mirror and --shift.",
    "s_tau and authentic see what the features see; a face, a name or a plate can be copied in an image that the "
    "features take for another.",
    "Near-duplicates in the training set hide copies from f_mem; exact duplicates were dropped.",
    "The intervals are over other samples of the same model or folder, drawn in the same way; other prompts, classes, "
    "samplers or guidance are other samples.",
)


def document(audit: Audit, *, command: str, at: str, public: bool = False) -> dict[str, Any]:
    """The audit as JSON: all scores, facts, hashes, bounds and the verdict.

    command: as it was given; at: UTC; public: without the names of training images, and the pictures that show them.
    """
    generated, real, nearest = audit.generated, audit.real, audit.scores.nearest
    copies = np.flatnonzero(nearest.ratio < audit.settings.k)
    partial = np.flatnonzero(nearest.partial.area >= 1 / 3 - 1e-9)
    model = None
    if generated.model is not None:
        model = {**generated.model, "scores_differ_by": list(unlike_own(audit))}
    content: dict[str, Any] = {
        "format": FORMAT,
        "verdict": audit.verdict,
        "exit_code": int(audit.verdict == "failed"),
        "summary": sentence(audit),
        "judged_by": audit.by,
        "bounds": [_bound(one) for one in audit.judged],
        "measures": {name: _measure(measure) for name, measure in audit.measures.items()},
        "not_measured": dict(audit.missing),
        "notes": [*audit.notes, *evidence(audit)],
        "generated": {
            "source": generated.source, "n": len(generated.images), "different": generated.different,
            "shape": list(generated.images.shape[1:]), "content_hash": generated.content_hash,
            "skipped": list(generated.skipped), "model": model,
        },
        "train": {
            "source": real.source, "subset": real.subset, "n": len(real.train), "content_hash": real.train.content_hash,
            "duplicates_dropped": real.duplicates,
            "near_duplicates": {
                "images": audit.near.images,
                "pairs": [[real.train.ids[i], real.train.ids[j]] for i, j in audit.near.pairs[:1000].tolist()],
            },
        },
        "heldout": None if real.heldout is None else {
            "source": real.heldout_source, "n": len(real.heldout), "content_hash": real.heldout.content_hash,
            "equal_to_training_images": real.trained_on,
        },
        "copies": [_copy(audit, i, int(nearest.index[i]), "ratio", float(nearest.ratio[i])) for i in copies.tolist()],
        "partial_copies": [
            _copy(audit, i, int(nearest.partial.index[i]), "area", float(nearest.partial.area[i]))
            for i in partial.tolist()
        ],
        "scores": dict(audit.scores.values),
        "facts": dict(audit.scores.facts),
        "limits": list(LIMITS),
        "command": command,
        "at": at,
        "versions": versions(),
    }  # fmt: skip
    if public:
        del content["train"]["near_duplicates"]["pairs"]
        for one in (*content["copies"], *content["partial_copies"]):
            del one["train"]
    return {key: _plain(value) for key, value in content.items()}


def write_report(audit: Audit, content: Mapping[str, Any], folder: Path, *, public: bool = False) -> None:
    """Write nearest.png, partial.png (where a part is copied), audit.md and audit.json. Raises AuditFolderError.

    public: no pictures, as they show training images; those of an earlier audit are removed.
    """
    try:
        for name in (NEAREST, PARTIAL):
            (folder / name).unlink(missing_ok=True)
        drawn = {} if public else _draw(audit, folder)
        (folder / MARKDOWN).write_text(markdown(audit, content, drawn), encoding="utf-8")
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        (folder / JSON).write_text(text, encoding="utf-8")
    except OSError as error:
        raise AuditFolderError(f"--to {folder} cannot be written to: {error.strerror or error}") from error


def _draw(audit: Audit, folder: Path) -> dict[str, str]:
    """The pictures: file -> what it shows."""
    from ambient_ray.tracking.drawing.galleries import nearest_gallery, partial_gallery

    images, nearest, train = audit.generated.images, audit.scores.nearest, audit.real.train.images
    nearest_gallery(
        images, train[nearest.index], nearest.ratio, folder / NEAREST,
        similarity=nearest.similarity, order=nearest.most_similar_first(),
    )  # fmt: skip
    drawn = {NEAREST: "Generated images and their nearest training images"}
    if partial_gallery(images, train, nearest.partial, folder / PARTIAL) is not None:
        drawn[PARTIAL] = "Parts that come from a training image"
    return drawn


def markdown(audit: Audit, content: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """The audit on one page of Markdown. pictures: files beside it, and what each shows."""
    lines = [
        "# Memorization audit",
        "",
        f"**{sentence(audit)}**",
        "",
        f"{_escaped(heading(audit))}, {content['at']}.",
        "",
        *_rows(audit),
        "",
        _of_real(audit),
        "",
        *[f"- {_escaped(_sentence(note))}" for note in content["notes"]],
        *_own_lines(audit),
        "",
        *[line for name, shows in pictures.items() for line in (f"![{shows}]({name})", "")],
        *([_NOT_PUBLIC, ""] if pictures else []),
        "## What this does not show",
        "",
        *[f"- {limit}" for limit in LIMITS],
        "",
        "## How it was made",
        "",
        *_provenance(audit, content),
        "",
    ]
    return "\n".join(lines)


def _rows(audit: Audit) -> list[str]:
    """The table: header, rule, a line for each measure."""
    own, judged = own_scores(audit), {one.measure.name: one for one in audit.judged}
    header = ["measure", "value [95 % interval]", "real images", *(["model's own"] if own else [])]
    rows = [[*header, "bound", "verdict", "what it is"], ["---", *["---:"] * (len(header) - 1), "---", "---", "---"]]
    for name, (measure, about) in shown(audit).items():
        verdict = judged.get(name)
        figures = f"{number(measure.value)} {interval(measure)}".replace(" ", "\u00a0")  # kept on one line
        cells = [f"`{name}`", figures, null(measure)]
        cells += [number(own[name]) if name in own else ""] if own else []
        cells += [verdict.bound.text, f"**{verdict.word}**"] if verdict else ["", ""]
        rows.append([*cells, about])
    return ["| " + " | ".join(row) + " |" for row in rows]


def versions() -> dict[str, str]:
    """Of ambient-ray, Python, and the packages that decide the figures."""
    packages = ("ambient-ray", "torch", "numpy", "pillow")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def _of_real(audit: Audit) -> str:
    """What the column of real images holds, in a sentence."""
    real = audit.real
    if real.heldout is None:
        return "Real images: the training images themselves, each tenth compared with the other nine."
    return (
        f"Real images: the same figure of {len(real.heldout):,} real images that were not trained on "
        f"({_escaped(str(real.heldout_source))})."
    )


def _own_lines(audit: Audit) -> list[str]:
    if not own_scores(audit):
        return []
    differing = unlike_own(audit)
    told = f"taken with another {', '.join(differing)}" if differing else "taken in the same way"
    own = (audit.generated.model or {})["facts"]
    told += f", of {own.get('n', 'an unknown number of')} other samples"
    if own.get("latent_seed") == audit.scores.facts.get("latent_seed"):
        told = told.replace(" other samples", " samples of the same seed")
    return [f"- The model's own figures are those of its search, {told}."]


def _provenance(audit: Audit, content: Mapping[str, Any]) -> list[str]:
    generated, train, heldout, facts = content["generated"], content["train"], content["heldout"], content["facts"]
    subset = f", the images of {train['subset']}" if train["subset"] else ""
    lines = [
        f"- generated: `{generated['source']}`, content {generated['content_hash'][:16]}"
        + (f", seed {generated['model']['seed']}" if generated["model"] else ""),
        f"- training images: `{train['source']}`{_escaped(subset)}, content {train['content_hash'][:16]}",
        f"- features: {facts['extractor']} ({facts['weight_hash'][:12]}), k = {facts['k']:.3g}, "
        f"tau = {facts['tau']:.4g} ({facts['tau_rule']}), mirror {facts['mirror']}, shift {facts.get('shift', 0)}",
        "- " + ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
        f"- `{content['command']}`",
        f"- all figures, hashes and the list of copies: [{JSON}]({JSON})",
    ]
    if heldout is not None:
        lines.insert(2, f"- held-out images: {_escaped(heldout['source'])}, content {heldout['content_hash'][:16]}")
    return lines


def _bound(one: Judged) -> dict[str, Any]:
    return {
        "measure": one.measure.name, "limit": one.bound.limit, "kind": "min" if one.bound.least else "max",
        "passed": one.passed, "shown": one.shown, "word": one.word, "samples_needed": one.needed,
        **_measure(one.measure),
    }  # fmt: skip


def _measure(measure: Measure) -> dict[str, float | None]:
    return {"value": measure.value, "low": measure.low, "high": measure.high, "null": measure.null}


def _copy(audit: Audit, sample: int, original: int, key: str, value: float) -> dict[str, Any]:
    return {"sample": audit.generated.ids[sample], "train": audit.real.train.ids[original], key: value}


def _plain(value: Any) -> Any:
    """JSON has no nan and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    """A note as a sentence; a measure's name at its beginning stays as it is written."""
    return (text if "_" in text.split(" ", 1)[0] else text[0].upper() + text[1:]) + "."
