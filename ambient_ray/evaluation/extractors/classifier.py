"""The `classifier` extractor: a small CNN trained once on the labelled images."""

import hashlib
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from ambient_ray.data import ImageSet, to_float

from ..errors import BrokenFeatureCacheError, LabelsMissingError, TooFewImagesError
from .base import Fact, ModuleExtractor, weight_hash

ARCHITECTURE = "small-cnn-1"
_HELD_OUT = 0.1
_STEPS, _BATCH, _RATE, _WARM_UP = 300, 128, 4e-3, 30


class SmallCNN(nn.Module):
    """Three convolutions; features are the last two layers' activations, averaged over positions.

    Averages over positions, as Inception's pool3: among the layers that were tried on digits (flattened
    hidden layers of 64, pooled maps of one layer), these features tell real digits from blurred, mixed,
    noisy and Gaussian ones best.
    """

    def __init__(self, channels: int, resolution: int, classes: int) -> None:
        """A network for square images of that resolution, at least 4."""
        super().__init__()
        self.pools = (resolution >= 8, resolution >= 16, False)
        widths = (channels, 32, 64, 64)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-2] + widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [B, 128] of images [B,C,H,W] in [-1, 1]."""
        averages = []
        for convolution, pool in zip(self.convolutions, self.pools, strict=True):
            x = functional.silu(convolution(x))
            averages.append(x.mean(dim=(2, 3)))
            if pool:
                x = functional.avg_pool2d(x, 2)
        return torch.cat(averages[1:], dim=1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [B, classes]."""
        scores: torch.Tensor = self.head(self(x))
        return scores


def build_classifier(
    image_set: ImageSet, cache_dir: Path, *, seed: int = 0, device: str | torch.device = "cpu"
) -> ModuleExtractor:
    """The classifier of an image set, from the cache or trained on the CPU.

    Deterministic for one build of PyTorch. Nine tenths of the images train it, without augmentation; its
    accuracy on the other tenth is `facts["accuracy"]`. cache_dir/classifier-<key>/ holds model.safetensors
    and classifier.json; the folder appears at once and complete, the key is a hash of content, architecture
    and seed. Global random state is neither read nor changed. Raises LabelsMissingError, TooFewImagesError,
    BrokenFeatureCacheError.
    """
    if image_set.labels is None:
        raise LabelsMissingError(
            "evaluation.features=classifier needs labels, and these images have none: sort them into one "
            "sub-folder a class, or use evaluation.features=efficientnet_lite0."
        )
    classes = len(np.unique(image_set.labels))
    if classes < 2:
        raise LabelsMissingError(
            "evaluation.features=classifier needs at least two classes, and all these images are of one; "
            "use evaluation.features=efficientnet_lite0."
        )
    folder = Path(cache_dir) / f"classifier-{_key(image_set, seed)}"
    if not folder.exists():
        module, accuracy = train_classifier(image_set, seed=seed)
        _store(folder, module, {"accuracy": accuracy, "images": len(image_set), "seed": seed})
    return _load(folder, image_set, device)


def train_classifier(image_set: ImageSet, *, seed: int) -> tuple[SmallCNN, float]:
    """Train a SmallCNN on labelled images; returns it with its accuracy on a held-out tenth."""
    if image_set.labels is None or len(image_set) < 20:
        raise TooFewImagesError(f"A classifier needs at least 20 labelled images, got {len(image_set)}.")
    images = torch.from_numpy(to_float(image_set.images))
    labels = torch.from_numpy(_dense(image_set.labels))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    tenth = max(1, int(_HELD_OUT * len(order)))
    held_out, kept = order[:tenth], order[tenth:]
    module = _initialised(image_set, seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        for step in range(_STEPS):
            for group in optimizer.param_groups:
                group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / _STEPS)
            batch = kept[torch.randint(len(kept), (_BATCH,), generator=generator)]
            loss = functional.cross_entropy(module.logits(images[batch]), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.inference_mode():
        guesses = torch.cat([module.logits(images[part]).argmax(1) for part in torch.split(held_out, 512)])
        accuracy = float((guesses == labels[held_out]).double().mean())
    return module.eval(), accuracy


def _dense(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Labels renumbered 0 .. classes - 1, so that classes without images cost nothing."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _empty(image_set: ImageSet) -> SmallCNN:
    channels, height, width = image_set.shape
    labels = image_set.labels if image_set.labels is not None else np.zeros(1, np.int64)
    with torch.device("meta"):  # no weights, so no draws from the global generator
        return SmallCNN(channels, min(height, width), len(np.unique(labels)))


def _initialised(image_set: ImageSet, seed: int) -> SmallCNN:
    module = _empty(image_set).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                scale = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            else:
                parameter.zero_()
    return module


def _key(image_set: ImageSet, seed: int) -> str:
    text = f"{image_set.content_hash} {ARCHITECTURE} {seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _store(folder: Path, module: SmallCNN, facts: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(module.state_dict(), unfinished / "model.safetensors")
        description = {"architecture": ARCHITECTURE, "weight_hash": weight_hash(module), **facts}
        (unfinished / "classifier.json").write_text(json.dumps(description, indent=2), encoding="utf-8")
        os.replace(unfinished, folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.exists():  # else another process trained the same classifier first: use that one
            raise


def _load(folder: Path, image_set: ImageSet, device: str | torch.device) -> ModuleExtractor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    module = _empty(image_set)
    try:
        description = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
        module.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
        expected = description["weight_hash"]
        facts: dict[str, Fact] = {key: description[key] for key in ("architecture", "accuracy", "images", "seed")}
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BrokenFeatureCacheError(
            f"The cached classifier {folder} cannot be read ({error}); delete that folder."
        ) from error
    extractor = ModuleExtractor(module, name="classifier", facts=facts, device=device)
    if extractor.weight_hash != expected:
        raise BrokenFeatureCacheError(
            f"The cached classifier {folder} does not match its recorded hash; delete that folder."
        )
    return extractor
