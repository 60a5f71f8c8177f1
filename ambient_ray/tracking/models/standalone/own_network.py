"""A network of the model's maker as a component of a diffusers pipeline: his class, called by its import path."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config


class OwnNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The module that `target` (package.module.Class) gives for these images, called as (x, c_noise, labels).

    sizes: the target's other arguments. ImportError when the package that holds it is not installed here.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        target: str,
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        sizes: dict[str, Any] | None = None,
    ) -> None:
        """Import the class and build it."""
        super().__init__()
        module, _, name = target.rpartition(".")
        try:
            build = getattr(importlib.import_module(module), name)
        except ImportError as error:
            raise ImportError(
                f"this model's network is {target}, its maker's own code, which cannot be imported ({error}): "
                f"install the package that holds {module}, or put its folder on PYTHONPATH"
            ) from error
        self.net = build(channels=channels, resolution=resolution, num_classes=num_classes, **(sizes or {}))

    @property
    def broadcasts_noise_level(self) -> bool:
        """Whether the network takes one noise level, c_noise [1], for a whole batch."""
        return bool(getattr(self.net, "broadcasts_noise_level", False))

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """x: [B,C,H,W]; c_noise: [B] or [1]; labels: int64 [B] or None."""
        out: torch.Tensor = self.net(x, c_noise, labels)
        return out
