"""diffusers' interface to a registered generator; the sampling itself is `generator.py`'s.

    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipe(batch_size=4, seed=0).images[0].save("0.png")

The network is stock diffusers and loads without this file: `UNet2DModel.from_pretrained(folder, subfolder="network")`.
The pipeline is not: diffusers has no EDM-preconditioned Heun sampler. So it asks for `trust_remote_code=True`, and
copies this code under HF_MODULES_CACHE (default ~/.cache/huggingface/modules), by a name that holds the code's hash.
diffusers checks no hashes: load_model, `load.py` and MLflow's pyfunc do.
"""

# Optional, and no `from __future__ import annotations`: diffusers 0.35 takes a constructor's types as they stand.
import importlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput

from .generator import Generator, build
from .load import INDEX, entry, entry_name, is_shipped, own_network_name, record


class AmbientPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Images from a model that ambient-ray trained.

    network: diffusers' UNet2DModel or DiTTransformer2DModel, or the maker's own module; ambient: how it was trained
    and is sampled (`pipe.config.ambient`: backbone, sigma_data, image, sampler, images_seen, scores, facts).
    """

    model_cpu_offload_seq = "network"

    def __init__(self, network: torch.nn.Module, ambient: Optional[dict[str, Any]] = None) -> None:  # noqa: UP045
        """Called by `from_pretrained`."""
        super().__init__()
        if ambient is None:
            raise ValueError("this pipeline is made by from_pretrained, from a registered model's folder")
        self.register_modules(network=network)
        self.register_to_config(ambient=ambient)

    def __call__(
        self,
        batch_size: int = 1,
        class_labels: int | Sequence[int] | torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw `batch_size` images by Heun's method (2 * num_inference_steps - 1 evaluations of the network).

        seed: image j is the one that `load_model(...).sample(n, seed)` gives at j, to the byte. generator: diffusers'
        way, one for all or one an image. Neither: torch's global generator. class_labels: one class for all or one
        an image; left out, image j has class j mod the number of classes. num_inference_steps: the model's own if
        left out. output_type: "pil", or "np" for float32 [n,H,W,C] in [0, 1]. ValueError for bad arguments.
        """
        if output_type not in ("pil", "np"):
            raise ValueError(f"output_type must be 'pil' or 'np', got {output_type!r}")
        if seed is not None and generator is not None:
            raise ValueError("give seed or generator, not both")
        source = self._generator(num_inference_steps)
        labels = None if class_labels is None else _classes(class_labels, batch_size)
        if seed is not None:
            images = source.sample(batch_size, seed, labels)
        else:
            images = source.from_latents(self._latents(source.shape, batch_size, generator), labels)
        result = _pictures(images) if output_type == "pil" else images.astype(np.float32) / 255
        return ImagePipelineOutput(images=result) if return_dict else (result,)

    def save_pretrained(self, save_directory: str | Path, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write a folder that diffusers and `load.py` load, code and hashes included. Safetensors only."""
        if not safe_serialization or kwargs.get("push_to_hub"):
            raise ValueError("a pipeline of ambient-ray is saved as safetensors into a folder; upload that folder")
        code, folder = Path(__file__).parent, Path(save_directory)
        super().save_pretrained(folder, **kwargs)
        shutil.copytree(code, folder / code.name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        (folder / entry_name(code)).write_text(entry(code), encoding="utf-8")
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["_class_name"] = [Path(entry_name(code)).stem, type(self).__name__]
        if not is_shipped(index["ambient"]["backbone"]["_target_"]):
            own = folder / "network" / own_network_name(code)
            shutil.copyfile(code / "own_network.py", own)
            index["network"] = [own.stem, "OwnNetwork"]
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        record(folder)

    def _generator(self, steps: int | None) -> Generator:
        config = dict(self.config.ambient)
        if steps is not None:
            config["sampler"] = config["sampler"] | {"steps": steps}
        package = __name__.rpartition(".")[0]
        network = self.network
        backbone = build(config, package, net=network) if is_shipped(config["backbone"]["_target_"]) else network
        return Generator(backbone, config, package=package, device=self.device)

    def _latents(self, shape: tuple[int, int, int], n: int, generator: Any) -> torch.Tensor:
        tensors: Any = importlib.import_module("diffusers.utils.torch_utils")
        device = self._execution_device
        drawn: torch.Tensor = tensors.randn_tensor((n, *shape), generator=generator, device=device)
        return drawn


def _classes(labels: Any, n: int) -> npt.NDArray[np.int64]:
    array = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels, dtype=np.int64)
    if array.ndim and array.shape != (n,):
        raise ValueError(f"class_labels must be one class, or {n} as batch_size is, got shape {array.shape}")
    return np.broadcast_to(array, (n,))


def _pictures(images: npt.NDArray[np.uint8]) -> list[Any]:
    from PIL import Image

    if images.shape[3] not in (1, 3, 4):
        raise ValueError(f"images of {images.shape[3]} channels are no pictures: ask for output_type='np'")
    return [Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image) for image in images]
