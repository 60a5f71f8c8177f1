"""The DINOv2 extractors (Oquab et al. 2023): the paper's recipe, and the usual one at 224 pixels."""

import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from ambient_ray.data.errors import FetchError

from ..errors import FeatureShapeError, MissingWeightsError
from .base import ModuleExtractor, Precision
from .weights import Published, find_weights, load_into, read_state

REPOSITORY = "facebookresearch/dinov2:7764ea0f912e53c92e82eb78a2a1631e92725fc8"
PATCH, RESOLUTION = 14, 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Meta publishes no digests; each of these was found alike in at least two independent repositories.
_SHA256 = {
    "vits14": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
    "vitb14": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
    "vitl14": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    "vitg14": "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
}
WEIGHTS = {
    arch: Published(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{arch}/dinov2_{arch}_pretrain.pth", digest)
    for arch, digest in _SHA256.items()
}
#: Extractor name -> architecture and recipe. `dinov2` alone is ViT-L/14, the default of dgm-eval.
NAMES = {"dinov2_paper": "vitg14", "dinov2": "vitl14"} | {f"dinov2_{arch}": arch for arch in WEIGHTS}


def paper_input(x: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1] as the paper feeds them: in [0, 1], no mean or std, reflect-padded to a multiple of 14.

    float32 [B,C,H,W] -> [B,3,H',W']; 32 -> 42, 64 -> 70. Half of what is added stands on each side; of an odd
    number the one more stands right and below. Raises FeatureShapeError for images too small to be reflected.
    """
    sides = []
    for size in (x.shape[-1], x.shape[-2]):
        surplus = -size % PATCH
        sides += [surplus // 2, surplus - surplus // 2]
        if sides[-1] >= size:
            raise FeatureShapeError(f"dinov2_paper: images of {size} pixels are too small to be padded by reflection.")
    return functional.pad(_coloured((x + 1) / 2), sides, mode="reflect")


def usual_input(x: torch.Tensor) -> torch.Tensor:
    """Images in [-1, 1] as DINOv2 was trained: bicubic (antialiased) to 224 pixels, ImageNet's mean and std.

    float32 [B,C,H,W] -> [B,3,224,224].
    """
    x = _coloured((x + 1) / 2)
    size = (RESOLUTION, RESOLUTION)
    if x.shape[-2:] != size:
        x = functional.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (x - mean) / std


class _Tokens(nn.Module):
    """CLS token [B, d] of images [B,C,H,W] in [-1, 1]."""

    def __init__(self, network: nn.Module, paper: bool) -> None:
        super().__init__()
        self.network, self.prepare = network, paper_input if paper else usual_input

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(self.prepare(x))
        return features


class DINOv2(ModuleExtractor):
    """CLS tokens float32 [N, d] of a DINOv2 network; d = 384, 768, 1024 or 1536 for ViT-S, B, L, g.

    name: one of `NAMES`; `dinov2_paper` is ViT-g/14 under `paper_input`, the others stand under `usual_input`.
    repo: a local clone of the network's code, else torch.hub downloads it at a pinned commit. weights: a local file,
    else the published one is downloaded. Pickles as the paths of both.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        *,
        repo: str | Path | None = None,
        sha256: str | None = None,
        device: str | torch.device = "cpu",
        batch_size: int | Literal["auto"] = "auto",
        precision: Precision = "fp32",
    ) -> None:
        """Find, check and load the weights; raises what `find_weights`, `read_state` and `load_into` do."""
        arch, paper = NAMES[name], name == "dinov2_paper"
        self._name, self._repo = name, None if repo is None else str(Path(repo).expanduser().absolute())
        self._file = find_weights(WEIGHTS[arch], weights, sha256=sha256)
        network = _network(arch, self._repo)
        load_into(network, read_state(self._file.path), self._file.path, f"dinov2_{arch}")
        recipe = "[0, 1], reflect-padded to 14" if paper else f"bicubic {RESOLUTION}, ImageNet mean and std"
        super().__init__(
            _Tokens(network, paper),
            name=name if paper else f"dinov2_{arch}",
            facts={"weights_sha256": self._file.sha256, "preprocessing": recipe},
            device=device,
            batch_size=batch_size,
            precision=precision,
            preprocessing=recipe,
        )

    def __reduce__(self) -> tuple[Callable[..., "DINOv2"], tuple[Any, ...]]:
        """Rebuild from the same files."""
        file = self._file
        options = (str(self.device), self.batch_size, self.precision)
        return _rebuild, (self._name, str(file.path), self._repo, file.sha256, *options)


def _rebuild(
    name: str,
    path: str,
    repo: str | None,
    sha256: str,
    device: str,
    batch_size: int | Literal["auto"],
    precision: Precision,
) -> DINOv2:
    return DINOv2(name, path, repo=repo, sha256=sha256, device=device, batch_size=batch_size, precision=precision)


def _network(arch: str, repo: str | None) -> nn.Module:
    if repo is not None and not (Path(repo) / "hubconf.py").is_file():
        raise MissingWeightsError(f"{repo} is no clone of DINOv2 (it has no hubconf.py); give one by evaluation.repo=.")
    place: dict[str, Any] = {"source": "local"} if repo else {"trust_repo": True, "skip_validation": True}
    try:
        with torch.random.fork_rng(devices=[]):  # what it draws is replaced at once
            network: nn.Module = torch.hub.load(  # type: ignore[no-untyped-call]
                repo or REPOSITORY, f"dinov2_{arch}", pretrained=False, verbose=False, **place
            )
    except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
        raise FetchError(
            f"https://github.com/{REPOSITORY.replace(':', '/tree/')} could not be downloaded ({error}); clone it "
            "elsewhere and give its path by evaluation.repo=."
        ) from error
    return network


def _coloured(x: torch.Tensor) -> torch.Tensor:
    return x.expand(-1, 3, -1, -1)
