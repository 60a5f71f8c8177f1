"""What each score is, in a reader's words, and the tables of all scores of a few models beside their nulls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ambient_ray.interval import Interval
from ambient_ray.tuning.records import Candidate

from ..tables import Column, Table

_USEFUL_NULL = 0.5  # a share that held-out images reach too says nothing


@dataclass(frozen=True)
class Measure:
    """A score. words: what it is; null: the score that held-out real images have; larger: whether larger is better."""

    key: str
    words: str
    null: str = ""
    larger: bool = False


COPYING = (
    Measure("f_mem", "samples 3 times nearer to one training image than to any other, in pixels", "f_mem_heldout"),
    Measure("f_mem_half", "the same, 2 times nearer", "f_mem_half_heldout"),
    Measure("f_mem_quarter", "the same, 4 times nearer", "f_mem_quarter_heldout"),
    Measure("s_tau", "samples more similar to a training image than 99.9 % of held-out images, in features", "s_null"),
    Measure("s_tau_850", "samples with a cosine above .85 to a training image, in features", "s_null_850"),
    Measure("s_tau_875", "the same, above .875", "s_null_875"),
    Measure("s_tau_900", "the same, above .9", "s_null_900"),
    Measure("ums", "different training images that are copied, by `f_mem`, over the samples", "ums_heldout"),
    Measure("train_coverage", "training images of which some sample is a copy, by `f_mem`", "train_coverage_heldout"),
    Measure("ums_tau", "different training images that are copied, by `s_tau`, over the samples", "ums_tau_heldout"),
    Measure("train_coverage_tau", "training images of which some sample is a copy, by `s_tau`",
            "train_coverage_tau_heldout"),
    Measure("partial", "samples with a third or more of their area from one training image", "partial_heldout"),
    Measure("authentic", "AuthPct: samples further from their nearest training image than that is from its own",
            "authentic_heldout", larger=True),
    Measure("c_t", "C_T: z score of samples lying nearer to the training set than held-out images do; far below 0 is "
            "copying", "c_t_heldout", larger=True),
    Measure("gap", "held-out less training denoising loss"),
)  # fmt: skip


def fidelity_measures(fidelity: str) -> tuple[Measure, ...]:
    """The measures of quality, with the Frechet distance's names as this study has them.

    fidelity: the study's objective, `fd_NAME`, `fid`, or one of their kin.
    """
    key = fidelity.removeprefix("mi_").removesuffix("_inf")
    found = [
        Measure(key, "Fréchet distance to the reference images"),
        Measure(f"{key}_inf", "its limit for infinitely many samples"),
        Measure(f"mi_{key}", "MiFID: the same over the distance to the training set, where that is unusually low"),
        Measure("kid", "unbiased kernel distance"),
        Measure("precision", "samples that lie among the reference images", larger=True),
        Measure("density", "how densely the reference images lie there", larger=True),
        Measure("recall", "reference images that lie among the samples", larger=True),
        Measure("coverage", "reference images with a sample near them", larger=True),
    ]
    return tuple(found)


def described(score: str) -> str:
    """A score in words, `the share of` being said where it is one; empty for one that nobody described."""
    distance = score.removeprefix("mi_").startswith(("fd", "fid"))
    for measure in (*COPYING, *fidelity_measures(score if distance else "fd")):
        if measure.key == score:
            share = measure in COPYING and score not in ("c_t", "gap")
            return f"the share of {measure.words}" if share else f"the {measure.words}".replace("the its", "its")
    return ""


def measure_table(
    caption: str, measures: Sequence[Measure], models: Sequence[tuple[str, Candidate]], notes: str = ""
) -> Table:
    """All measures of a few models, a row each, with 95 % intervals over samples, and held-out real images' own.

    Measures that no model has are left out, and shares at thresholds that half of the held-out images pass as well.

    Args:
        caption: of the table.
        measures: in order.
        models: a heading and the scored run of each, at least one.
        notes: below the caption.
    """
    with_null = any(m.null for m in measures)
    rows = []
    for measure in measures:
        scores = [candidate.rung.scores for _, candidate in models]
        if not any(measure.key in s for s in scores) or (
            measure.key.startswith("s_tau_") and scores[0].get(measure.null, 0.0) > _USEFUL_NULL
        ):
            continue
        words = f"`{measure.key}` {measure.words}" + (" (larger is better)" if measure.larger else "")
        shown = [_value(candidate, measure.key) for _, candidate in models]
        null = next((s[measure.null] for s in scores if measure.null in s), None)
        rows.append((words, *shown, *(["–" if null is None else number(null)] if with_null else [])))
    names = ["measure", *[name for name, _ in models], *(["held-out images"] if with_null else [])]
    return Table(caption, tuple(Column(name, i > 0) for i, name in enumerate(names)), tuple(rows), notes=notes)


def number(value: float) -> str:
    """Three decimals below 1, as shares are; fewer the larger it is."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    return f"{value:,.{3 if size < 1 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def _value(candidate: Candidate, key: str) -> str:
    scores = candidate.rung.scores
    if key not in scores:
        return "–"
    interval = Interval(scores[key], scores.get(f"{key}_low"), scores.get(f"{key}_high"))
    if interval.low is None or interval.high is None:
        return number(interval.mean)
    return f"{number(interval.mean)} [{number(interval.low)}, {number(interval.high)}]"
