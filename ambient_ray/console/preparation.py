"""Everything that can be wrong with a search, found out before Ray starts; and all that its trials share."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ambient_ray.data import ImageSet, Split, noise_bank
from ambient_ray.data.subsets import read_list
from ambient_ray.storage import Patience
from ambient_ray.tracking import TrackingStore, check_tracking, resolve_store
from ambient_ray.training import TrainSettings
from ambient_ray.training.settings import NETWORK_SETTINGS
from ambient_ray.tuning.champion import Rule
from ambient_ray.tuning.enqueued import load_points
from ambient_ray.tuning.judge import RungPolicy, usual_rung_values
from ambient_ray.tuning.lease import Lease
from ambient_ray.tuning.records import Objectives
from ambient_ray.tuning.running.shape import TrialShape
from ambient_ray.tuning.samplers import choose_sampler
from ambient_ray.tuning.space import Choice, Space, load_space
from ambient_ray.tuning.study import Study
from ambient_ray.tuning.transfer import Transfer, WarmStartError

from .automatic import compiles, network, packing, precision
from .checks import (
    check_network,
    check_scores,
    check_shares,
    check_space_data,
    check_space_values,
    lock_study,
)
from .configuration import Configuration
from .folders import check_place, check_writable
from .images import divide_images, other_reference, read_images

#: Settings that the search sets itself, so that no space may.
_NOT_SEARCHED = frozenset(
    {"backbone", "seed", "noise_seed", "latent_seed", "rungs", "samples", "sample_steps", "sample_batch"}
)
_CLASSIFIED = frozenset({"digits"})


@dataclass(frozen=True)
class Prepared:
    """A search that is ready to start.

    Attributes:
        config: the validated configuration.
        images: all images; `subsets` are taken from them.
        subsets: training subset and held-out images.
        other: the set that evaluation.reference is the path of; None where it is one of the study's own.
        settings: of a training run, before a trial's own are set.
        space: what is searched.
        objectives: the names of the two scores.
        policy: what the judge decides by.
        shape: what a trial asks of the cluster.
        rule: by which the champion is chosen.
        study: open, and claimed with these settings.
        store: where MLflow records.
        extractor: features, ready to use.
        pack: how many trials a worker trains together.
        lock: held while this process lives; None for a dry run.
        lease: of the study, held until it is released; None for a dry run.
    """

    config: Configuration
    images: ImageSet
    subsets: Split
    other: ImageSet | None
    settings: TrainSettings
    space: Space
    objectives: Objectives
    policy: RungPolicy
    shape: TrialShape
    rule: Rule
    study: Study
    store: TrackingStore
    extractor: Any
    pack: int
    lock: IO[str] | None
    lease: Lease | None = None


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_node() -> dict[str, float]:
    """This machine's resources, as Ray will count them."""
    import torch

    return {"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}


def one_configuration(config: Configuration) -> Space:
    """The space of a single point: the training settings as they are, and no baseline beside them."""
    settings = train_settings(config).to_dict()
    return Space("one configuration", {}, {key: settings[key] for key in ("sigma_tn", "noisy_ratio", "mixing")})


def prepare(config: Configuration, space: Space | None = None) -> Prepared:
    """Check everything, cheapest first, then read the images and build what is shared.

    Args:
        config: validated.
        space: what is searched, instead of the one that `config.search_space` names.

    Raises:
        UserError: one of its kinds, each with one sentence.
    """
    settings = train_settings(config)
    if space is None:
        searchable = (frozenset(settings.to_dict()) | NETWORK_SETTINGS) - _NOT_SEARCHED
        space = load_space(
            config.search_space,
            settings=searchable,
            folder=config.search_spaces,
            overrides=config.space,
            configured={**settings.to_dict(), **{key: settings.backbone.get(key) for key in NETWORK_SETTINGS}},
        )
    check_space_values(settings, space)
    shape = _shape(config)
    check_shares(settings, space, shape.most_workers)
    if not (config.address or os.environ.get("RAY_ADDRESS")):
        shape.concurrency([this_node()])
    sampler = choose_sampler(config.sampler, space)
    points = load_points(config.enqueue, space, settings.to_dict()) if config.enqueue is not None else []
    store = resolve_store(config.tracking.uri, config.output_dir)
    check_writable(config.folder, "output_dir=")
    check_place(config)
    lock = None if config.dry_run else lock_study(config.folder)
    images = read_images(config)
    subsets = divide_images(config, images)
    other = other_reference(config, images)
    check_tracking(store.uri)
    backbone = network(config, images.shape[-1])
    compiled = compiles(config, backbone, space)
    settings = TrainSettings.from_dict({**settings.to_dict(), "backbone": backbone, "compile": compiled})
    check_network(settings, subsets)
    check_space_data(settings, space, subsets)
    pack = packing(config, settings, subsets, space)
    extractor = _extractor(config, images)  # seconds: a classifier is trained; all that needs none is checked by now
    objectives = _objectives(config, extractor.name)
    policy = _policy(config, objectives)
    check_scores(policy.needed(objectives), extractor.name, subsets, config.reference)
    proposer = sampler.proposer(
        seed=config.seed, prior_weight=config.prior.weight, transfer=_warm_start(config, space, objectives)
    )
    rule = Rule(config.confirm.rule, config.evaluation.tolerance, config.confirm.max_memorization)
    patience = Patience(hours=config.checkpoint_patience)
    study = Study(
        config.study, config.storage_url, objectives, proposer, delta=config.evaluation.delta, patience=patience
    )
    lease: Lease | None = None
    try:
        lease = None if config.dry_run else take_lease(study)
        study.claim(_identity(config, settings, space, images, other, extractor, objectives))
        study.enqueue(points)
    except BaseException:
        if lease is not None:
            lease.release()
        if lock is not None:
            lock.close()
        raise
    return Prepared(
        config, images, subsets, other, settings, space, objectives, policy, shape, rule, study, store, extractor, pack,
        lock, lease,
    )  # fmt: skip


def take_lease(study: Study) -> Lease | None:
    """The right to search the study, which goes on counting its seconds where a search that died left off.

    Raises:
        StudyBusyError: another process searches it.
    """
    board = study.board()
    if board is None:
        return None
    lease = Lease(study.name, board, study.elapsed)
    lease.on_lost = lambda: os.kill(os.getpid(), signal.SIGINT)  # `search` then says why
    seconds = lease.take(lambda text: print(text, flush=True))
    if seconds > study.seconds:
        study.searched(seconds)
    return lease


def train_settings(config: Configuration) -> TrainSettings:
    """The settings of a training run, before a trial's own are set."""
    evaluation = config.evaluation
    return TrainSettings.from_dict(
        {
            **config.training,
            "precision": precision(config),
            "compile": compiles(config, config.backbone),
            "backbone": config.backbone,
            "seed": config.training.get("seed", config.seed), "noise_seed": config.seed, "latent_seed": config.seed,
            "rungs": config.trial.rungs, "samples": evaluation.samples,
            "sample_steps": evaluation.sample_steps, "sample_batch": evaluation.sample_batch,
        }
    )  # fmt: skip


def network_imports(backbone: Mapping[str, Any]) -> list[str]:
    """Modules that building this network imports, seconds of them, so that others can do so ahead of time."""
    module, _, name = str(backbone.get("_target_", "")).rpartition(".")
    if module != "ambient_ray.diffusion.backbones":
        return [module] if module else []
    kind = "transformers.dit_transformer_2d" if name == "DiT" else "unets.unet_2d"
    return [f"diffusers.models.{kind}"]


def _warm_start(config: Configuration, space: Space, objectives: Objectives) -> Transfer | None:
    """The trials of the study that `warm_start` names, as prior knowledge."""
    if config.warm_start is None:
        return None
    given = config.warm_start
    folder = Path(given).expanduser() if "/" in given else config.output_dir / given
    storage = f"journal:{folder / 'study.journal'}"
    if config.storage is not None and "/" not in given:
        storage = config.storage
    elif not (folder / "study.journal").is_file():
        raise WarmStartError(f"warm_start={given}: there is no study in {folder}")
    if folder == config.folder:
        raise WarmStartError(f"warm_start={given}: this is the study itself; the same command continues it")
    source = Study(folder.name, storage, objectives)
    settings = source.settings
    theirs = Objectives(str(settings.get("evaluation.fidelity")), str(settings.get("evaluation.memorization")))
    if theirs != objectives:
        raise WarmStartError(
            f"warm_start={given}: its objectives are {theirs.fidelity} and {theirs.memorization}, and this study's are"
            f" {objectives.fidelity} and {objectives.memorization}; nothing can be learnt across other scores"
        )
    defaults = {key.removeprefix("training."): v for key, v in settings.items() if key.startswith("training.")}
    try:
        return Transfer.of(source.trials(), objectives, source.reference, defaults, space)
    except WarmStartError as error:
        raise WarmStartError(f"warm_start={given}: {error}") from error


def _extractor(config: Configuration, images: ImageSet) -> Any:
    from ambient_ray.evaluation import build_extractor

    evaluation = config.evaluation
    features = evaluation.features
    if features == "auto":
        features = (
            "classifier" if config.dataset.path is None and config.dataset.name in _CLASSIFIED else "efficientnet_lite0"
        )
    return build_extractor(
        features,
        image_set=images,
        cache_dir=config.output_dir / "cache",
        seed=config.seed,
        weights=evaluation.weights,
        sha256=evaluation.sha256,
        repo=evaluation.repo,
        precision=evaluation.precision,
    )


def _objectives(config: Configuration, extractor: str) -> Objectives:
    from ambient_ray.evaluation import fidelity_key

    key, wanted = fidelity_key(extractor), config.evaluation.fidelity
    named = {"fd": key, "fd_inf": f"{key}_inf", "mi_fd": f"mi_{key}"}
    return Objectives(named.get(wanted, wanted), config.evaluation.memorization)


def _policy(config: Configuration, objectives: Objectives) -> RungPolicy:
    rungs = len(config.trial.rungs)
    values: Sequence[Sequence[str]]
    if config.trial.rung_values is None:
        values = usual_rung_values(rungs, objectives)
    else:
        named = {"fd": objectives.fidelity}
        values = [[named.get(key, key) for key in keys] for keys in config.trial.rung_values]
    return RungPolicy(rungs, config.trial.reduction_factor, values, within=config.trial.within)


def _identity(
    config: Configuration,
    settings: TrainSettings,
    space: Space,
    images: ImageSet,
    other: ImageSet | None,
    extractor: Any,
    objectives: Objectives,
) -> dict[str, Any]:
    """The settings under which results compare: all that change what a trial's scores are."""
    flat: dict[str, Any] = {
        "dataset.content": images.content_hash,
        "dataset.n_train": config.dataset.n_train,
        "dataset.subset": None if config.dataset.subset is None else read_list(config.dataset.subset).sha256,
        "seed": config.seed,
        "search_space": space.name,
        "evaluation.features": extractor.name,
        "evaluation.weight_hash": extractor.weight_hash,
        "evaluation.reference": config.reference if other is None else other.content_hash,
        "evaluation.heldout": config.evaluation.heldout,
        "evaluation.fidelity": objectives.fidelity,
        "evaluation.memorization": objectives.memorization,
        "evaluation.delta": config.evaluation.delta,
        "trial.rungs": list(config.trial.rungs),
    }
    flat |= {f"space.{key}": value for key, value in space.describe().items()}
    flat |= {f"backbone.{key}": value for key, value in settings.backbone.items()}
    flat |= {f"training.{key}": value for key, value in settings.to_dict().items() if key not in _NOT_SEARCHED}
    flat |= {
        f"evaluation.{key}": value for key, value in settings.to_dict().items() if key in {"samples", "sample_steps"}
    }
    return flat


def _shape(config: Configuration) -> TrialShape:
    trial = config.trial
    return TrialShape(trial.fewest_workers, trial.cpus_per_worker, trial.gpus_per_worker, trial.most_workers)


def bank_for(prepared: Prepared) -> Any:
    """The noise bank S_tn of the training subset, with as many draws as any trial may ask for."""
    choices = [prepared.settings.noise_draws]
    parameter = prepared.space.parameters.get("noise_draws")
    if isinstance(parameter, Choice):
        choices += list(parameter.choices)  # type: ignore[arg-type]
    elif parameter is not None:
        choices.append(int(parameter.high))
    draws = max((int(choice) for choice in choices if choice != "inf"), default=1)
    train = prepared.subsets.train
    return noise_bank(train.ids, train.shape, seed=prepared.config.seed, draws=draws)
