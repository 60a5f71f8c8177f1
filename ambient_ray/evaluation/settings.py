"""How samples are scored: the settings, and what the scores are called."""

from dataclasses import dataclass, fields
from typing import Literal, Self

from .errors import EvaluationSettingsError
from .memorization import NULL_QUANTILE

ReferenceName = Literal["heldout", "full", "train", "other"]
REFERENCES: tuple[ReferenceName, ...] = ("heldout", "full", "train", "other")


def fidelity_key(extractor: str) -> str:
    """The Frechet distance's key: `fid` with the original Inception, `fd_<extractor>` with any other."""
    return "fid" if extractor == "inception" else f"fd_{extractor}"


@dataclass(frozen=True)
class EvaluationSettings:
    """How samples are scored.

    reference: what the fidelity that is optimised is measured against: `heldout` (default), `full`, `train`,
    which rewards copying, or `other`: any set of images of this shape. k: the gap ratio's threshold of f_mem,
    in (0, 1]. tau: the similarity threshold of S_tau, or None: calibrated to the null's `null_quantile`. mirror,
    shift: f_mem counts mirror images, and images moved by up to so many pixels, as copies (set them where training
    may flip or shift, for all trials that are to be compared: else augmentation looks like less copying, as f_mem
    does not see through it).
    """

    reference: ReferenceName = "heldout"
    k: float = 1 / 3
    tau: float | None = None
    null_quantile: float = NULL_QUANTILE
    mirror: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.reference not in REFERENCES:
            raise EvaluationSettingsError(
                f"evaluation.reference={self.reference} is unknown; use one of {', '.join(REFERENCES)}."
            )
        if not 0 < self.k <= 1:
            raise EvaluationSettingsError(f"evaluation.k={self.k}: the gap ratio's threshold must lie in (0, 1].")
        if self.tau is not None and not -1 <= self.tau < 1:
            raise EvaluationSettingsError(f"evaluation.tau={self.tau}: a cosine threshold must lie in [-1, 1).")
        if not 0 < self.null_quantile < 1:
            raise EvaluationSettingsError(f"evaluation.null_quantile={self.null_quantile} must lie between 0 and 1.")
        if self.shift < 0:
            raise EvaluationSettingsError(f"evaluation.shift={self.shift} must be a number of pixels, 0 or more.")

    def differing(self, other: Self) -> tuple[str, ...]:
        """Names of the fields in which two settings differ."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name))
