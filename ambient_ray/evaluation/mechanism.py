"""Where memorization shows in the denoiser itself, before any image is sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ambient_ray.diffusion import Denoiser, edm_weight

from .arrays import Array
from .errors import FeatureShapeError, TooFewImagesError
from .estimate import Estimate, bootstrap_counts, percentile_interval

SIGMAS = (0.2, 0.5, 1.0, 2.0)


def denoising_losses(
    denoiser: Denoiser,
    images: Array,
    *,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
    labels: Array | None = None,
    sigma_data: float = 0.5,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float64]:
    """lambda(s) |D(x + s e, s) - x|^2, mean over pixels, of each image at each sigma: float64 [N, sigmas].

    images: float [N,C,H,W] in [-1, 1] (SCIENCE.md 1; Karras et al. 2022, eq. 2). Image j's noise depends on
    (seed, j) and the sigma's place alone: the same in every trial, at every rung, on every device and for
    every batch size. The denoiser is called as it is (put a network with dropout into eval mode first),
    without gradients; with sigma [1] if it says that it `broadcasts_noise_level`, else [B].
    """
    clean = torch.as_tensor(images)
    if clean.ndim != 4 or not clean.is_floating_point():
        raise FeatureShapeError(
            f"Denoising losses need float images [N,C,H,W] in [-1, 1], got {clean.dtype} {clean.shape}."
        )
    classes = None if labels is None else torch.as_tensor(labels)
    one_row = getattr(denoiser, "broadcasts_noise_level", False)
    noise = _noise(len(clean), len(sigmas), clean.shape[1:], seed)
    losses = np.empty((len(clean), len(sigmas)))
    with torch.no_grad():
        for start in range(0, len(clean), batch_size):
            part = slice(start, start + batch_size)
            x = clean[part].to(device, torch.float32)
            y = None if classes is None else classes[part].to(device)
            for column, level in enumerate(sigmas):
                sigma = torch.full((1 if one_row else len(x),), float(level), device=device)
                noisy = x + level * noise[part, column].to(device)
                d = denoiser(noisy, sigma) if y is None else denoiser(noisy, sigma, labels=y)
                error = (d.float() - x).square().flatten(1).mean(dim=1)
                losses[part, column] = (edm_weight(sigma, sigma_data) * error).double().cpu().numpy()
    return losses


@dataclass(frozen=True)
class DenoisingGaps:
    """Where along sigma a denoiser knows its training images better than others.

    overall: `denoising_gap`; sigmas [k]; train, heldout: float64 [k], the mean losses at each; bands [k]: the gap at
    each.
    """

    overall: Estimate
    sigmas: tuple[float, ...]
    train: npt.NDArray[np.float64]
    heldout: npt.NDArray[np.float64]
    bands: tuple[Estimate, ...]


def denoising_gap(
    denoiser: Denoiser,
    train: Array,
    heldout: Array,
    *,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
    train_labels: Array | None = None,
    heldout_labels: Array | None = None,
    sigma_data: float = 0.5,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> Estimate:
    """(L_heldout - L_train) / L_heldout, L = the denoising loss averaged over sigmas, with a 95 % interval.

    0: the network denoises images it has not seen as well as those it has; 1: it has the training images by
    heart. It rises before copies are sampled and costs no sampling: the early signal of low rungs
    (SCIENCE.md 6). One sigma gives one band. train [n,C,H,W], heldout [m,C,H,W] float in [-1, 1], n, m >=
    2, a few hundred of each are enough; the interval resamples the images of both sets (bootstrap, 1,000
    resamples, seeded), so chance differences in difficulty are in it.
    """
    return denoising_gaps(
        denoiser,
        train,
        heldout,
        sigmas=sigmas,
        seed=seed,
        train_labels=train_labels,
        heldout_labels=heldout_labels,
        sigma_data=sigma_data,
        batch_size=batch_size,
        device=device,
    ).overall


def denoising_gaps(
    denoiser: Denoiser,
    train: Array,
    heldout: Array,
    *,
    sigmas: Sequence[float] = SIGMAS,
    seed: int = 0,
    train_labels: Array | None = None,
    heldout_labels: Array | None = None,
    sigma_data: float = 0.5,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> DenoisingGaps:
    """`denoising_gap`, and what it is made of: the losses and the gap at each sigma, from the same passes.

    Bands have the overall gap's resamples, so they and it move together.
    """
    sets = {}
    for name, images, labels in (("train", train, train_labels), ("heldout", heldout, heldout_labels)):
        if len(images) < 2:
            raise TooFewImagesError(
                f"The denoising gap needs at least two images in each set, {name} has {len(images)}."
            )
        sets[name] = denoising_losses(
            denoiser,
            images,
            sigmas=sigmas,
            seed=seed,
            labels=labels,
            sigma_data=sigma_data,
            batch_size=batch_size,
            device=device,
        )
    seen, unseen = sets["train"], sets["heldout"]
    counts = bootstrap_counts(len(seen), len(unseen), seed=seed)
    pairs = [(seen.mean(axis=1), unseen.mean(axis=1)), *zip(seen.T, unseen.T, strict=True)]
    overall, *bands = (percentile_interval(lambda a, b: (b - a) / b, counts, *pair) for pair in pairs)
    return DenoisingGaps(overall, tuple(sigmas), seen.mean(axis=0), unseen.mean(axis=0), tuple(bands))


def _noise(n: int, levels: int, shape: torch.Size, seed: int) -> torch.Tensor:
    """Unit noise [n, levels, *shape], privately drawn; a longer set starts with a shorter one's noise."""
    generator = np.random.Generator(np.random.Philox(key=seed))
    return torch.from_numpy(generator.standard_normal((n, levels, *shape), dtype=np.float32))
