"""The settings of one training run: plain values, checked, that go through JSON unchanged."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ambient_ray.diffusion import AmbientObjective, ObjectiveError
from ambient_ray.errors import UserError

PRECISIONS = ("fp32", "bf16")
OPTIMIZERS = ("adam", "adamw")
# Settings of the network that a trial may set beside those of the training.
NETWORK_SETTINGS = frozenset({"dropout", "width", "depth"})
# What may differ between a checkpoint and the run that takes it up: none of these changes what is trained. Compiled
# code adds in another order, as another processor does; so a trial can go on where there is no compiler.
FREE_ON_RESUME = frozenset({"rungs", "compile", "compile_mode"})


class TrainSettingsError(UserError):
    """A training setting is unknown, of the wrong type, or out of its range."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides what is trained, in units of images seen by all workers together.

    backbone: `_target_` and sizes, for `ambient_ray.diffusion.build_backbone`
    rungs: images seen at which the model is sampled and scored; increasing multiples of batch_size
    batch_size: global, over all workers
    lr, warmup_images: the learning rate, and the images over which it ramps up linearly
    optimizer: `adam` (weight decay as L2 in the gradient) or `adamw` (decoupled)
    grad_clip: bound on the gradient's norm, or None
    ema_halflife_images: of the averaged weights; at most ema_warmup times the images seen (0: no warm-up)
    precision: `fp32`, or `bf16` (autocast in training; sampling stays fp32)
    compile, compile_mode: torch.compile of the network and of the average that is sampled; without a compiler both stay
        eager. compile_mode is of the training step alone, e.g. `reduce-overhead`: CUDA graphs on a GPU
    channels_last: memory format of network and images
    flip: mirror half of the images, each with its noise
    shift_pixels: move each image by up to so many whole pixels either way, with its noise (`shift_together`)
    n_train: train on so many of the training images, the first of the split's nested order, and look for copies
        among those alone; None: on all
    conditional: condition the network on the labels
    sigma_data: a number, or `measured` on the training images
    sigma_tn, noisy_ratio, mixing, weighting, p_mean, p_std, noise_distribution: see `AmbientObjective`; with
        `image_split`, noisy_ratio is the share of the images that exist only noisy
    noise_draws: fixed noises an image, from the bank, or `inf`: fresh noise each step, the ablation
    seed, noise_seed, latent_seed: of weights, order and levels; of noise and noisy images; of the samples
    samples, sample_steps, sample_batch: what is drawn at each rung, and how many at a time (`auto`: as memory holds,
        see `samples_at_once`; samples depend on it by rounding alone); sample_rho: of the sampler's schedule
        (`karras_schedule`), kept in the checkpoint for whoever samples later
    Raises TrainSettingsError, naming the setting.
    """

    backbone: Mapping[str, Any]
    rungs: tuple[int, ...]
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_images: int = 0
    grad_clip: float | None = None
    ema_halflife_images: int = 6400
    ema_warmup: float = 0.05
    precision: str = "fp32"
    compile: bool = False
    compile_mode: str | None = None
    channels_last: bool = False
    flip: bool = False
    shift_pixels: int = 0
    n_train: int | None = None
    conditional: bool = False
    sigma_data: float | str = 0.5
    sigma_tn: float = 0.0
    noisy_ratio: float = 0.5
    mixing: str = "set_split"
    weighting: str = "paper"
    p_mean: float = -1.2
    p_std: float = 1.2
    noise_distribution: str = "lognormal"
    noise_draws: int | str = 1
    seed: int = 0
    noise_seed: int = 0
    latent_seed: int = 0
    samples: int = 500
    sample_steps: int = 18
    sample_batch: int | str = "auto"
    sample_rho: float = 7.0

    def __post_init__(self) -> None:
        """Check every setting and bring sequences to their types."""
        set_field = object.__setattr__  # the dataclass is frozen for everyone else
        for item in fields(self):
            set_field(self, item.name, _CONVERT[item.name](item.name, getattr(self, item.name)))
        if not isinstance(self.backbone.get("_target_"), str):
            raise TrainSettingsError("backbone needs a key _target_ that names its class")
        previous = 0
        for rung in self.rungs:
            if rung <= previous or rung % self.batch_size:
                raise TrainSettingsError(
                    f"rungs must be increasing multiples of batch_size {self.batch_size}, got {list(self.rungs)}"
                )
            previous = rung
        if not self.rungs:
            raise TrainSettingsError("rungs must name at least one number of images seen")
        try:
            self.objective(1.0)
        except ObjectiveError as error:
            raise TrainSettingsError(str(error)) from error

    def objective(self, sigma_data: float) -> AmbientObjective:
        """The loss that these settings describe, for data of standard deviation sigma_data."""
        return AmbientObjective(
            sigma_tn=self.sigma_tn,
            noisy_ratio=self.noisy_ratio,
            mixing=self.mixing,
            weighting=self.weighting,
            p_mean=self.p_mean,
            p_std=self.p_std,
            sigma_data=sigma_data,
            noise_distribution=self.noise_distribution,
        )

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    def overlaid(self, own: Mapping[str, Any]) -> TrainSettings:
        """These settings with a trial's own over them; those in NETWORK_SETTINGS go to the backbone."""
        network = {key: value for key, value in own.items() if key in NETWORK_SETTINGS}
        training = {key: value for key, value in own.items() if key not in NETWORK_SETTINGS}
        return self.from_dict({**self.to_dict(), "backbone": {**self.backbone, **network}, **training})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainSettings:
        """Settings from `to_dict` or a configuration. Raises TrainSettingsError, for unknown keys too."""
        known = {item.name for item in fields(cls)}
        for key in values:
            if key not in known:
                raise TrainSettingsError(f"unknown training setting {key!r:.160}, known: {', '.join(sorted(known))}")
        for key in ("backbone", "rungs"):
            if key not in values:
                raise TrainSettingsError(f"the training setting {key} is missing")
        return cls(**values)


def _integer(low: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if not _is_finite(value) or value != int(value) or value < low:
            raise TrainSettingsError(f"{name} must be a whole number of {low} or more, got {value!r:.160}")
        return int(value)

    return check


def _number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        if not _is_finite(value) or not low <= value <= high or (above and value == low):
            bound = f"above {low:g}" if above else f"{low:g} or more" if low > -math.inf else "finite"
            bound += f" and at most {high:g}" if high < math.inf else ""
            raise TrainSettingsError(f"{name} must be a number, {bound}, got {value!r:.160}")
        return float(value)

    return check


def _is_finite(value: Any) -> bool:
    """Whether a value is a number that a float holds: JSON and YAML have integers of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _choice(*names: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in names:
            raise TrainSettingsError(f"{name} must be one of {', '.join(names)}, got {value!r:.160}")
        return str(value)

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TrainSettingsError(f"{name} must be true or false, got {value!r:.160}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TrainSettingsError(f"{name} must be a name, got {value!r:.160}")
    return value


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _backbone(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TrainSettingsError(f"{name} must be a mapping with _target_ and sizes, got {value!r:.160}")
    plain: dict[str, Any] = _plain(value)
    return plain


def _rungs(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise TrainSettingsError(f"{name} must be a list of numbers of images, got {value!r:.160}")
    return tuple(_integer(1)(name, rung) for rung in value)


def _betas(name: str, value: Any) -> tuple[float, float]:
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise TrainSettingsError(f"{name} must be two numbers in [0, 1), got {value!r:.160}")
    first, second = (_number(0, 1 - 1e-12)(name, beta) for beta in value)
    return first, second


def _sigma_data(name: str, value: Any) -> float | str:
    return "measured" if value == "measured" else _number(0, above=True)(name, value)


def _noise_draws(name: str, value: Any) -> int | str:
    # YAML and Hydra read a bare `inf` as a number.
    return "inf" if value in ("inf", math.inf) else _integer(1)(name, value)


def _sample_batch(name: str, value: Any) -> int | str:
    return "auto" if value == "auto" else _integer(1)(name, value)


_CONVERT: dict[str, Callable[[str, Any], Any]] = {
    "backbone": _backbone,
    "rungs": _rungs,
    "batch_size": _integer(1),
    "lr": _number(0, above=True),
    "optimizer": _choice(*OPTIMIZERS),
    "weight_decay": _number(0),
    "betas": _betas,
    "warmup_images": _integer(0),
    "grad_clip": _optional(_number(0, above=True)),
    "ema_halflife_images": _integer(1),
    "ema_warmup": _number(0),
    "precision": _choice(*PRECISIONS),
    "compile": _flag,
    "compile_mode": _optional(_text),
    "channels_last": _flag,
    "flip": _flag,
    "shift_pixels": _integer(0),
    "n_train": _optional(_integer(3)),
    "conditional": _flag,
    "sigma_data": _sigma_data,
    "sigma_tn": _number(0),
    "noisy_ratio": _number(0, 1),
    "mixing": _text,
    "weighting": _text,
    "p_mean": _number(-math.inf),
    "p_std": _number(0, above=True),
    "noise_distribution": _text,
    "noise_draws": _noise_draws,
    "seed": _integer(0),
    "noise_seed": _integer(0),
    "latent_seed": _integer(0),
    "samples": _integer(1),
    "sample_steps": _integer(1),
    "sample_batch": _sample_batch,
    "sample_rho": _number(0, above=True),
}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
