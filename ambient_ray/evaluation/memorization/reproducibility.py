"""RP: whether two models draw the same image from the same latent."""

import numpy as np

from ..arrays import Array, as_features, same_width
from ..errors import EvaluationSettingsError, FeatureShapeError
from ..estimate import Estimate, share_of

ALIKE = 0.6


def reproducibility(features_a: Array, features_b: Array, tau: float = ALIKE) -> Estimate:
    """RP, the share of pairs whose cosine exceeds tau (Zhang et al. 2023, "The emergence of reproducibility").

    features_a, features_b [N, d]: of two models' samples, the i-th of both from the same latent. Models that have
    learnt one distribution agree without copying; copiers of one training set agree as well: read it beside a score of
    copying. Wilson's 95 % interval, over other latents. tau .6 is the paper's, for its own descriptor (SSCD).

    Raises FeatureShapeError (other numbers or widths), EvaluationSettingsError (tau outside [-1, 1)).
    """
    a, b = as_features(features_a, "first features"), as_features(features_b, "second features")
    same_width(a, b, "reproducibility")
    if len(a) != len(b):
        raise FeatureShapeError(
            f"{len(a)} and {len(b)} samples are no pairs; reproducibility needs as many of both, from the same latents."
        )
    if not -1 <= tau < 1:
        raise EvaluationSettingsError(f"tau={tau}: a cosine threshold must lie in [-1, 1).")
    first, second = (x.astype(np.float64) for x in (a, b))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    inner = np.einsum("nd,nd->n", first, second)
    return share_of(np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0) > tau)
