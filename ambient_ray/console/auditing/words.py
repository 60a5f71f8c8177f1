"""What is said about an audit: the table and the sentences, on the terminal and in the report."""

import math

from rich import box
from rich.table import Table
from rich.text import Text

from .gate import Judged, Measure
from .scoring import Audit, own_scores

#: In this order, with what each is. {fd}: the Frechet distance's name with the audit's features.
SHOWN = {
    "f_mem": "samples three times nearer to one training image than to any other (pixels)",
    "f_mem_half": "the same, twice as near",
    "s_tau": "samples more similar to a training image than real images are (features)",
    "partial": "samples with a third of their area or more from one training image",
    "ums": "different training images copied, over the samples",
    "train_coverage": "share of the training set that is copied",
    "authentic": "AuthPct: samples further from a training image than its own neighbours; higher is better",
    "c_t": "C_T: far below 0, samples lie nearer to the training set than held-out images do",
    "{fd}": "Frechet distance to the held-out images",
    "{fd}_inf": "its limit for infinitely many samples",
    "kid": "kernel distance to the held-out images",
    "precision": "samples among held-out images; higher is better",
    "recall": "held-out images among samples; higher is better",
}


def shown(audit: Audit) -> dict[str, tuple[Measure, str]]:
    """The measures of the table with what each is: the usual ones that there are, and whatever else has a bound."""
    rows = {}
    for pattern, about in SHOWN.items():
        name = pattern.format(fd=audit.fidelity)
        if name in audit.measures:
            rows[name] = (audit.measures[name], about)
    for one in audit.judged:
        rows.setdefault(one.measure.name, (one.measure, ""))
    return rows


def table(audit: Audit, *, narrow: bool = False) -> Table:
    """The measures with interval, null, bound and verdict; a model's own figures, where it has any, beside them.

    narrow: for 80 columns, the bound and its verdict below the value.
    """
    own, judged = own_scores(audit), {one.measure.name: one for one in audit.judged}
    made = Table(title=Text(heading(audit)), title_justify="left", box=box.SIMPLE_HEAD)
    made.add_column("measure", no_wrap=True)
    made.add_column("value [95 % interval]", no_wrap=True)
    made.add_column("real images", justify="right")
    if own:
        made.add_column("model's own", justify="right")
    for name in () if narrow else ("bound", "verdict"):
        made.add_column(name, no_wrap=True)
    for name, (measure, _) in shown(audit).items():
        value, bound, verdict = Text(f"{number(measure.value)} {interval(measure)}"), "", Text()
        if (one := judged.get(name)) is not None:
            bound = f"{'≥' if one.bound.least else '≤'} {one.bound.limit:g}"
            verdict = Text(one.word, style="green" if one.passed else "bold red")
            value = Text("\n").join([value, Text(f"{bound}: ") + verdict]) if narrow else value
        made.add_row(
            name, value, null(measure),
            *([number(own[name]) if name in own else ""] if own else []),
            *(() if narrow else (bound, verdict)),
        )  # fmt: skip
    return made


def heading(audit: Audit) -> str:
    """`200 images of out against 300 training images`."""
    return (
        f"{len(audit.generated.images):,} images of {audit.generated.source} against {len(audit.real.train):,} training"
        f" images of {audit.real.source}"
    )


def sentence(audit: Audit) -> str:
    """The verdict in one sentence."""
    if not audit.judged:
        return "Nothing was gated: no bound was given (--max MEASURE=VALUE)."
    failed = [one for one in audit.judged if not one.passed]
    judged = "by the values" if audit.by == "value" else "by the ends of the 95 % intervals"
    if not failed:
        return f"Passed {judged}: " + "; ".join(_said(one) for one in audit.judged) + "."
    return f"FAILED {judged}: " + "; ".join(_said(one) for one in failed) + "."


def evidence(audit: Audit) -> list[str]:
    """For each bound within which a share lies without being shown to: what would show it."""
    told, n = [], len(audit.generated.images)
    for one in audit.judged:
        if one.measure.value == one.bound.limit and not one.shown:
            told.append(f"{one.measure.name} is at its bound, which no number of samples can show it to stay within")
        if one.needed is not None:
            at = "no copies" if one.measure.value == 0 else f"a share of {number(one.measure.value)}"
            told.append(
                f"{one.measure.name} is within its bound, but {n:,} samples do not show it: at {at} it takes "
                f"{one.needed:,} samples for the 95 % interval to end at {one.bound.limit:g}"
            )
    return told


def number(value: float) -> str:
    """A figure in a table: 0.0125, 34.2, 0, -8.4e-05."""
    if not math.isfinite(value):
        return "not a number"
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.2g}"


def _said(one: Judged) -> str:
    measure, bound = one.measure, one.bound
    end = measure.low if bound.least else measure.high
    what = f"{measure.name} is {number(measure.value)} [{number(measure.low)}, {number(measure.high)}], {bound.text}"
    if one.passed:
        return what if one.shown else f"{what} (not shown: its interval reaches {number(end)})"
    return f"{what} was allowed" if bound.least is False else f"{what} was asked for"


def interval(measure: Measure) -> str:
    """`[0.01, 0.03]`."""
    return f"[{number(measure.low)}, {number(measure.high)}]"


def null(measure: Measure) -> str:
    """The figure of real images; empty where there is none."""
    return "" if measure.null is None else number(measure.null)
