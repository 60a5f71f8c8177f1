"""Features of whole image sets, kept on disk: what a study compares with is extracted once, however often it begins."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from .base import Extractor, Fact, Features, Images, device_of

_log = logging.getLogger(__name__)


class CachedExtractor:
    """An extractor that looks for its features in a folder before it computes them, and keeps them there.

    A file is named by a hash of the extractor's name and weights and of the images themselves, so that it can belong
    to nothing else; one that cannot be read is computed and written again. For reference sets, not for samples, of
    which every call has others.
    """

    def __init__(self, extractor: Extractor, folder: Path) -> None:
        """folder: made when something is kept; several processes may share it."""
        self._extractor, self._folder = extractor, folder
        self.name: str = extractor.name
        self.weight_hash: str = extractor.weight_hash
        self.facts: Mapping[str, Fact] = extractor.facts

    @property
    def device(self) -> torch.device:
        """Where the extractor inside computes."""
        return device_of(self._extractor)

    def __call__(self, images: Images) -> Features:
        """Features float32 [N,d] of images uint8 [N,H,W,C]."""
        path = self._folder / f"features-{self._key(images)}.npy"
        try:
            kept: Features = np.load(path, allow_pickle=False)
            if kept.dtype == np.float32 and kept.ndim == 2 and len(kept) == len(images):
                return kept
        except FileNotFoundError:
            pass  # nobody has asked for these yet
        except (OSError, ValueError, EOFError) as error:
            _log.warning("%s cannot be read and is made again: %s", path, error)
        features = self._extractor(images)
        self._keep(path, features)
        return features

    def _key(self, images: Images) -> str:
        digest = hashlib.sha256(f"{self.name} {self.weight_hash} {images.shape} {images.dtype};".encode())
        digest.update(np.ascontiguousarray(images).tobytes())
        return digest.hexdigest()[:24]

    def _keep(self, path: Path, features: Features) -> None:
        """Written beside its place and renamed, so that nobody reads half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".features-", delete=False) as file:
            np.save(file, features, allow_pickle=False)
        os.replace(file.name, path)
