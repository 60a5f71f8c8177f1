"""Reading safetensors that may have been changed: names, shapes and types are compared before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ambient_ray.storage import DamagedCheckpointError, Location

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def read_tensors(path: Path, expected: Mapping[str, Tensor], device: str, where: Location) -> dict[str, Tensor]:
    """The tensors of a safetensors file: these names, no others, of these shapes and types.

    Args:
        path: the file.
        expected: by name, a tensor like the one that is to be there.
        device: where they are loaded to.
        where: the checkpoint, for the sentence.

    Raises:
        DamagedCheckpointError: before anything of another size than expected is loaded.
    """
    named = f"{where}/{path.name}"
    try:
        with safe_open(path, "pt", device=device) as file:
            names = set(file.keys())
            for name in sorted(names ^ set(expected)):
                does = "holds" if name in names else "lacks"
                raise DamagedCheckpointError(f"{where} does not fit its own network: {path.name} {does} {name}")
            for name, like in expected.items():
                there = file.get_slice(name)
                shape, kind = tuple(there.get_shape()), there.get_dtype()
                if shape != tuple(like.shape) or kind != _NAMES.get(like.dtype):
                    raise DamagedCheckpointError(
                        f"{where} does not fit its own network: {name} in {path.name} is {kind} {list(shape)}, and"
                        f" {_NAMES.get(like.dtype)} {list(like.shape)} is expected"
                    )
            return {name: file.get_tensor(name) for name in expected}
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{named} cannot be read ({error!s:.300}); use an older checkpoint") from error
