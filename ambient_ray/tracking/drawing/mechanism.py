"""Where along sigma a network knows its training images: the picture of one rung, an SVG that costs a millisecond."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ambient_ray.storage import DamagedCheckpointError
from ambient_ray.storage.arrays import read_arrays

from ..checkpoint import CheckpointUnreadableError
from .galleries import BLUE, VERMILLION

Array = NDArray[np.float64]
_FONT = "DejaVu Sans, Verdana, Arial, sans-serif"


@dataclass(frozen=True)
class Mechanism:
    """What a rung keeps of its denoising gap.

    sigmas: noise levels [k]; train, heldout: mean losses [k]; gap: [k,3], value, low and high end of the gap at each
    sigma; sigma_tn: above it only noisy images were trained on; 0: plain DDPM, None: not known.
    """

    sigmas: Array
    train: Array
    heldout: Array
    gap: Array
    sigma_tn: float | None = None


def read_mechanism(folder: Path) -> Mechanism | None:
    """What the checkpoint in `folder` keeps; None if nothing. Raises CheckpointUnreadableError."""
    path, description = Path(folder) / "samples.npz", Path(folder) / "checkpoint.json"
    if not path.is_file():
        return None
    try:
        stored = read_arrays(path, lambda name: name.startswith("gap_"))
        if "gap_bands" not in stored:
            return None
        sigmas, losses, bands = (stored[f"gap_{name}"] for name in ("sigmas", "losses", "bands"))
        settings = (
            json.loads(description.read_text(encoding="utf-8")).get("settings", {}) if description.is_file() else {}
        )
    except (OSError, ValueError, KeyError, DamagedCheckpointError) as error:
        raise CheckpointUnreadableError(f"{path} cannot be read: {error}") from error
    sigma_tn = settings.get("sigma_tn")
    return Mechanism(sigmas, losses[0], losses[1], bands, None if sigma_tn is None else float(sigma_tn))


def mechanism_figure(found: Mechanism, path: Path, *, title: str) -> Path:
    """Write the losses on training and held-out images, and the gap between them, over sigma; return the path.

    A gap of 0: it denoises images that it has not seen as well; of 1: it knows the training images by heart. sigma_tn
    is marked where it lies among the sigmas.
    """
    across = _Scale.over(found.sigmas, (0.0, 270.0), log=True)
    losses = _losses(found, across)
    gap = _gap(found, across)
    body = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 350" font-family="{_FONT}" font-size="12">
<rect width="720" height="350" fill="white"/>
<text x="14" y="22" font-size="15">{_escaped(title)}</text>
<text x="14" y="40" font-size="11" fill="#444">{_escaped(_told(found))}</text>
<g transform="translate(70,92)">{losses}</g>
<g transform="translate(425,92)">{gap}</g>
</svg>
"""
    path.write_text(body, encoding="utf-8")
    return path


@dataclass(frozen=True)
class _Scale:
    """Values [low, high] -> pixels [first, last]."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float] | Array, pixels: tuple[float, float], *, log: bool = False) -> _Scale:
        """With room at both ends."""
        low, high = float(min(values)), float(max(values))
        if log:
            room = 0.08 * math.log(high / low) if high > low else 0.5
            return cls(low * math.exp(-room), high * math.exp(room), *pixels, log=True)
        room = 0.1 * (high - low) or 0.1
        return cls(low - room, high + room, *pixels)

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return round(self.first + (at - low) / (high - low) * (self.last - self.first), 1)

    def ticks(self) -> list[float]:
        """Three to six round values."""
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span))
        step *= next(k for k in (0.1, 0.2, 0.5, 1) if span / (k * step) <= 6 or k == 1)
        return [k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


_HIGH = 200.0


def _losses(found: Mechanism, across: _Scale) -> str:
    up = _Scale.over([*found.train, *found.heldout], (_HIGH, 0.0))
    parts = [_frame(found, across, up, "weighted denoising loss")]
    for values, colour, dash, name, shape in (
        (found.heldout, BLUE, "", "held-out images", "circle"),
        (found.train, VERMILLION, "6 3", "training images", "square"),
    ):
        points = [(across(s), up(v)) for s, v in zip(found.sigmas, values, strict=True)]
        parts.append(_line(points, colour, dash))
        parts += [_mark(x, y, colour, shape) for x, y in points]
        x = 0 if shape == "circle" else 140
        parts.append(_line([(x, -26), (x + 26, -26)], colour, dash) + _mark(x + 13, -26, colour, shape))
        parts.append(f'<text x="{x + 32}" y="-22" font-size="11">{name}</text>')
    return "".join(parts)


def _gap(found: Mechanism, across: _Scale) -> str:
    up = _Scale.over([*found.gap.reshape(-1), 0.0], (_HIGH, 0.0))
    parts = [_frame(found, across, up, "gap = 1 - training / held-out")]
    parts.append(_line([(0, up(0)), (270, up(0))], "black", "2 3"))
    points = []
    for sigma, (value, low, high) in zip(found.sigmas, found.gap, strict=True):
        x = across(sigma)
        points.append((x, up(value)))
        parts.append(_line([(x, up(low)), (x, up(high))], BLUE, ""))
    parts.append(_line(points, BLUE, ""))
    parts += [_mark(x, y, BLUE, "circle") for x, y in points]
    return "".join(parts)


def _frame(found: Mechanism, across: _Scale, up: _Scale, name: str) -> str:
    """Axes with ticks, and sigma_tn."""
    parts = []
    if found.sigma_tn is not None and min(found.sigmas) <= found.sigma_tn <= max(found.sigmas):
        x = across(found.sigma_tn)
        parts.append(f'<rect x="{x}" y="0" width="{270 - x:.1f}" height="{_HIGH}" fill="#F0F0F0"/>')
        parts.append(_line([(x, 0), (x, _HIGH)], "#555", "5 3"))
        parts.append(f'<text x="{x}" y="-5" font-size="11" text-anchor="middle">sigma_tn {found.sigma_tn:.3g}</text>')
    parts.append(_line([(0, 0), (0, _HIGH), (270, _HIGH)], "black", ""))
    for sigma in found.sigmas:
        x = across(sigma)
        parts.append(_line([(x, _HIGH), (x, _HIGH + 5)], "black", ""))
        parts.append(f'<text x="{x}" y="{_HIGH + 18}" text-anchor="middle">{sigma:g}</text>')
    for value in up.ticks():
        y = up(value)
        parts.append(_line([(-5, y), (0, y)], "black", ""))
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{value:.6g}</text>')
    parts.append(f'<text x="135" y="{_HIGH + 38}" text-anchor="middle">noise level sigma</text>')
    parts.append(f'<text transform="translate(-48,100) rotate(-90)" text-anchor="middle">{name}</text>')
    return "".join(parts)


def _told(found: Mechanism) -> str:
    where = ""
    if found.sigma_tn == 0:
        where = "Plain DDPM. "
    elif found.sigma_tn is not None:
        outside = "below" if found.sigma_tn < min(found.sigmas) else "above"
        inside = min(found.sigmas) <= found.sigma_tn <= max(found.sigmas)
        where = "Shaded: above sigma_tn. " if inside else f"sigma_tn {found.sigma_tn:.3g} lies {outside} all of these. "
    return f"{where}A gap of 0: images that it has not seen are denoised as well; bars are 95 % intervals."


def _line(points: Sequence[tuple[float, float]], colour: str, dash: str) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashed}/>'


def _mark(x: float, y: float, colour: str, shape: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}" stroke="white"/>'
    return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}" stroke="white"/>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
