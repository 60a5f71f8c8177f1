"""Files of weights: found or downloaded, checked by their SHA-256, and read as state dicts only."""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ambient_ray.data.fetch import cache_folder, fetch

from ..errors import (
    MissingWeightsError,
    NotAStateDictError,
    WeightsHashError,
    WrongNetworkError,
)

_NAMED = 3


@dataclass(frozen=True)
class Published:
    """Weights that somebody publishes. sha256: hex digest of the file."""

    url: str
    sha256: str


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights on this machine. sha256: the hex digest of what it holds."""

    path: Path
    sha256: str


def find_weights(published: Published, path: str | Path | None = None, *, sha256: str | None = None) -> WeightsFile:
    """The file at `path`, or the published one, from the cache folder or downloaded into it.

    sha256: what to expect instead of the published digest. The digest is computed and checked at each call.
    Raises MissingWeightsError, WeightsHashError, and of ambient_ray.data FetchError and ChecksumError.
    """
    expected = (sha256 or published.sha256).lower()
    if path is not None:
        found = Path(path).expanduser().absolute()
        if not found.is_file():
            raise MissingWeightsError(f"There is no file of weights at {found}; give its path by evaluation.weights=.")
        digest = file_sha256(found)
        if digest != expected:
            raise WeightsHashError(
                f"{found} has SHA-256 {digest}, expected {expected}; give the right file, or say which it is by "
                "evaluation.sha256=."
            )
        return WeightsFile(found, digest)
    advice = "get the file elsewhere and give its path by evaluation.weights="
    return WeightsFile(fetch(published.url, cache_folder() / "weights", digest=expected, advice=advice), expected)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a safetensors file (by its suffix), or in what `torch.save` wrote; no code in it is run.

    Raises NotAStateDictError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError, SafetensorError) as error:
        raise NotAStateDictError(
            f"{path} cannot be read as a state dict: it is damaged, a pickled object or a TorchScript archive; save "
            "the network's state_dict() by torch.save, or as .safetensors."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NotAStateDictError(f"{path} holds no state dict, which maps names to tensors; save state_dict() itself.")
    return {str(name): value for name, value in state.items()}


def load_into(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Give a module the tensors of a state dict (in the module's own types); they need fit in names and shapes.

    Raises WrongNetworkError.
    """
    own = module.state_dict()
    wrong = [f"{key} is missing" for key in own.keys() - state.keys()]
    wrong += [f"{key} is unknown" for key in state.keys() - own.keys()]
    wrong += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if wrong:
        some = ", ".join(sorted(wrong)[:_NAMED])
        raise WrongNetworkError(
            f"{path} holds the weights of another network than {name}: {some} ({len(wrong)} such differences)."
        )
    module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, assign=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
