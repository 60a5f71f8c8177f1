"""Points of a search space: which values belong to one, a grid of them, draws from a belief, Optuna's words."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from .space import Choice, Parameter, Space


def values_in(space: Space, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """A configuration's values of the space's active parameters; None when one is missing or outside of its range."""
    values: dict[str, Any] = {}
    for name in space.order:
        if space.active(name, {**space.fixed, **values}):
            if name not in settings or not space.parameters[name].contains(settings[name]):
                return None
            values[name] = settings[name]
    return values


def grid_points(space: Space, points: int) -> list[dict[str, Any]]:
    """All combinations of every choice and of `points` values along each range, ends included; each once.

    A parameter that is not active in a combination is not part of it.
    """
    found: list[dict[str, Any]] = [{}]
    for name in space.order:
        grown = []
        for point in found:
            if space.active(name, {**space.fixed, **point}):
                grown += [{**point, name: value} for value in _along(space.parameters[name], points)]
            else:
                grown.append(point)
        found = grown
    return found


def _along(parameter: Parameter, points: int) -> list[Any]:
    if isinstance(parameter, Choice):
        return list(parameter.choices)
    scale: Callable[..., Any] = np.geomspace if parameter.log else np.linspace
    values = [float(v) for v in scale(parameter.low, parameter.high, max(2, points))]
    values[0], values[-1] = parameter.low, parameter.high
    return sorted({round(v) for v in values}) if parameter.integer else values


def value_at(parameter: Parameter, unit: float) -> Any:
    """The value at a coordinate in [0, 1], on the parameter's scale."""
    if isinstance(parameter, Choice):
        return parameter.choices[min(int(unit * len(parameter.choices)), len(parameter.choices) - 1)]
    low, high = (math.log(v) if parameter.log else v for v in (parameter.low, parameter.high))
    value = low + unit * (high - low)
    value = min(max(math.exp(value) if parameter.log else value, parameter.low), parameter.high)
    return round(value) if parameter.integer else float(value)


def point_at(space: Space, unit: Sequence[float]) -> dict[str, Any]:
    """The point at one coordinate in [0, 1] a parameter, in the space's order; inactive parameters are left out."""
    point: dict[str, Any] = {}
    for name, coordinate in zip(space.order, unit, strict=True):
        if space.active(name, {**space.fixed, **point}):
            point[name] = value_at(space.parameters[name], float(coordinate))
    return point


def uniform(rng: np.random.Generator, space: Space) -> dict[str, Any]:
    """A point drawn evenly over the space, on each parameter's scale."""
    return point_at(space, rng.random(len(space.order)).tolist())


def draw(rng: np.random.Generator, parameter: Parameter) -> Any:
    """A value from a belief: normal around it on its scale, cut off at the range; a choice thrice as likely."""
    if isinstance(parameter, Choice):
        weights = np.array([3.0 if choice == parameter.prior else 1.0 for choice in parameter.choices])
        return parameter.choices[int(rng.choice(len(weights), p=weights / weights.sum()))]
    assert parameter.prior is not None
    low, high, middle = (
        (math.log(v) if parameter.log else v) for v in (parameter.low, parameter.high, parameter.prior)
    )
    while True:
        drawn = rng.normal(middle, parameter.spread * (high - low))
        if low <= drawn <= high:
            break
    value = min(max(math.exp(drawn) if parameter.log else drawn, parameter.low), parameter.high)
    return round(value) if parameter.integer else float(value)


def distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter in Optuna's words."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.choices)
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
