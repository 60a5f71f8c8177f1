"""Several small trials of one network, stepped as one batched network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ambient_ray.diffusion import DenoisingTask, DiT, UNet, build_backbone

from .compiling import missing_compiler
from .settings import TrainSettings
from .state import TrainState
from .trial import TrialInputError

# Settings that decide the batched network's operators, so that packed trials must share them.
SHARED = ("backbone", "batch_size", "precision", "conditional", "compile", "compile_mode")

NOT_ON_GPUS = "packed trials would not be kept apart on a GPU; trial.gpus_per_worker=0.125 lets eight share one"
TRIALS = 8  # packed where packing wins: with 4 the gain is smaller (benchmarks/packed.py)
# The most work that is packed, by the network's class: weights x batch x positions (a DiT's tokens, a U-Net's pixels).
_MOST_WORK = {"DiT": 21e6, "UNet": 165e6}


class PackedState:
    """P training states whose networks run forward and backward as one; all else stays each trial's own.

    A packed trial is an ordinary TrainState whose weights and buffers lie in row p of tensors [P, ...] that all share.
    So its seed, data, objective, learning rate, clipping, optimizer and average are its own, a checkpoint is written
    from it and restored into it as from any other, and weights that become non-finite stay in their row. The rows pass
    through `torch.func.vmap` (matrix products become batched ones, convolutions grouped ones): a step equals that of
    `TrainState.step` up to rounding.

    Activations, gradients and their work space take P times the memory of one trial while a step runs; weights,
    averages and optimizer states are what P separate trials hold together.

    A trial leaves with `leave`; the last one that is left runs as if it had never been packed. With `compile`, each
    number of trials is compiled once.
    """

    def __init__(self, states: Sequence[TrainState]) -> None:
        """Move the states' weights together. Raises TrialInputError where they cannot be packed."""
        check_packable(states)
        first = states[0]
        self._batch, self._world = first.settings.batch_size, first.world
        self._bf16 = first.settings.precision == "bf16"
        self._network = _batched(first)
        self._pack(states)

    @property
    def states(self) -> tuple[TrainState, ...]:
        """The trials that are in, in the order of `step`'s results."""
        return self._states

    def leave(self, state: TrainState) -> None:
        """Give a trial its weights back in memory of its own; the others go on without it."""
        _move(state, (tensor.detach().clone() for tensor in _tensors(state.model).values()))
        self._pack([other for other in self._states if other is not state])

    def step(self) -> list[tuple[Tensor, Tensor]]:
        """One step of every trial over its own next batch: (loss, gradient norm) of each. No host sync."""
        if len(self._states) == 1:
            return [self._states[0].step()]
        losses = self._losses()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        for row, state in enumerate(self._states):
            for name, parameter in state.model.named_parameters():
                gradient = self._tensors[name].grad
                parameter.grad = None if gradient is None else gradient[row]
        norms = [state.update() for state in self._states]
        for tensor in self._tensors.values():
            tensor.grad = None
        return list(zip(losses.detach().unbind(), norms, strict=True))

    def _losses(self) -> Tensor:
        """Each trial's mean loss over its batch: [P], on the graph."""
        tasks, classes = [], []
        for state in self._states:
            batch, draws = state.next_batch()
            tasks.append(state.objective.task(batch.clean, batch.noise, draws, batch.noisy_image))
            classes.append(batch.labels)
        task = _joined(tasks)
        each = (len(tasks), self._batch)
        x, sigma = task.x.view(*each, *task.x.shape[1:]), task.sigma.view(each)
        labels = None if classes[0] is None else torch.stack([label for label in classes if label is not None])
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._bf16):
            denoised = self._network(self._tensors, x, sigma, labels)
            return task.loss(denoised.flatten(0, 1)).view(each).mean(dim=1)

    def _pack(self, states: Sequence[TrainState]) -> None:
        """Lay the states' tensors into rows of shared ones; a single state gets memory of its own."""
        self._states, self._tensors = tuple(states), {}
        if len(states) == 1:
            _move(states[0], (tensor.detach().clone() for tensor in _tensors(states[0].model).values()))
        if len(states) < 2:
            return
        own = [_tensors(state.model) for state in states]
        shared = {name: torch.stack([tensors[name].detach() for tensors in own]) for name in own[0]}
        for row, state in enumerate(states):
            _move(state, (tensor[row] for tensor in shared.values()))
        for name, tensor in own[0].items():
            shared[name].requires_grad_(tensor.requires_grad)
        self._tensors = shared


def when_packed(settings: TrainSettings, image: Mapping[str, Any]) -> int:
    """How many such trials to pack in one worker: TRIALS where that was measured to win by 1.3 or more, else 1.

    Packing saves the time between operators, not arithmetic, so it wins where operators are small. Separate over packed
    time of a step, P = 8, one CPU thread, eager (benchmarks/packed.py), float32 and bf16:

        DiT 3 x 64 wide, one token, batch 32    1.18  1.63   packed in bf16
        DiT 3 x 96 wide, one token, batch 32    1.16  1.53   packed in bf16
        DiT 1 x 64 wide, one token, batch 128   1.13  1.32   packed in bf16
        DiT 3 x 192, one token, batch 128       0.91  0.93   not packed
        U-Net [16, 32], 8 px, batch 16          1.66  1.69   packed
        U-Net [32, 64], 8 px, batch 16          1.32  1.26   not packed: at the border
        U-Net [16, 32], 8 px, batch 64          1.09  1.11   not packed: grouped convolutions are slower

    With `compile` each number of trials that are left would be compiled for tens of seconds: 1. A backbone of one's own
    was not measured: 1. Nor can everything be packed, and nothing on a GPU: see `check_packable`.
    """
    package, _, kind = str(settings.backbone["_target_"]).rpartition(".")
    if package != "ambient_ray.diffusion.backbones" or kind not in _MOST_WORK:
        return 1
    if settings.channels_last or settings.compile or (kind == "DiT" and settings.precision != "bf16"):
        return 1
    side = int(image["resolution"]) // int(settings.backbone.get("patch_size", 2) if kind == "DiT" else 1)
    most = _MOST_WORK[kind] / (settings.batch_size * side**2)
    if least_weights(settings.backbone, image) > most:
        return 1
    with torch.device("meta"):
        network = build_backbone(settings.backbone, **image)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return TRIALS if weights <= most and not _drops_out(network) else 1


def least_weights(backbone: Mapping[str, Any], image: Mapping[str, Any]) -> int:
    """A bound from below on the weights of a network of ours, which is not built: that takes seconds of imports."""
    sizes = {key: value for key, value in backbone.items() if key != "_target_"}
    if str(backbone["_target_"]).endswith(".DiT"):  # a block's norm has 6 w^2 weights, its attention 4, its layers 8
        head_dim, layers = DiT.planned(**image, **sizes)
        return 18 * layers * (head_dim * int(sizes.get("heads", 4))) ** 2
    widths, layers, *_ = UNet.planned(**image, **sizes)  # each residual block has two convolutions of 3 x 3
    return 18 * layers * sum(width**2 for width in widths[1:])


def check_packable(states: Sequence[TrainState]) -> None:
    """Refuse, with a TrialInputError, trials that cannot run as one batched network.

    None can on a GPU (H100, PyTorch 2.11): in a packed U-Net another trial's loss became NaN with the one that
    diverged, and the gradient of a packed DiT's attention fails. Small trials share a GPU by fractions of it.
    """
    if not states:
        raise TrialInputError("packing needs at least one trial")
    first = states[0]
    for state in states:
        if state.world.device.type == "cuda":
            raise TrialInputError(NOT_ON_GPUS)
        if state.world.size > 1:
            raise TrialInputError(f"packed trials run in one worker, but this one has {state.world.size}")
        if state.settings.channels_last:
            raise TrialInputError("packed trials cannot be channels_last")
        if _drops_out(state.model):
            raise TrialInputError("packed trials cannot have dropout: its random numbers would not be each trial's own")
        for key in SHARED:
            mine, others = getattr(state.settings, key), getattr(first.settings, key)
            if mine != others:
                raise TrialInputError(f"packed trials must share {key}, got {others!r} and {mine!r}")
        if (state.image, state.sigma_data) != (first.image, first.sigma_data):
            raise TrialInputError(
                f"packed trials must share the images' size and sigma_data, got {first.image}, {first.sigma_data:g} "
                f"and {state.image}, {state.sigma_data:g}"
            )


def _drops_out(model: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in model.modules())


def _batched(state: TrainState) -> Callable[..., Tensor]:
    """(tensors by name [P, ...], x [P,B,C,H,W], sigma [P,B], labels [P,B] or None) -> D [P,B,C,H,W]."""
    template = copy.deepcopy(state.model).to("meta")  # its own weights are never read

    def network(tensors: dict[str, Tensor], x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        out: Tensor = functional_call(template, tensors, (x, sigma, labels))
        return out

    def batched(tensors: dict[str, Tensor], x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        out: Tensor = vmap(network, in_dims=(0, 0, 0, None if labels is None else 0))(tensors, x, sigma, labels)
        return out

    if state.settings.compile and not missing_compiler(state.world.device):
        compiled: Callable[..., Tensor] = torch.compile(batched, mode=state.settings.compile_mode, dynamic=False)
        return compiled
    return batched


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _move(state: TrainState, places: Iterable[Tensor]) -> None:
    """Let a state's weights and buffers lie in `places`; optimizer and average hold them and follow."""
    for tensor, place in zip(_tensors(state.model).values(), places, strict=True):
        tensor.data = place


def _joined(tasks: Sequence[DenoisingTask]) -> DenoisingTask:
    """The trials' tasks as one batch; at sigma_tn = 0 all images have a = 1, which changes no digit of their loss."""
    ones = torch.ones_like(tasks[0].weight).view(-1, *[1] * (tasks[0].x.ndim - 1))
    parts = (task if task.a is not None else task._replace(a=ones) for task in tasks)
    return DenoisingTask(*map(torch.cat, zip(*parts, strict=True)))
