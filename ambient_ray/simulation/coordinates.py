"""A search space as a unit cube: the coordinates in which recorded configurations are near to or far from another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ambient_ray.tuning.points import value_at
from ambient_ray.tuning.space import Choice, Parameter, Range, Space


def described_space(description: Mapping[str, Any], name: str = "recorded") -> Space:
    """A space from what `Space.describe` wrote (a recording's metadata, a study's attributes).

    Args:
        description: {"parameters": {name: {"low", "high", ...} or {"choices"}}, "fixed", "baselines"}.
        name: the space's name, unless the description has one.

    Raises:
        ValueError: a parameter that is neither a range nor a choice.
    """
    parameters = {key: _parameter(key, content) for key, content in description["parameters"].items()}
    baselines = tuple(dict(baseline) for baseline in description.get("baselines", ()))
    return Space(str(description.get("name", name)), parameters, dict(description.get("fixed", {})), baselines)


def unit_coordinates(space: Space, settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """Where a configuration lies: ranges become [0, 1] on their own scale, a choice one coordinate a value.

    A parameter that the settings lack (it exists only under another's value) lies in its middle, where it is as far
    from either end.

    Returns:
        float64 [D].
    """
    return np.concatenate([_coordinates(p, settings.get(name)) for name, p in space.parameters.items()])


def settings_at(space: Space, unit: NDArray[np.float64]) -> dict[str, Any]:
    """The settings at a point with one coordinate a parameter, each in [0, 1]: for tests and for other tools' draws."""
    return {
        **space.fixed,
        **{n: value_at(p, float(u)) for (n, p), u in zip(space.parameters.items(), unit, strict=True)},
    }


def _parameter(name: str, content: Mapping[str, Any]) -> Parameter:
    if "choices" in content:
        return Choice(tuple(content["choices"]))
    if not {"low", "high"} <= set(content):
        raise ValueError(f"the recorded space's {name} is neither a range nor a choice: {dict(content)}")
    return Range(float(content["low"]), float(content["high"]), bool(content.get("log")), bool(content.get("integer")))


def _coordinates(parameter: Parameter, value: Any) -> NDArray[np.float64]:
    if isinstance(parameter, Choice):
        if value is None:
            return np.full(len(parameter.choices), 1 / len(parameter.choices))
        return np.array([float(value == choice) for choice in parameter.choices])
    if value is None:
        return np.array([0.5])
    low, high, place = parameter.low, parameter.high, float(value)
    if parameter.log:
        low, high, place = np.log(low), np.log(high), np.log(max(place, parameter.low * 1e-9))
    return np.array([min(max((place - low) / (high - low), 0.0), 1.0)])
