"""The state of a training run on one rank, and the one step that advances it."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ambient_ray.diffusion import Draws, EDMPrecond, build_backbone, check_backbone

from .agreement import checksum
from .compiling import first_compilation, missing_compiler, prepare_compiling
from .ema import Ema
from .resident import Batch, ResidentImages, measured_sigma_data
from .settings import TrainSettings
from .streams import StepStreams, Stream, share
from .trial import TrainingData, TrialInputError, World

_log = logging.getLogger(__name__)


class TrainState:
    """Network, average, optimizer and data of one rank. `step` advances it by one global batch.

    model: the EDMPrecond that is trained; ema: its average; sampled: the average as the sampler calls it; images_seen:
    by all ranks.
    """

    def __init__(self, settings: TrainSettings, data: TrainingData, world: World) -> None:
        """Build everything from seeds. Raises TrialInputError when settings, data and world do not fit."""
        if settings.batch_size < world.size:
            raise TrialInputError(
                f"batch_size {settings.batch_size} is too small for the {world.size} workers of a trial: one image each"
            )
        self.settings, self.world, self.images_seen = settings, world, 0
        # Of this rank's mean loss in the mean over ranks that DDP takes of the gradients.
        self.weight = len(share(settings.batch_size, world.rank, world.size)) * world.size / settings.batch_size
        self._images = ResidentImages(settings, data, world.device)
        measured = settings.sigma_data == "measured"
        self.sigma_data = measured_sigma_data(data) if measured else float(settings.sigma_data)
        self.objective = settings.objective(self.sigma_data)
        self.image = image_facts(settings, data)
        self.model = build_model(settings, self.image, self.sigma_data).to(world.device)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.ema = Ema(self.model, halflife=settings.ema_halflife_images, warmup=settings.ema_warmup)
        self.optimizer = _optimizer(settings, self.model)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        compiled = settings.compile and _can_compile(world.device)
        self.sampled: nn.Module = self.ema.model
        self._streams = StepStreams(
            settings.seed,
            n_images=len(data.train),
            shape=data.train.shape,
            batch_size=settings.batch_size,
            rank=world.rank,
            size=world.size,
            device=world.device,
            fresh_noise=settings.noise_draws == "inf" and settings.sigma_tn > 0,
            shift_pixels=settings.shift_pixels,
        )
        if compiled:
            self._compile()
        self._network = _for_training(self.model, world)

    def step(self) -> tuple[Tensor, Tensor]:
        """One step over the next global batch: (loss, gradient norm), 0-d on the device. No host sync.

        The loss is of this rank's part, weighted so that its mean over ranks is the global batch's.
        """
        settings = self.settings
        if settings.compile_mode is not None:  # a CUDA graph may write over the last step's gradients from here on
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        loss = self._loss(self._network)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), self.update()

    def next_batch(self) -> tuple[Batch, Draws]:
        """The images of the next step and their random numbers: a function of the seed and the images seen."""
        draws = self._streams.draw(self.images_seen)
        return self._images.batch(draws), draws.draws

    def update(self) -> Tensor:
        """Weights, average and images seen, one step on, from the gradients: their norm before clipping."""
        settings, norm = self.settings, self._clip_gradient()
        self.images_seen += settings.batch_size
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.images_seen)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(settings.batch_size, self.images_seen)
        return norm

    def held(self) -> dict[str, Tensor]:
        """Checksums of what all ranks must hold alike at any time, bit by bit: weights and average."""
        return {"weights": checksum(self._parameters), "averaged weights": checksum(self.ema.model.parameters())}

    def read(self) -> dict[str, Tensor]:
        """Checksums of what all ranks must have read alike: images, labels, marks, and the noise bank."""
        return {name: checksum(tensors) for name, tensors in self._images.held().items()}

    def _loss(self, network: nn.Module) -> Tensor:
        """The mean loss of this rank's part of the next global batch; weighted where ranks have parts of unequal size.

        DDP takes the mean of the ranks' gradients, so an image counts alike whichever part it is in.
        """
        batch, draws = self.next_batch()
        with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            loss = self.objective.loss(
                network,
                batch.clean,
                batch.noise,
                labels=batch.labels,
                noisy_image=batch.noisy_image,
                draws=draws,
            ).mean()
        return loss if self.weight == 1 else loss * self.weight

    def _compile(self) -> None:
        """Compile the network and its average for the sampler, and let the node's first process pay for the former.

        With a step's loss and gradients, which are dropped: before DDP, whose ranks wait for each other in a step.
        """
        settings = self.settings
        prepare_compiling()
        self.model.compile(mode=settings.compile_mode, dynamic=False)
        self.sampled = torch.compile(self.ema.model, dynamic=False)  # type: ignore[assignment]
        what = (settings.backbone, self.image, self.sigma_data, settings.precision, settings.compile_mode)
        mine = len(share(settings.batch_size, self.world.rank, self.world.size))
        kept = [buffer.clone() for buffer in self.model.buffers()]  # e.g. batch norm's running means
        with first_compilation(repr((what, settings.channels_last, mine, self.world.device.type))):
            self._loss(self.model).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(value)

    def _clip_gradient(self) -> Tensor:
        """The gradient's norm, not finite where any part is not; then it is clipped if settings say so."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.settings.grad_clip is not None:
            torch._foreach_mul_(gradients, (self.settings.grad_clip / (norm + 1e-6)).clamp(max=1.0))
        return norm


def learning_rate(settings: TrainSettings, images_seen: int) -> float:
    """lr, ramped up linearly over warmup_images."""
    if settings.warmup_images == 0:
        return settings.lr
    return settings.lr * min(1.0, images_seen / settings.warmup_images)


def image_facts(settings: TrainSettings, data: TrainingData) -> dict[str, int | None]:
    """What the network must know of its images; num_classes is None when it is unconditional."""
    channels, resolution, _ = data.train.shape
    classes = data.train.num_classes if settings.conditional else None
    return {"channels": channels, "resolution": resolution, "num_classes": classes}


def build_model(settings: TrainSettings, image: dict[str, Any], sigma_data: float) -> EDMPrecond:
    """The network with its seeded first weights, on the CPU: the same on every device and rank.

    Raises TrialInputError when the backbone cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(Stream(settings.seed, "weights").seed(0))
        try:
            backbone = build_backbone(settings.backbone, **image)
        except ValueError as error:
            raise TrialInputError(str(error)) from error
    return EDMPrecond(backbone, sigma_data)


def check_model(settings: TrainSettings, image: dict[str, Any]) -> None:
    """Raise the TrialInputError that `build_model` would raise, without building a network that need not be built."""
    try:
        check_backbone(settings.backbone, **image)
    except ValueError as error:
        raise TrialInputError(str(error)) from error


def _optimizer(settings: TrainSettings, model: nn.Module) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    parameters = [p for p in model.parameters() if p.requires_grad]
    return kind(parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)


def _can_compile(device: torch.device) -> bool:
    if missing := missing_compiler(device):
        _log.warning("compile: %s; training runs uncompiled", missing)
    return not missing


def _for_training(model: EDMPrecond, world: World) -> nn.Module:
    """The module that the step calls: the model, in DDP with several workers."""
    if world.size == 1:
        return model
    if not torch.distributed.is_initialized():
        raise TrialInputError(f"{world.size} workers need torch.distributed, which is not initialised")
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True)
