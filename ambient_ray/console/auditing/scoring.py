"""One audit: generated images scored against a training set, by the evaluation that the search uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambient_ray.data.fetch import cache_folder
from ambient_ray.evaluation import (
    EvaluationSettings,
    Extractor,
    References,
    Scores,
    build_extractor,
    comparable,
    evaluate,
    fidelity_key,
)
from ambient_ray.evaluation.crossfit import evaluate_copying
from ambient_ray.evaluation.extractors import device_of
from ambient_ray.evaluation.near_duplicates import NearDuplicates, near_duplicates

from .gate import Bound, By, Judged, Measure, judge, measures
from .generated import Generated, LoadedModel
from .real_images import RealImages

_WITHOUT_WEIGHTS = ("pixels", "efficientnet_lite0")
_NEEDS_HELDOUT = "it compares with real images that were not trained on; give them by --heldout (or --subset)"


@dataclass(frozen=True)
class Audit:
    """What an audit found. near: near-duplicates among the training images; missing: why measures are not there."""

    generated: Generated
    real: RealImages
    scores: Scores
    settings: EvaluationSettings
    measures: Mapping[str, Measure]
    bounds: Sequence[Bound]
    judged: Sequence[Judged]
    by: By
    near: NearDuplicates
    missing: Mapping[str, str]
    notes: Sequence[str]

    @property
    def verdict(self) -> str:
        """`passed`, `failed`, or `not gated` where no bound was given."""
        if not self.judged:
            return "not gated"
        return "passed" if all(one.passed for one in self.judged) else "failed"

    @property
    def fidelity(self) -> str:
        """The name of the Frechet distance with these features."""
        return fidelity_key(str(self.scores.facts["extractor"]))


def choose_features(asked: str, model: LoadedModel | None, real: RealImages) -> str:
    """What `auto` means: the features of the model's own scores where they can be had here, else efficientnet_lite0."""
    if asked != "auto":
        return asked
    theirs = None if model is None else model.facts.get("extractor")
    labelled = real.whole.labels is not None and len(set(real.whole.labels.tolist())) > 1
    if theirs in _WITHOUT_WEIGHTS or (theirs == "classifier" and labelled):
        return str(theirs)
    return "efficientnet_lite0"


def make_extractor(features: str, model: LoadedModel | None, real: RealImages, **options: Any) -> Extractor:
    """The extractor of that name, or class. options: of `build_extractor`.

    A classifier is trained on the whole set of the training images, with the seed of the model's own where it has one,
    as in the search. Raises what `build_extractor` raises.
    """
    seed = 0 if model is None else int(model.facts.get("extractor_seed", 0))
    config: str | dict[str, str] = {"_target_": features} if "." in features else features
    return build_extractor(config, image_set=real.whole, cache_dir=cache_folder() / "classifiers", seed=seed, **options)


def missing_measures(real: RealImages) -> dict[str, str]:
    """Why measures cannot be had, by their short names (fd for the Frechet distance, whatever its features)."""
    if real.heldout is not None:
        return {}
    needed = ("fd", "fd_inf", "mi_fd", "kid", "precision", "recall", "density", "coverage", "c_t")
    return dict.fromkeys(needed, _NEEDS_HELDOUT)


def run_audit(
    generated: Generated,
    real: RealImages,
    extractor: Extractor,
    settings: EvaluationSettings,
    *,
    bounds: Sequence[Bound],
    by: By,
    notes: Sequence[str] = (),
) -> Audit:
    """Score the generated images and judge them. Raises BoundError, and what the evaluation raises."""
    seeds, told = _seeds(generated), list(notes)
    if real.heldout is None:
        scores = evaluate_copying(generated.images, extractor, real.train, settings=settings, seeds=seeds)
    else:
        references = References.build(extractor, real.train, real.heldout, settings=settings)
        scores = evaluate(generated.images, extractor, references, seeds=seeds)
        if caution := references.caution(len(generated.images)):
            told.append(caution.rstrip("."))
    near = near_duplicates(real.train.images, k=settings.k, mirror=settings.mirror, device=device_of(extractor))
    found = measures(scores.values)
    judged = judge(bounds, found, by)
    told += _notes(generated, real, scores, near, settings)
    return Audit(
        generated, real, scores, settings, found, bounds, judged, by, near, missing_measures(real), told
    )  # fmt: skip


def own_scores(audit: Audit) -> dict[str, float]:
    """The model's own figures of the measures, as its search took them; empty for images and for a silent model."""
    own = (audit.generated.model or {}).get("scores", {})
    return {name: float(own[name]) for name in audit.measures if isinstance(own.get(name), int | float)}


def unlike_own(audit: Audit) -> tuple[str, ...]:
    """The facts in which this audit differs from the model's own scores, beside the samples (their number and seed)."""
    facts = (audit.generated.model or {}).get("facts", {})
    differing = comparable(audit.scores.facts, facts) or ()
    return tuple(name for name in differing if name not in {"n", "latent_seed"})


def _seeds(generated: Generated) -> dict[str, int]:
    if generated.model is None:
        return {}
    steps = generated.model["facts"].get("sample_steps")
    return {"latent_seed": int(generated.model["seed"])} | ({} if steps is None else {"sample_steps": int(steps)})


def _notes(
    generated: Generated, real: RealImages, scores: Scores, near: NearDuplicates, settings: EvaluationSettings
) -> list[str]:
    """What a reader has to know to read the figures rightly, a sentence each."""
    notes, n = [], len(generated.images)
    skipped = [(len(generated.skipped), generated.source), (len(real.skipped), real.source)]
    notes += [f"{_counted(count, 'broken file')} of {source} left out" for count, source in skipped if count]
    if real.duplicates:
        notes.append(
            f"{_counted(real.duplicates, 'exact duplicate')} in {real.source} dropped, so that one of each is left"
        )
    if len(real.train) + real.duplicates < len(real.whole):
        notes.append(
            f"{len(real.train):,} of the {len(real.whole):,} images of {real.source} are training images: "
            + (
                f"those that {real.subset} lists"
                if real.subset
                else "those that the model was trained on, by their hash"
            )
        )
    if real.trained_on:
        notes.append(f"{real.trained_on:,} images of {real.heldout_source} equal a training image and are not held out")
    if generated.different < n:
        notes.append(
            f"only {generated.different:,} of the {n:,} generated images are different: the intervals take them for "
            "independent samples and are too narrow"
        )
    if near.images:
        share = near.images / len(real.train)
        blind = real.heldout is None and settings.tau is None and share > 1 - settings.null_quantile
        notes.append(
            f"{near.images:,} training images ({100 * share:.2g} %) have a near-duplicate in the training set: f_mem "
            "misses copies of them that are not exact; drop all but one of each"
            + (", as they also raise s_tau's threshold" if blind else ", or watch s_tau")
        )
    if real.heldout is None:
        notes.append(
            "no held-out images were given: the nulls are of the training images, each tenth against the other nine, "
            "and there is no fidelity and no C_T"
        )
    quantile = scores.facts.get("tau_quantile")
    if isinstance(quantile, float) and quantile < settings.null_quantile:
        notes.append(
            f"s_tau's threshold is the highest similarity of {scores.facts['n_null']:,} real images, as they are too "
            f"few for their {100 * settings.null_quantile:g}th percentile"
        )
    return notes


def _counted(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"
