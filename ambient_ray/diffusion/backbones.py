"""Backbones F(x, c_noise, labels): diffusers' U-Net and DiT, and any user's module, behind one `_target_`.

One file, as it is shipped with every registered model.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# c_noise = ln(s)/4 spans about [-1.7, 1.1], while diffusers' sinusoids are made for times 0 to 1000: they
# turn once every 6 to 60,000 units. Times 1000, c_noise fills them. With the U-Net on the digits (n = 300,
# two seeds, 16,000 and 32,000 images) the Frechet distance at 1000 was 3 to 13 per cent below that at 100.
TIME_SCALE = 1000.0

# A target in this module means this very file, also where it is shipped without the package.
_HERE = "ambient_ray.diffusion.backbones"


class UNet(nn.Module):
    """diffusers' `UNet2DModel` as an EDM backbone.

    channels, resolution: of the images. num_classes: conditions on labels when given.
    block_out_channels: width of each level; every further level halves the resolution, which must divide
    evenly. layers_per_block: residual blocks a level. attention: feature-map sizes (in pixels) with
    self-attention. dropout: in [0, 1). norm_groups: of GroupNorm, by default the most that leave 4 channels a
    group. width, depth: multiples of block_out_channels and of layers_per_block, for searches. Every width is
    rounded to the nearest multiple of 8 channels (of attention_head_dim where there is attention, of norm_groups
    where that is given), the layers to the nearest whole number, never below one of either; 1 changes nothing.
    net: a UNet2DModel of these sizes that is there already, instead of a new one.
    ValueError, naming the setting, when the sizes do not fit.
    """

    made_of = "UNet2DModel"

    def __init__(
        self,
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        block_out_channels: Sequence[int] = (128, 256, 256, 256),
        layers_per_block: int = 2,
        attention: Sequence[int] = (),
        attention_head_dim: int = 32,
        dropout: float = 0.0,
        norm_groups: int | None = None,
        width: float = 1.0,
        depth: float = 1.0,
        time_scale: float = TIME_SCALE,
        net: nn.Module | None = None,
    ) -> None:
        """Check the sizes and build the network."""
        super().__init__()
        arguments = self.arguments(
            channels, resolution, num_classes, block_out_channels=block_out_channels,
            layers_per_block=layers_per_block, attention=attention, attention_head_dim=attention_head_dim,
            dropout=dropout, norm_groups=norm_groups, width=width, depth=depth, time_scale=time_scale,
        )  # fmt: skip
        if net is None:
            diffusers: Any = importlib.import_module("diffusers")  # seconds of imports: only where a network is built
            self.net: Any = diffusers.UNet2DModel(**arguments)
            _zero(self.net.conv_out)
        else:
            self.net = net
        self.num_classes = num_classes
        self.time_scale = time_scale

    @classmethod
    def arguments(
        cls,
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        attention_head_dim: int = 32,
        dropout: float = 0.0,
        **sizes: Any,
    ) -> dict[str, Any]:
        """What diffusers' `UNet2DModel` is built with for these arguments. ValueError as for `planned`."""
        widths, layers, groups, here = cls.planned(
            channels, resolution, num_classes, attention_head_dim=attention_head_dim, dropout=dropout, **sizes
        )
        return {
            "sample_size": resolution,
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": widths,
            "layers_per_block": layers,
            "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in here),
            "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(here)),
            "attention_head_dim": attention_head_dim,
            "add_attention": here[-1],
            "dropout": dropout,
            "norm_num_groups": groups,
            "num_class_embeds": num_classes,
        }

    @staticmethod
    def planned(
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        block_out_channels: Sequence[int] = (128, 256, 256, 256),
        layers_per_block: int = 2,
        attention: Sequence[int] = (),
        attention_head_dim: int = 32,
        dropout: float = 0.0,
        norm_groups: int | None = None,
        width: float = 1.0,
        depth: float = 1.0,
        time_scale: float = TIME_SCALE,
    ) -> tuple[tuple[int, ...], int, int, list[bool]]:
        """What a network of these arguments is made of, or the ValueError why there is none; it is not built.

        Returns: each level's width, the layers of a block, GroupNorm's groups, which levels have attention.
        """
        unit = math.lcm(attention_head_dim if attention else 8, norm_groups or 1)
        widths = tuple(_scaled("width", int(w), width, unit) for w in block_out_channels)
        layers = _scaled("depth", layers_per_block, depth, 1)
        groups = _norm_groups(widths) if norm_groups is None else norm_groups
        sizes = _level_sizes(resolution, widths)
        _check_unet(widths, sizes, attention, attention_head_dim, groups, layers, dropout)
        return widths, layers, groups, [size in set(attention) for size in sizes]

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """x: [B,C,H,W]; c_noise: [B]; labels: int64 [B], required exactly when the network has classes."""
        _check_labels(self.num_classes, labels)
        out: Tensor = self.net(x, c_noise * self.time_scale, class_labels=labels, return_dict=False)[0]
        return out


class DiT(nn.Module):
    """diffusers' `DiTTransformer2DModel` as an EDM backbone (Peebles and Xie 2023).

    channels, resolution, num_classes: as for UNet. patch_size must divide the resolution; a token has heads *
    head_dim channels. width, depth: multiples of head_dim, rounded to the nearest multiple of 8, and of layers,
    rounded to the nearest whole number, as for UNet; 1 changes nothing. net: a DiTTransformer2DModel of these sizes
    that is there already, instead of a new one. ValueError when the sizes do not fit.

    broadcasts_noise_level: a batch of one noise level may be given as c_noise [1]; without labels its embeddings, 39 %
    of the arithmetic in dit_digits, are then computed for one row.
    """

    made_of = "DiTTransformer2DModel"
    broadcasts_noise_level = True

    def __init__(
        self,
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        patch_size: int = 2,
        layers: int = 6,
        heads: int = 4,
        head_dim: int = 32,
        dropout: float = 0.0,
        width: float = 1.0,
        depth: float = 1.0,
        time_scale: float = TIME_SCALE,
        net: nn.Module | None = None,
    ) -> None:
        """Check the sizes and build the network."""
        super().__init__()
        arguments = self.arguments(
            channels, resolution, num_classes, patch_size=patch_size, layers=layers, heads=heads, head_dim=head_dim,
            dropout=dropout, width=width, depth=depth, time_scale=time_scale,
        )  # fmt: skip
        embeddings: Any = importlib.import_module("diffusers.models.embeddings")
        if net is None:
            diffusers: Any = importlib.import_module("diffusers")
            self.net: Any = diffusers.DiTTransformer2DModel(**arguments)
            _zero(self.net.proj_out_2)
        else:
            self.net = net
        for module in self.net.modules():
            if isinstance(module, embeddings.LabelEmbedding):
                module.dropout_prob = 0.0  # its random label dropping would be noise here, and draws on the global RNG
        if patch_size == resolution:
            _attend_to_one_token(self.net)
        self.num_classes = num_classes
        self.time_scale = time_scale

    @classmethod
    def arguments(
        cls,
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        patch_size: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        **sizes: Any,
    ) -> dict[str, Any]:
        """What diffusers' `DiTTransformer2DModel` is built with for these arguments. ValueError as for `planned`."""
        head_dim, layers = cls.planned(
            channels, resolution, num_classes, patch_size=patch_size, heads=heads, dropout=dropout, **sizes
        )
        return {
            "num_attention_heads": heads,
            "attention_head_dim": head_dim,
            "in_channels": channels,
            "out_channels": channels,
            "num_layers": layers,
            "dropout": dropout,
            "sample_size": resolution,
            "patch_size": patch_size,
            "num_embeds_ada_norm": num_classes or 1,  # diffusers always embeds a class: without any, one constant
        }

    @staticmethod
    def planned(
        channels: int,
        resolution: int,
        num_classes: int | None = None,
        *,
        patch_size: int = 2,
        layers: int = 6,
        heads: int = 4,
        head_dim: int = 32,
        dropout: float = 0.0,
        width: float = 1.0,
        depth: float = 1.0,
        time_scale: float = TIME_SCALE,
    ) -> tuple[int, int]:
        """A head's channels and the layers of a network of these arguments, or the ValueError why there is none."""
        head_dim, layers = _scaled("width", head_dim, width, 8), _scaled("depth", layers, depth, 1)
        if patch_size < 1 or resolution % patch_size:
            raise ValueError(f"patch_size {patch_size} does not divide the resolution {resolution}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        return head_dim, layers

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """x: [B,C,H,W]; c_noise: [B] or [1]; labels: int64 [B], required exactly when the network has classes."""
        _check_labels(self.num_classes, labels)
        if labels is None:
            labels = torch.zeros(c_noise.shape[0], dtype=torch.int64, device=x.device)
        out: Tensor = self.net(x, timestep=c_noise * self.time_scale, class_labels=labels, return_dict=False)[0]
        return out


class _OneTokenAttention:
    """diffusers' attention processor for a single token: the softmax of one number is 1, so it returns the value."""

    def __call__(self, attention: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        project, dropout = attention.to_out
        out: Tensor = dropout(project(attention.to_v(hidden_states)))
        return out


def _attend_to_one_token(net: Any) -> None:
    """Leave out what one token's attention does not depend on; queries and keys stay in checkpoints, untrained."""
    for block in net.transformer_blocks:
        block.attn1.set_processor(_OneTokenAttention())
        block.attn1.to_q.requires_grad_(False)
        block.attn1.to_k.requires_grad_(False)


def build_backbone(
    config: Mapping[str, Any], *, channels: int, resolution: int, num_classes: int | None = None
) -> nn.Module:
    """Build the module that config's `_target_` names, with the other keys as its arguments.

    The target is called as target(channels=, resolution=, num_classes=, **sizes) and must give an nn.Module
    that is called as module(x [B,C,H,W], c_noise [B], labels). ValueError, saying which, when the target is
    missing, cannot be imported, refuses its arguments, or is no nn.Module.
    """
    target, build, sizes = _resolved(config)
    module = _called(
        target, build, {"channels": channels, "resolution": resolution, "num_classes": num_classes} | sizes
    )
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise ValueError(f"backbone._target_ {target} gives a {kind}, not a torch.nn.Module")
    return module


def check_backbone(
    config: Mapping[str, Any], *, channels: int, resolution: int, num_classes: int | None = None
) -> None:
    """Raise the ValueError that `build_backbone` would raise, as cheaply as the target allows.

    A target whose method `planned` takes its constructor's arguments is asked that; another is built.
    """
    target, build, sizes = _resolved(config)
    image = {"channels": channels, "resolution": resolution, "num_classes": num_classes}
    if callable(planned := getattr(build, "planned", None)):
        _called(target, planned, image | sizes)
    else:
        build_backbone(config, channels=channels, resolution=resolution, num_classes=num_classes)


def diffusers_network(
    config: Mapping[str, Any], *, channels: int, resolution: int, num_classes: int | None = None
) -> tuple[str, dict[str, Any]] | None:
    """The diffusers class inside a shipped backbone and its arguments, nothing built; None for any other target."""
    if str(config.get("_target_")).rpartition(".")[0] != _HERE:
        return None
    _, build, sizes = _resolved(config)
    return build.made_of, build.arguments(channels, resolution, num_classes, **sizes)


def _resolved(config: Mapping[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """The target's name, the target, and its other arguments."""
    sizes = dict(config)
    target = sizes.pop("_target_", None)
    if not isinstance(target, str) or "." not in target:
        raise ValueError(f"backbone._target_ must name a class as package.module.Class, got {target!r}")
    return target, _import(target), sizes


def _called(target: str, function: Any, arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except TypeError as error:
        raise ValueError(f"backbone._target_ {target} refuses its arguments: {error}") from error


def _import(target: str) -> Any:
    path, _, name = target.rpartition(".")
    if path == _HERE:
        found = globals().get(name)
    else:
        try:
            found = getattr(importlib.import_module(path), name, None)
        except ImportError as error:
            raise ValueError(f"backbone._target_ {target} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"backbone._target_ {target}: {path} has no class or function {name}")
    return found


def _scaled(name: str, size: int, factor: float, unit: int) -> int:
    """A size times a factor, rounded to the nearest multiple of `unit` and at least one; untouched by a factor of 1."""
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"{name} must be a multiple above 0, got {factor}")
    return size if factor == 1 else unit * max(1, math.floor(size * factor / unit + 0.5))


def _level_sizes(resolution: int, widths: Sequence[int]) -> list[int]:
    """Feature-map size of each level; refuses a resolution that the down-sampling does not divide."""
    factor = 2 ** (len(widths) - 1)
    if not widths or resolution % factor:
        most = 1 + int(math.log2(resolution & -resolution))
        raise ValueError(
            f"block_out_channels has {len(widths)} levels, halving the resolution {len(widths) - 1} times, "
            f"but {resolution} is not divisible by {factor}; use 1 to {most} levels"
        )
    return [resolution // 2**level for level in range(len(widths))]


def _norm_groups(widths: Sequence[int]) -> int:
    common = math.gcd(*widths)
    return max((g for g in range(1, 33) if common % g == 0 and common // g >= 4), default=1)


def _check_unet(
    widths: Sequence[int],
    sizes: Sequence[int],
    attention: Sequence[int],
    head_dim: int,
    groups: int,
    layers: int,
    dropout: float,
) -> None:
    for width in widths:
        if width < 1 or groups < 1 or width % groups:
            raise ValueError(f"norm_groups {groups} does not divide the {width} channels of block_out_channels")
    for size in attention:
        if size not in sizes:
            raise ValueError(f"attention at feature-map size {size}, but the levels have sizes {list(sizes)}")
        if widths[sizes.index(size)] % head_dim:
            width = widths[sizes.index(size)]
            raise ValueError(f"attention_head_dim {head_dim} does not divide the {width} channels at size {size}")
    if layers < 1:
        raise ValueError(f"layers_per_block must be at least 1, got {layers}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")


def _check_labels(num_classes: int | None, labels: Tensor | None) -> None:
    if num_classes is not None and labels is None:
        raise ValueError(f"this network is conditioned on {num_classes} classes: give labels")
    if num_classes is None and labels is not None:
        raise ValueError("this network has no classes: labels must be None")


def _zero(layer: nn.Module) -> None:
    """Start from F = 0, so that D = c_skip x: the best guess that knows nothing but the data's variance."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
