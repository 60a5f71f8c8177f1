"""What `auto` means in a search's configuration: settings that are chosen by the machine, the images and the space."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import torch
import yaml

from ambient_ray.data import Split
from ambient_ray.training import TrainingData, TrainSettings, TrialInputError
from ambient_ray.training.packed import NOT_ON_GPUS, SHARED, when_packed
from ambient_ray.training.settings import NETWORK_SETTINGS
from ambient_ray.training.state import image_facts
from ambient_ray.tuning.space import Space

from .configuration import Configuration

_STEPS_TO_COMPILE = 1000


def precision(config: Configuration) -> str:
    """What `auto` means here: bf16 where it is native, on this machine's GPUs or on its processor; else fp32.

    Where the trials' GPUs are other machines', as on a cluster whose head has none, it is fp32, which all have: among
    spot nodes some may be too old for bf16. The search says so (`session.announce`).
    """
    chosen = str(config.training.get("precision", "fp32"))
    if chosen != "auto":
        return chosen
    if config.trial.gpus_per_worker:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        flags: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than our lower bound of torch
        native = bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return "bf16" if native else "fp32"


def compiles(config: Configuration, backbone: Mapping[str, Any], space: Space | None = None) -> bool | Any:
    """What `auto` means: a compiler is there, and what it costs a node once is less than what trials save.

    It costs half a minute for each network, once a node, and under 3 s in each process. On a processor it saves a
    quarter of the DiT's step, some 3 s over 1,000 steps of the digits' network, and 1 to 3 % of the U-Net's, whose
    convolutions stay what they are: not worth it. Nor is it where the space varies the network. Decided by what the
    study fixes (and this machine) alone, as the study holds the resolved value among its settings; `trials` may grow
    later.
    """
    chosen = config.training.get("compile", False)
    if chosen != "auto":
        return chosen
    from ambient_ray.training.compiling import missing_compiler

    steps = config.trial.rungs[-1] / int(config.training.get("batch_size", 64))
    target = str(backbone.get("_target_", ""))
    pays = target.startswith("ambient_ray.") and (target.endswith(".DiT") or config.trial.gpus_per_worker > 0)
    varies = space is not None and not NETWORK_SETTINGS.isdisjoint(space.parameters)
    device = torch.device("cuda" if config.trial.gpus_per_worker else "cpu")
    return pays and not varies and steps >= _STEPS_TO_COMPILE and missing_compiler(device) is None


def packing(config: Configuration, settings: TrainSettings, subsets: Split, space: Space) -> int:
    """How many trials a worker trains together: what `auto` means, or the number that was set, if it can be.

    Raises:
        TrialInputError: trials of this search cannot be packed, and why.
    """
    chosen = config.trial.pack
    if chosen == 1:
        return 1
    varied = (NETWORK_SETTINGS | set(SHARED)).intersection(space.parameters)
    reason = f"the search space varies {min(varied)}, which packed trials must share" if varied else ""
    if config.trial.most_workers > 1:
        reason = f"packed trials run in one worker, and trial.workers is {config.trial.most_workers}"
    if settings.channels_last or float(settings.backbone.get("dropout") or 0) > 0:
        reason = "packed trials can have neither dropout nor channels_last"
    if config.trial.gpus_per_worker:
        reason = NOT_ON_GPUS
    if chosen != "auto":
        if reason:
            raise TrialInputError(f"trial.pack={chosen}: {reason}; leave trial.pack=1")
        return int(chosen)
    image = image_facts(settings, TrainingData(subsets.train, subsets.heldout))
    return 1 if reason else when_packed(settings, image)


def network(config: Configuration, resolution: int) -> dict[str, Any]:
    """The backbone's configuration; `auto` is one of those that ship, by the images' resolution in pixels."""
    if config.backbone.get("_target_") != "auto":
        return dict(config.backbone)
    sizes = {8: "dit_digits", 16: "unet_small", 32: "unet_medium"}
    name = next((name for size, name in sizes.items() if resolution <= size), "unet_paper")
    # Read as a file: Hydra composes once a process, and has done so.
    shipped = resources.files("ambient_ray.conf") / "backbone" / f"{name}.yaml"
    return dict(yaml.safe_load(shipped.read_text()))
