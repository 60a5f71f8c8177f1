"""What may be chosen for one setting of a search: a range or choices, read from a search space's file."""

import difflib
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from ambient_ray.errors import UserError

from .plain_yaml import cut, shown

#: Settings with a range outside of which training makes no sense: name -> (lowest, highest, what it is).
LIMITS: dict[str, tuple[float, float, str]] = {
    "sigma_tn": (0.0, math.inf, "a noise level, 0 or above"),
    "noisy_ratio": (0.0, 1.0, "a share, from 0 to 1"),
    "dropout": (0.0, 1.0, "a probability, from 0 to 1"),
    "lr": (0.0, math.inf, "above 0"),
    "weight_decay": (0.0, math.inf, "0 or above"),
    "n_train": (3, math.inf, "a number of images, 3 or more"),
    "width": (0.0, math.inf, "a multiple of the network's width, above 0"),
    "depth": (0.0, math.inf, "a multiple of the network's depth, above 0"),
}
_ABOVE_ZERO = frozenset({"lr", "width", "depth"})
#: The keys that describe a parameter in a file.
PARTS = ("choices", "low", "high", "log", "integer", "prior", "spread", "when")


class SearchSpaceError(UserError):
    """A search space that cannot be searched: unknown name, unknown parameter, impossible range."""


@dataclass(frozen=True)
class Range:
    """A number to search: low <= value <= high, evenly on a linear or logarithmic scale.

    Attributes:
        low: the smallest value.
        high: the largest.
        log: whether the scale is logarithmic.
        integer: whether values are whole numbers.
        prior: where the user believes the best value to be; None: no belief.
        spread: the belief's standard deviation, as a share of the range on its scale, in (0, 1].
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    prior: float | None = None
    spread: float = 0.15

    def contains(self, value: object) -> bool:
        """Whether a value lies within the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.integer or value == int(value))

    def describe(self) -> dict[str, Any]:
        """What may be chosen, without beliefs."""
        return {"low": self.low, "high": self.high, "log": self.log, "integer": self.integer}

    def __str__(self) -> str:
        """Low to high, for messages."""
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        choices: the values.
        prior: the one that the user believes in; None: no belief.
    """

    choices: tuple[str | int | float | bool, ...]
    prior: str | int | float | bool | None = None

    def contains(self, value: object) -> bool:
        """Whether a value is one of the choices."""
        return find_choice(self.choices, value) is not None

    def describe(self) -> dict[str, Any]:
        """What may be chosen, without beliefs."""
        return {"choices": self.choices}

    def __str__(self) -> str:
        """The choices, for messages."""
        return "one of " + cut(", ".join(str(choice) for choice in self.choices))


Parameter = Range | Choice


def find_choice(choices: Sequence[Any], value: object) -> int | None:
    """The place of a value among choices; true is not 1 here, 1.0 is."""
    for place, choice in enumerate(choices):
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return place
    return None


def meant(name: str, known: Collection[str], introduction: str) -> str:
    """The end of a message about an unknown name: what was probably meant, and the names that there are."""
    close = difflib.get_close_matches(cut(name), list(known), n=1)
    guess = f" did you mean {close[0]}?" if close else ""
    return f"{guess} {introduction} {', '.join(sorted(known))}"


def read_parameter(where: str, name: str, raw: object) -> Parameter:
    """A parameter from a file's content. Raises SearchSpaceError; `where` names the file in its text."""
    if isinstance(raw, Mapping) and {"choices"} <= set(raw) <= {"choices", "prior", "when"}:
        return _choice(where, name, raw)
    if not isinstance(raw, Mapping) or not {"low", "high"} <= set(raw) <= set(PARTS) - {"choices"}:
        raise SearchSpaceError(
            f"{where}: {name} must be {{low, high}} with log, integer, prior, spread and when if wanted, or"
            f" {{choices: [...]}} with prior and when; got {shown(raw)}"
        )
    low, high = raw["low"], raw["high"]
    if not all(is_number(v) for v in (low, high)):
        raise SearchSpaceError(
            f"{where}: the range of {name} must be two numbers, got low={shown(low)}, high={shown(high)}"
        )
    for end in (low, high):
        _check_limits(where, name, end)
    if low >= high:
        raise SearchSpaceError(
            f"{where}: the range of {name} is reversed or empty: low={low}, high={high}; low must be below high"
        )
    if not is_number(high - low):
        raise SearchSpaceError(
            f"{where}: the range of {name} is wider than a number can be, got low={low}, high={high}"
        )
    log, integer = raw.get("log", False), raw.get("integer", False)
    if not isinstance(log, bool) or not isinstance(integer, bool):
        raise SearchSpaceError(
            f"{where}: log and integer of {name} must be true or false, got log={shown(log)}, integer={shown(integer)}"
        )
    if log and low <= 0:
        raise SearchSpaceError(f"{where}: {name} is searched on a logarithmic scale, so low must be above 0, got {low}")
    if integer and not (low == int(low) and high == int(high)):
        raise SearchSpaceError(f"{where}: {name} is a whole number, so its ends must be, got low={low}, high={high}")
    span = Range(float(low), float(high), log, integer)
    prior, spread = raw.get("prior"), raw.get("spread", span.spread)
    if prior is not None and not span.contains(prior):
        whole = " and a whole number" if integer else ""
        raise SearchSpaceError(
            f"{where}: the prior of {name} must lie within its range, {span}{whole}, got {shown(prior)}"
        )
    if not is_number(spread) or not 0 < spread <= 1:
        raise SearchSpaceError(
            f"{where}: the spread of {name} is a share of its range, above 0 and at most 1, got {shown(spread)}"
        )
    if prior is None and "spread" in raw:
        raise SearchSpaceError(f"{where}: {name} has a spread but no prior to spread around; give both or neither")
    return replace(span, prior=None if prior is None else float(prior), spread=float(spread))


def _choice(where: str, name: str, raw: Mapping[str, Any]) -> Choice:
    choices, prior = raw["choices"], raw.get("prior")
    if (
        not isinstance(choices, list)
        or not choices
        or not all(isinstance(c, str | bool) or is_number(c) for c in choices)
    ):
        raise SearchSpaceError(f"{where}: {name}.choices must be a list of numbers or words, got {shown(choices)}")
    for choice in choices:
        _check_limits(where, name, choice)
    if prior is not None and find_choice(choices, prior) is None:
        listed = cut(", ".join(str(choice) for choice in choices))
        raise SearchSpaceError(f"{where}: the prior of {name} must be one of its choices, {listed}, got {shown(prior)}")
    return Choice(tuple(choices), prior)


def read_condition(
    where: str, name: str, raw: object, parameters: Mapping[str, Parameter]
) -> dict[str, tuple[Any, ...]]:
    """The content of `when`: {parent: values under which the parameter exists}. Raises SearchSpaceError."""
    if not isinstance(raw, Mapping):
        raise SearchSpaceError(f"{where}: {name}.when must be {{parameter: value or list of values}}, got {shown(raw)}")
    found: dict[str, tuple[Any, ...]] = {}
    for parent, wanted in raw.items():
        if parent not in parameters:
            raise SearchSpaceError(
                f"{where}: {name}.when names {shown(parent)}, which this space does not search;"
                f"{meant(str(parent), parameters, 'it searches')}"
            )
        above = parameters[parent]
        if not isinstance(above, Choice):
            raise SearchSpaceError(
                f"{where}: {name}.when names {parent}, which has a range; only one with choices decides what exists"
            )
        values = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        bad = [value for value in values if not above.contains(value)]
        if bad or not values:
            raise SearchSpaceError(
                f"{where}: {name}.when: {parent} must be {above}, got {shown(bad[0] if bad else wanted)}"
            )
        found[str(parent)] = values
    return found


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that fits a float: YAML and JSON have integers of any length."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _check_limits(where: str, name: str, value: object) -> None:
    if name not in LIMITS or not isinstance(value, int | float):
        return
    lowest, highest, meaning = LIMITS[name]
    if not lowest <= value <= highest or (name in _ABOVE_ZERO and value == 0):
        raise SearchSpaceError(f"{where}: {name}={shown(value)} is out of range; {name} is {meaning}")
