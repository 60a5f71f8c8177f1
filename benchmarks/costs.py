"""What cost.py fits: seconds on one core of what runs beside the networks, and the networks' own speed there."""

import hashlib
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from ambient_ray.data import ImageSet, noise_bank
from ambient_ray.evaluation import References, evaluate
from ambient_ray.evaluation.extractors import ModuleExtractor
from ambient_ray.evaluation.extractors.classifier import SmallCNN
from ambient_ray.evaluation.extractors.efficientnet import EfficientNetLite0
from ambient_ray.training import TrainingData, TrainSettings, World
from ambient_ray.training.checkpoint import save_checkpoint
from ambient_ray.training.state import TrainState
from ambient_ray.training.trial import RungResult

MEASURED = Path(__file__).resolve().parent / "data" / "cost.json"
#: Width of the features, by extractor.
WIDTHS = {"classifier": 128, "efficientnet_lite0": 1280}
#: (samples, n_train, pixels times channels, width of the features) at which scores are measured.
_SCORED = (
    (500, 300, 64, 128), (1000, 300, 256, 128), (500, 3000, 256, 128), (500, 300, 3072, 1280), (2000, 300, 3072, 1280),
    (500, 5000, 3072, 1280), (2000, 5000, 3072, 1280), (500, 50_000, 3072, 1280), (2000, 300, 12_288, 1280),
    (500, 5000, 12_288, 1280),
)  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """Seconds as functions of sizes; `error` is the scores' largest relative error over what was measured."""

    core_flops: Mapping[str, float]
    features: Mapping[str, float]
    scores: tuple[float, ...]
    seconds_per_byte: float
    reporting: float
    error: float

    def score_seconds(self, extractor: str, samples: int, n_train: int, pixels: int) -> float:
        """Of all scores of a rung but the features."""
        return float(np.dot(_terms(samples, n_train, pixels, WIDTHS[extractor]), self.scores))

    def checkpoint_seconds(self, parameters: int) -> float:
        """Of a checkpoint: the average, the weights and two moments in float32."""
        return 16 * parameters * self.seconds_per_byte


def _terms(samples: int, n_train: int, pixels: int, width: int) -> list[float]:
    """What seconds are linear in: Frechet and kernel distances, candidates, reading the training set, products."""
    products = samples * n_train * (pixels + width) / 1e9
    return [width**3 / 1e9, samples * width / 1e6, samples * pixels / 1e6, n_train * pixels / 1e6, products, 0.01]


def fitted(measured: Mapping[str, Any]) -> Fit:
    """The constants, from `measure`'s seconds: non-negative least squares of the relative errors."""
    sizes, seconds = [row[:4] for row in measured["scores"]], np.array([row[4] for row in measured["scores"]])
    terms = np.array([_terms(*size) for size in sizes]) / seconds[:, None]
    constants, _ = nnls(terms, np.ones(len(seconds)))
    error = float(np.abs(terms @ constants - 1).max())
    return Fit(
        measured["core_flops"], measured["features"], tuple(constants), measured["checkpoint"],
        measured["reporting"], error,
    )  # fmt: skip


def measure(networks: Mapping[str, tuple[dict[str, Any], int, int, int, float]], reporting: float) -> dict[str, Any]:
    """Seconds of processor time on one core, but for the checkpoint, which waits for the disk.

    Args:
        networks: name -> (backbone, channels, resolution, images a step, FLOPs of a step an image).
        reporting: seconds a rung that benchmarks/scale.py measured.
    """
    torch.set_num_threads(1)
    speeds = {name: _network_flops(*given) for name, given in networks.items()}
    return {
        "made_on": f"{platform.machine()}, one core, torch {torch.__version__}, fp32",
        "core_flops": {name: round(speed / 1e9, 2) * 1e9 for name, speed in speeds.items()},
        "features": {name: round(_feature_seconds(name), 6) for name in WIDTHS},
        "scores": [[*size, round(_score_seconds(*size), 4)] for size in _SCORED],
        "checkpoint": float(f"{_checkpoint_seconds(*networks['cifar10'][:3]):.3g}"),
        "reporting": reporting,
    }


def _state(backbone: dict[str, Any], channels: int, resolution: int, batch: int) -> TrainState:
    shape = (300, resolution, resolution, channels)
    ids = [str(i) for i in range(300)]
    images = ImageSet(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), None, ids)
    data = TrainingData(images, images, noise_bank(ids, (channels, resolution, resolution), seed=0))
    settings = TrainSettings(backbone=backbone, rungs=(batch,), batch_size=batch, sigma_tn=0.5)
    return TrainState(settings, data, World(device=torch.device("cpu")))


def _network_flops(backbone: dict[str, Any], channels: int, resolution: int, batch: int, flops: float) -> float:
    state = _state(backbone, channels, resolution, batch)
    print(f"{state.model.__class__.__name__} {resolution} px, batch {batch}", flush=True)
    return flops * batch / _seconds(state.step, least=1.0)


def _seconds(call: Callable[[], Any], least: float = 0.3, turns: int = 3) -> float:
    """Median processor seconds of a call; the first one is left out where there are several."""
    if turns > 1:
        call()
    took: list[float] = []
    while len(took) < turns or sum(took) < least:
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return float(np.median(took))


def _feature_seconds(name: str) -> float:
    """Of an image."""
    rng = np.random.default_rng(0)
    if name == "classifier":
        images = rng.integers(0, 256, (256, 16, 16, 1), dtype=np.uint8)
        return _seconds(lambda: ModuleExtractor(SmallCNN(1, 16, 10), name="c")(images)) / len(images)
    extractor = EfficientNetLite0()
    images = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    return _seconds(lambda: extractor(images)) / len(images)


class _Projection:
    """Features that cost nothing: random numbers, as wide as wanted."""

    name, facts = "projection", {}

    def __init__(self, width: int) -> None:
        self.weight_hash, self._width = hashlib.sha256(bytes(width)).hexdigest(), width

    def __call__(self, images: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(len(images))
        return rng.standard_normal((len(images), self._width), dtype=np.float32)


def _score_seconds(samples: int, n_train: int, pixels: int, width: int) -> float:
    resolution, channels = (round((pixels / 3) ** 0.5), 3) if pixels % 3 == 0 else (round(pixels**0.5), 1)
    rng = np.random.default_rng(0)

    def images(n: int, first: int) -> ImageSet:
        values = rng.integers(0, 256, (n, resolution, resolution, channels), dtype=np.uint8)
        return ImageSet(values, None, [str(i) for i in range(first, first + n)])

    extractor = _Projection(width)
    references = References.build(extractor, images(n_train, 0), images(500, n_train))
    drawn = images(samples, 0).images
    seconds = _seconds(lambda: evaluate(drawn, extractor, references), 0.0, 3 if n_train < 5000 else 1)
    print(
        f"scores: {samples} samples, n_train {n_train:,}, {resolution} px, {width} features: {seconds:.2f} s",
        flush=True,
    )
    return seconds


def _checkpoint_seconds(backbone: dict[str, Any], channels: int, resolution: int) -> float:
    """A byte, on the clock: serialised, hashed, written and synced."""
    state = _state(backbone, channels, resolution, 2)
    state.step()
    took: Sequence[float] = []
    with tempfile.TemporaryDirectory(prefix="ambient-cost-") as folder:
        for turn in range(3):
            began = time.perf_counter()
            where = Path(folder) / f"c{turn}"
            save_checkpoint(where, state, (RungResult(0, 2, {}, {}, None, 1.0),), content_hash="", arrays={})
            took = [*took, time.perf_counter() - began]
        size = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
    return float(np.median(took)) / size
