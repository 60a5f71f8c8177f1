"""Diffusion mathematics in PyTorch: preconditioning, noise levels, losses, samplers, backbones, oracles."""

from .augment import flip_together, shift_together
from .backbones import DiT, UNet, build_backbone, check_backbone, diffusers_network
from .empirical import ambient_empirical_denoiser, empirical_denoiser
from .losses import Denoiser, ambient_coefficient, ambient_loss, ambient_weight, denoising_loss, edm_weight
from .noise_levels import Cosine, LogNormal, LogUniform, NoiseLevels
from .objective import AmbientObjective, DenoisingTask, Draws, ObjectiveError
from .precond import EDMPrecond
from .samplers import NonFiniteSamplesError, heun_sampler, karras_schedule, latents, sample

__all__ = [
    "AmbientObjective",
    "Cosine",
    "Denoiser",
    "DenoisingTask",
    "DiT",
    "Draws",
    "EDMPrecond",
    "LogNormal",
    "LogUniform",
    "NoiseLevels",
    "NonFiniteSamplesError",
    "ObjectiveError",
    "UNet",
    "ambient_coefficient",
    "ambient_empirical_denoiser",
    "ambient_loss",
    "ambient_weight",
    "build_backbone",
    "check_backbone",
    "denoising_loss",
    "diffusers_network",
    "edm_weight",
    "empirical_denoiser",
    "flip_together",
    "heun_sampler",
    "karras_schedule",
    "latents",
    "sample",
    "shift_together",
]
