"""What `auto` means in a search's configuration: settings that are chosen by the machine, the images and the space."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from ambient_ray.data import ImageSet
from ambient_ray.training.settings import NETWORK_SETTINGS, TrainSettings
from ambient_ray.tuning.space import Space

from .configuration import Configuration

_STEPS_TO_COMPILE = 1000


def precision(config: Configuration) -> str:
    """What `auto` means here: bf16 where it is native, on the GPUs or on this machine's processor; else fp32."""
    chosen = str(config.training.get("precision", "fp32"))
    if chosen != "auto":
        return chosen
    import torch

    if config.trial.gpus_per_worker:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than our lower bound of torch
        native = bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return "bf16" if native else "fp32"


def compiles(config: Configuration, backbone: Mapping[str, Any], space: Space | None = None) -> bool | Any:
    """What `auto` means: a compiler is there, and what it costs a node once is less than what trials save.

    It costs half a minute for each network, once a node, and under 3 s in each process. On a processor it saves a sixth
    of the DiT's step, some 3 s over 1,000 steps of the digits' network, and 1 to 3 % of the U-Net's, whose convolutions
    stay what they are: not worth it. Nor is it where the space varies the network. Decided by what the study fixes (and
    this machine) alone, as the study holds the resolved value among its settings; `trials` may grow later.
    """
    chosen = config.training.get("compile", False)
    if chosen != "auto":
        return chosen
    import torch

    from ambient_ray.training.compiling import missing_compiler

    steps = config.trial.rungs[-1] / int(config.training.get("batch_size", 64))
    target = str(backbone.get("_target_", ""))
    pays = target.startswith("ambient_ray.") and (target.endswith(".DiT") or config.trial.gpus_per_worker > 0)
    varies = space is not None and not NETWORK_SETTINGS.isdisjoint(space.parameters)
    device = torch.device("cuda" if config.trial.gpus_per_worker else "cpu")
    return pays and not varies and steps >= _STEPS_TO_COMPILE and missing_compiler(device) is None


def network(config: Configuration, resolution: int) -> dict[str, Any]:
    """The backbone's configuration; `auto` is one of those that ship, by the images' resolution in pixels."""
    if config.backbone.get("_target_") != "auto":
        return dict(config.backbone)
    sizes = {8: "dit_digits", 16: "unet_small", 32: "unet_medium"}
    name = next((name for size, name in sizes.items() if resolution <= size), "unet_paper")
    # Read as a file: Hydra composes once a process, and has done so.
    shipped = resources.files("ambient_ray.conf") / "backbone" / f"{name}.yaml"
    return dict(yaml.safe_load(shipped.read_text()))


def sample_batch(config: Configuration, settings: TrainSettings, images: ImageSet) -> int:
    """What `auto` means: all samples at a time, or the power of two that fits; they depend on it by rounding alone.

    Fit: what the network's layers return for them, all together, into 1 GiB on a processor, and on GPUs into a quarter
    of a worker's share of the memory of this machine's first, beside training (of 8 GiB where it has none).
    """
    if config.evaluation.sample_batch != "auto":
        return config.evaluation.sample_batch
    import torch

    from ambient_ray.training import TrainingData
    from ambient_ray.training.state import build_model, image_facts

    memory = 2.0**30
    if share := config.trial.gpus_per_worker:
        card = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 8 * 2.0**30
        memory = min(1.0, share) * card / 4
    model = build_model(settings, image_facts(settings, TrainingData(images, images)), 0.5).eval()
    returned = 0

    def count(module: Any, given: Any, result: Any) -> None:
        nonlocal returned
        if isinstance(result, torch.Tensor) and not any(module.children()):
            returned += result.nbytes

    for module in model.modules():
        module.register_forward_hook(count)
    labels = torch.zeros(1, dtype=torch.int64) if settings.conditional else None
    with torch.no_grad():
        model(torch.zeros(1, *images.shape), torch.ones(1), labels)
    most = min(settings.samples, max(1, int(memory / max(1, returned))))
    return most if most == settings.samples else 1 << most.bit_length() - 1
