"""EDM preconditioning: from a backbone F to a denoiser D (Karras et al. 2022, Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EDMPrecond(nn.Module):
    """D(x, sigma) = c_skip x + c_out F(c_in x; c_noise), which keeps F's inputs and targets at unit variance.

    c_skip = sd^2/(s^2+sd^2), c_out = s sd/sqrt(s^2+sd^2), c_in = 1/sqrt(s^2+sd^2), c_noise = ln(s)/4
    with sd = sigma_data (Karras et al. 2022, Table 1, last column).

    backbone: any module called as backbone(x [B,C,H,W], c_noise [B], labels [B] or None) -> [B,C,H,W].
    sigma_data: standard deviation of the data in [-1, 1]; > 0, or ValueError.
    """

    backbone: nn.Module

    def __init__(self, backbone: nn.Module, sigma_data: float = 0.5) -> None:
        """Wrap a backbone."""
        super().__init__()
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be above 0, got {sigma_data}")
        self.backbone = backbone
        self.sigma_data = float(sigma_data)

    @property
    def broadcasts_noise_level(self) -> bool:
        """Whether a batch of one noise level is cheaper as sigma [1]: the backbone says that it takes c_noise [1]."""
        return bool(getattr(self.backbone, "broadcasts_noise_level", False))

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predict the clean image. x: [B,C,H,W]; sigma: [B], [1] or a scalar, > 0; labels: int64 [B] or None."""
        s = sigma.to(x.dtype).expand(1 if sigma.numel() == 1 and self.broadcasts_noise_level else x.shape[0])
        sd = self.sigma_data
        norm = (s.square() + sd * sd).sqrt()
        shape = (-1, *([1] * (x.ndim - 1)))
        c_in = norm.reciprocal().view(shape)
        c_skip = (sd / norm).square().view(shape)
        c_out = (s * sd / norm).view(shape)
        out = self.backbone(c_in * x, s.log() / 4, labels)
        # Under autocast F may come back in bfloat16; the sum with c_skip x stays in x's precision.
        return torch.addcmul(c_skip * x, c_out, out.to(x.dtype))
