"""How runs, parameters and tags read in the MLflow UI."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

STUDY, KIND, TRIAL, ARM, STATE, REASON, REPLICA_OF, NOTES = (
    f"ambient_ray.{key}" for key in ("study", "kind", "trial", "arm", "state", "reason", "replica_of", "notes")
)
# Of the study's run: the names of its two scores, and of the parameters that it varies, as JSON.
OBJECTIVES, SEARCHED = "ambient_ray.objectives", "ambient_ray.searched"
# A trial that the judge stopped has done all that was asked of it: FINISHED, and the tag says `stopped`.
STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
OVER = frozenset({"finished", "stopped", "failed"})  # a killed trial is taken up again
IMAGES_SEEN = "images_seen"
SPEED = "images_per_second"
SYSTEM = "system/"  # MLflow shows metrics with this prefix on a page of their own
FIGURES = "figures"  # the folder of the study's pictures among its artifacts
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000


def trial_name(number: int, arm: str, params: Mapping[str, Any], parent: int | None = None) -> str:
    """`DDPM · trial 0`, `0.47 noisy .30 · trial 12`: the arm, sigma_tn and the noisy ratio, then the number.

    A replica is `seed 3 · 0.47 noisy .30 · trial 12 again (replica 17)`: MLflow's nested table cuts names off at about
    ten characters. sigma_tn, noisy_ratio and seed are looked up by the last part of dotted keys.
    """
    short = {key.rpartition(".")[2]: value for key, value in params.items()}
    what = {"ddpm": "DDPM", "ambient": "Ambient", "rival": "Rival"}.get(arm, arm)
    sigma, ratio = short.get("sigma_tn"), short.get("noisy_ratio")
    if arm == "ambient" and isinstance(sigma, int | float):
        what = f"{sigma:.2f}"
        if isinstance(ratio, int | float):
            what += f" noisy {ratio:.2f}".replace(" 0.", " .")
    if parent is None:
        return f"{what} · trial {number}"
    seed = f"seed {short['seed']} · " if "seed" in short else ""
    return f"{seed}{what} · trial {parent} again (replica {number})"


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters: keys joined with dots, values as text (JSON unless a string).

    Numbers are never written with an exponent: MLflow sorts parameters as text, which puts 1e-05 above 0.9.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flat_params(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _param(value)[:_PARAM_LENGTH]
    return flat


def _param(value: Any) -> str:
    if isinstance(value, float) and 1e-9 < abs(value) < 1e-4:  # where JSON begins to write an exponent
        return f"{Decimal(repr(value)):f}"
    return text(value)


def question_tags(objectives: tuple[str, str] | None, searched: Sequence[str]) -> dict[str, str]:
    """What a study asks, for whoever reads it back; empty without objectives."""
    return {} if objectives is None else text_tags({OBJECTIVES: list(objectives), SEARCHED: list(searched)})


def text_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as MLflow takes them: text, cut at its limit."""
    return {key: text(value)[:_TAG_LENGTH] for key, value in tags.items()}


def text(value: Any) -> str:
    """Strings as they are, everything else as JSON (`true`, `null`, `[1, 2]`, `0.47`)."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def finite(scores: Mapping[str, float]) -> dict[str, float]:
    """The finite ones: MLflow would store infinity as 1.8e308, which ruins every chart."""
    return {key: float(value) for key, value in scores.items() if math.isfinite(value)}
