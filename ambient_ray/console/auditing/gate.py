"""The release gate: measures of an audit against the bounds that a user gives.

What it judges by is a choice. By the value (the default): a measure fails where what was measured lies beyond the
bound. It is the number that people read in tables and in the search's report, it makes f_mem=0 a demand that can be
met ("none of these samples"), and it fails for copies only, never for a lack of samples. Its price: a handful of
samples passes nearly any bound. So every verdict also says whether the 95 % interval lies wholly on that side
("shown") or not, and how many samples would show it. By the upper end: a measure passes only where it is shown to stay
within, so that a lack of evidence fails. That is what a claim about a release needs, with a bound that the number of
samples can carry: with no copy in n samples, Wilson's interval reaches 3.84 / (n + 3.84).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ambient_ray.errors import UserError

By = Literal["value", "upper"]
#: Shares of the samples with Wilson's interval: of these, more samples narrow it in a known way.
SHARES = (
    "f_mem",
    "f_mem_half",
    "f_mem_quarter",
    "s_tau",
    "s_tau_850",
    "s_tau_875",
    "s_tau_900",
    "partial",
    "authentic",
)
_COUNTS = ("ums", "train_coverage", "ums_tau", "train_coverage_tau")
_WITH_HELDOUT = ("c_t", "kid", "precision", "recall", "density", "coverage")
#: Names of the Frechet distances without the extractor's, as the search has them.
_DISTANCES = ("fd", "fd_inf", "mi_fd")
_FRACTIONS = frozenset({*SHARES, *_COUNTS, "precision", "recall", "coverage"})
#: Measures that are better where they are larger (`ambient_ray.evaluation.LARGER_IS_BETTER`, without its import).
LARGER_IS_BETTER = ("precision", "recall", "density", "coverage", "authentic", "c_t")
_Z2 = 1.959963984540054**2


class BoundError(UserError):
    """A bound that is no bound: its form, its measure or its value."""


@dataclass(frozen=True)
class Bound:
    """The measure may be at most `limit`; with least=True at least."""

    measure: str
    limit: float
    least: bool = False

    @property
    def text(self) -> str:
        """`at most 0.01`."""
        return f"at {'least' if self.least else 'most'} {self.limit:g}"


@dataclass(frozen=True)
class Measure:
    """A score with its 95 % interval, and the same figure of real images that were not copied (None: there is none)."""

    name: str
    value: float
    low: float
    high: float
    null: float | None = None


@dataclass(frozen=True)
class Judged:
    """A bound and what was measured. shown: the 95 % interval lies wholly on the value's side of the bound.

    needed: how many samples would show it at this value, where it is a share within its bound but not shown; else None.
    """

    bound: Bound
    measure: Measure
    passed: bool
    shown: bool
    needed: int | None = None

    @property
    def word(self) -> str:
        """`passed, shown`, `passed, not shown`, `failed, shown` or `failed, not shown`."""
        return f"{'passed' if self.passed else 'failed'}, {'shown' if self.shown else 'not shown'}"


def parse_bounds(most: Sequence[str], least: Sequence[str]) -> list[Bound]:
    """Bounds from MEASURE=VALUE; names are checked as far as they can be without the extractor. Raises BoundError."""
    bounds: list[Bound] = []
    for option, texts in (("--max", most), ("--min", least)):
        for text in texts:
            bound = _parsed(text, option)
            if any(bound.measure == other.measure for other in bounds):
                raise BoundError(f"{option} {text}: {bound.measure} has a bound already; give one")
            bounds.append(bound)
    return bounds


def _parsed(text: str, option: str) -> Bound:
    name, equals, number = text.partition("=")
    name = name.strip()
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not equals or not name or not math.isfinite(limit):
        raise BoundError(f"{option} {text}: expected MEASURE=VALUE, e.g. {option} f_mem=0.01")
    known = (*SHARES, *_COUNTS, *_WITH_HELDOUT, *_DISTANCES)
    if name not in known and not name.startswith(("fd_", "fid", "mi_f")):
        raise BoundError(f"{option} {text}: there is no measure {name!r}; there are {', '.join(known)}")
    if (name in LARGER_IS_BETTER) != (option == "--min"):
        better, other = ("larger", "--min") if name in LARGER_IS_BETTER else ("smaller", "--max")
        raise BoundError(f"{option} {text}: {name} is better where it is {better}; bound it by {other}")
    if name in _FRACTIONS and not 0 <= limit <= 1:
        raise BoundError(f"{option} {text}: {name} is a share; give a bound from 0 to 1")
    return Bound(name, limit, option == "--min")


def measures(values: Mapping[str, float]) -> dict[str, Measure]:
    """Every score that has an interval, by name, from the flat values of `ambient_ray.evaluation.evaluate`."""
    found = {}
    for name in (key.removesuffix("_low") for key in values if key.endswith("_low")):
        if name in values and f"{name}_high" in values:
            null = values.get(name.replace("s_tau", "s_null") if name.startswith("s_tau") else f"{name}_heldout")
            if name not in {*SHARES, *_COUNTS, "c_t"}:
                null = None  # `fd_..._heldout` is the distance to held-out images, not theirs to anything
            found[name] = Measure(name, values[name], values[f"{name}_low"], values[f"{name}_high"], null)
    return found


def named(bounds: Iterable[Bound], fidelity: str, missing: Mapping[str, str]) -> list[Bound]:
    """The bounds with fd, fd_inf and mi_fd by their extractor's names.

    fidelity: the Frechet distance's key; missing: why measures that this audit cannot have are not there (fd for all
    that begin so). Raises BoundError for a measure that this audit cannot have.
    """
    full = {"fd": fidelity, "fd_inf": f"{fidelity}_inf", "mi_fd": f"mi_{fidelity}"}
    possible = {*SHARES, *_COUNTS, *_WITH_HELDOUT, *full.values()}
    result = []
    for bound in bounds:
        name = full.get(bound.measure, bound.measure)
        if name not in possible:
            raise BoundError(
                f"{bound.measure}: with its features this audit measures {', '.join(full.values())}; bound one of them,"
                " or choose other --features"
            )
        short = next((short for short, long in full.items() if long == name), name)
        if short in missing:
            raise BoundError(f"{bound.measure} cannot be bounded: {missing[short]}")
        result.append(Bound(name, bound.limit, bound.least))
    return result


def judge(bounds: Iterable[Bound], found: Mapping[str, Measure], by: By) -> list[Judged]:
    """Each bound's verdict. Raises BoundError for a measure that was not computed (too few images for it)."""
    judged = []
    for bound in bounds:
        measure = found.get(bound.measure)
        if measure is None:
            raise BoundError(f"{bound.measure} cannot be judged: there are too few images for it")
        judged.append(_judge(bound, measure, by))
    return judged


def _judge(bound: Bound, measure: Measure, by: By) -> Judged:
    near, far = (measure.high, measure.low) if bound.least else (measure.low, measure.high)

    def within(value: float) -> bool:  # False for nan: what could not be computed never passes
        return value >= bound.limit if bound.least else value <= bound.limit

    inside = within(measure.value)
    surely_in, surely_out = inside and within(far), not (inside or within(near) or math.isnan(near))
    needed = None
    if inside and not surely_in and measure.name in SHARES:
        needed = samples_needed(measure.value, bound.limit)
    return Judged(bound, measure, surely_in if by == "upper" else inside, surely_in or surely_out, needed)


def samples_needed(share: float, limit: float) -> int | None:
    """So many samples put the limit at the end of Wilson's 95 % interval of this share; None where none do.

    From |share - limit| = z sqrt(limit (1 - limit) / n), whose solutions in limit are Wilson's ends. With share = 0
    that is n = 3.84 (1 - limit) / limit, the rule of three's two-sided sister: 381 samples for 1 %.
    """
    if share == limit or not 0 < limit < 1:
        return None
    return math.ceil(_Z2 * limit * (1 - limit) / (share - limit) ** 2 - 1e-9)
