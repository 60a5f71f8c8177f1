"""The `inception` extractor: FID's own features, so that the distance between them is called `fid`."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from .base import ModuleExtractor, Precision
from .weights import Published, find_weights, load_into, read_state

WEIGHTS = Published(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
_PREPROCESSING = "uint8, TensorFlow 1 bilinear resize to 299, (x - 128) / 128, pool3"


class _Pool3(nn.Module):
    """torch-fidelity's network: uint8 [B,C,H,W] -> [B, 2048]; one channel is repeated to three."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(x.expand(-1, 3, -1, -1))[0]
        return features


class Inception(ModuleExtractor):
    """pool3 features float32 [N, 2048] of the Inception-v3 of 2015-12-05, resized as TensorFlow 1 did.

    The network is torch-fidelity's; the features of Heusel et al. 2017, on which FID is defined. weights: a local
    file, else the published one is downloaded. Pickles as the path of its weights: the other process reads them there.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        sha256: str | None = None,
        device: str | torch.device = "cpu",
        batch_size: int | Literal["auto"] = "auto",
        precision: Precision = "fp32",
    ) -> None:
        """Find, check and load the weights; raises what `find_weights`, `read_state` and `load_into` do."""
        self._file = find_weights(WEIGHTS, weights, sha256=sha256)
        network = untrained_inception()
        load_into(network, read_state(self._file.path), self._file.path, "inception")
        super().__init__(
            _Pool3(network),
            name="inception",
            facts={"weights_sha256": self._file.sha256, "preprocessing": _PREPROCESSING},
            device=device,
            batch_size=batch_size,
            precision=precision,
            preprocessing=_PREPROCESSING,
            takes="uint8",
        )

    def __reduce__(self) -> tuple[Callable[..., "Inception"], tuple[Any, ...]]:
        """Rebuild from the same file."""
        file = self._file
        return _rebuild, (str(file.path), file.sha256, str(self.device), self.batch_size, self.precision)


def _rebuild(path: str, sha256: str, device: str, batch_size: int | Literal["auto"], precision: Precision) -> Inception:
    return Inception(path, sha256=sha256, device=device, batch_size=batch_size, precision=precision)


def untrained_inception() -> nn.Module:
    """torch-fidelity's Inception with no weights yet (on the meta device): uint8 [B,3,H,W] -> ([B, 2048],)."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        # Its constructor reads a file with weights_only=False, which would run whatever a pickle holds: it is given
        # an empty state dict from memory, and the weights come after, read as data.
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **options) if state_dict else None

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.device("meta"):
        network: nn.Module = Untrained("inception", ["2048"], feature_extractor_weights_path=nothing)
    return network
