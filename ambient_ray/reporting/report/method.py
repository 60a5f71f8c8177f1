"""What it takes to repeat a study: data, training, scoring, search, software, the command, and whom to cite."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from ambient_ray.tracking.stored import StoredStudy

from ..tables import Column, Table
from .document import Block, Code, Facts, Paragraph
from .recall import Recalled

# Where a search ran, not what it did; paths of somebody's machine do not belong into a paper.
MACHINE = frozenset({"output_dir", "storage", "address", "dry_run"})
_PATHS = ("dataset.path", "dataset.subset", "evaluation.weights", "evaluation.repo", "search_spaces", "enqueue")
_ALIAS = "ambient_ray.alias."
_PACKAGES = ("torch", "ray", "optuna", "mlflow", "diffusers", "numpy")

CITATIONS = """\
@inproceedings{shah2025ambient,
  title     = {Does Generation Require Memorization? Creative Diffusion Models using Ambient Diffusion},
  author    = {Shah, Kulin and Kalavasis, Alkis and Klivans, Adam R. and Daras, Giannis},
  booktitle = {International Conference on Machine Learning (ICML)},
  year      = {2025},
  note      = {arXiv:2502.21278}
}

@inproceedings{karras2022edm,
  title     = {Elucidating the Design Space of Diffusion-Based Generative Models},
  author    = {Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2022}
}

@inproceedings{heusel2017fid,
  title     = {{GANs} Trained by a Two Time-Scale Update Rule Converge to a Local {Nash} Equilibrium},
  author    = {Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and Hochreiter, Sepp},
  booktitle = {Advances in Neural Information Processing Systems (NeurIPS)},
  year      = {2017}
}
"""


def method(study: Recalled, command: str) -> tuple[Block, ...]:
    """All of it. command: what would begin this search again; empty: not known."""
    stored, facts = study.stored, common_facts(study)
    found: list[Block] = [
        Facts(_data(stored), "Data"),
        Facts(_training(study), "Training and network"),
        Facts(_scoring(study, facts), "Scoring"),
        Facts(_searching(study), "Search and champion"),
        Facts(_software(stored), "Software and machine"),
    ]
    if command:
        found.append(Code(command, "The command"))
    text = "Every setting is below. Random numbers are shared by all trials: the same noise an image, the same latents."
    found += [Paragraph(text, "small"), settings_table(stored), Code(bibtex(stored), "To be cited")]
    return tuple(found)


def common_facts(study: Recalled) -> Mapping[str, Any]:
    """What most candidates' scores depend on (extractor, N, reference, seeds); empty before any is scored."""
    every = [c.rung.facts for c in study.land.candidates]
    return max(every, key=lambda facts: sum(other == facts for other in every[:200]), default={})


def settings_table(stored: StoredStudy) -> Table:
    """All settings that are not about the machine and not left empty, a row a group."""
    groups: dict[str, list[str]] = {}
    for key, value in stored.params.items():
        group, _, name = key.rpartition(".")
        if value is not None and key not in MACHINE and group != "tracking":
            groups.setdefault(group or "study", []).append(f"{name}={short(key, value)}")
    rows = tuple((group, "  ".join(values)) for group, values in groups.items())
    return Table("Settings as the search resolved them", (Column("group", False), Column("settings", False)), rows)


def short(key: str, value: Any) -> str:
    """A setting's value as text; of a path, its last part."""
    return PurePath(str(value)).name if key in _PATHS else str(value)


def bibtex(stored: StoredStudy) -> str:
    """Ambient Diffusion, EDM, FID, and this software at the version and commit that ran."""
    commit = stored.tags.get("mlflow.source.git.commit")
    lines = [
        "@software{ambient_ray,",
        "  title   = {ambient-ray: the {Ambient Diffusion} settings that copy the training set least},",
        "  author  = {{The ambient-ray developers}},",
        f"  version = {{{stored.tags.get('system.ambient_ray', 'unknown')}}},",
        *([f"  note    = {{commit {commit}}},"] if commit else []),
        f"  year    = {{{datetime.fromtimestamp(stored.started, UTC).year}}}",
        "}",
    ]
    return CITATIONS + "\n" + "\n".join(lines) + "\n"


def _data(stored: StoredStudy) -> tuple[tuple[str, str], ...]:
    data = stored.dataset
    if data is None:
        return (("name", "not recorded"),)
    profile = data.profile
    images = (
        f"{_n(profile, 'n')}, of which {_n(profile, 'n_train')} to train on and {_n(profile, 'n_heldout')} held out"
    )
    dropped = f"{_n(profile, 'duplicates_dropped')} exact duplicates left out, {_list(profile, 'skipped')} broken files"
    classes = profile.get("num_classes")
    return (
        ("name", data.name),
        ("content", f"SHA-256 `{data.content_hash}`"),
        ("images", f"{images}; {dropped}"),
        ("classes", "none" if classes is None else str(classes)),
        ("training subset", f"drawn with seed {stored.params.get('seed')}, SHA-256 `{profile.get('train_hash', '')}`"),
    )


def _training(study: Recalled) -> tuple[tuple[str, str], ...]:
    own = {key.removeprefix("training."): v for key, v in study.stored.params.items() if key.startswith("training.")}
    net = {key.removeprefix("backbone."): v for key, v in study.stored.params.items() if key.startswith("backbone.")}
    target = str(net.pop("_target_", "unknown"))
    optimizer = {key: own.get(key) for key in ("lr", "betas", "weight_decay", "batch_size")}
    levels = {key: own.get(key) for key in ("noise_distribution", "p_mean", "p_std", "sigma_data")}
    ambient = {key: own.get(key) for key in ("mixing", "weighting", "noise_draws", "flip", "shift_pixels")}
    return (
        ("network", f"`{target}` ({_pairs(net)})"),
        (
            "optimizer",
            f"{own.get('optimizer')} ({_pairs(optimizer)}), warm-up {_n(own, 'warmup_images')} images",
        ),
        ("averaged weights", f"half-life {_n(own, 'ema_halflife_images')} images; samples are drawn from these"),
        ("noise levels", f"{_pairs(levels)}; preconditioning of EDM"),
        ("Ambient Diffusion", f"{_pairs(ambient)}; sigma_tn and noisy_ratio by trial"),
        ("training lengths", ", ".join(f"{r:,}" for r in study.rungs) + " images"),
        ("precision", f"{own.get('precision')}, compile {own.get('compile')}"),
    )


def _scoring(study: Recalled, facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if not facts:
        return (("scores", "none yet"),)
    known = {"extractor", "weight_hash", "n", "reference", "reference_hash", "n_reference", "latent_seed",
             "sample_steps", "k", "tau_rule", "tau", "n_null", "train_hash", "n_train"}  # fmt: skip
    others = {key: value for key, value in facts.items() if key not in known}
    reference = f"{facts.get('reference')}, {_n(facts, 'n_reference')} images"
    return (
        ("objectives", f"`{study.objectives.fidelity}` and `{study.objectives.memorization}`, both minimised"),
        ("features", f"{facts.get('extractor')}, weights SHA-256 `{facts.get('weight_hash')}`"),
        ("samples", f"{_n(facts, 'n')} a rung, {facts.get('sample_steps')} steps of EDM's Heun sampler, latent seed "
                    f"{facts.get('latent_seed')}"),
        ("reference", f"{reference}, SHA-256 `{facts.get('reference_hash')}`"),
        ("thresholds", f"gap ratio below {float(facts.get('k', 0)):.3g}; tau by the rule {facts.get('tau_rule')}"
                       f" ({float(facts.get('tau', float('nan'))):.4g}), from {_n(facts, 'n_null')} held-out images"),
        ("further facts", _pairs(others)),
    )  # fmt: skip


def _searching(study: Recalled) -> tuple[tuple[str, str], ...]:
    params = study.stored.params
    sampler = str(params.get("sampler._target_", "unknown")).rpartition(".")[2]
    budget = [f"{params[key]} {key.replace('_', ' ')}" for key in ("trials", "hours", "gpu_hours") if params.get(key)]
    bound = params.get("confirm.max_memorization")
    seeds = sorted({int(t.settings["seed"]) for t in study.replicas if "seed" in t.settings})
    return (
        ("space", f"{params.get('search_space')}: {', '.join(study.searched) or 'one configuration'}"),
        ("sampler", f"{sampler}, seed {params.get('seed')}; budget {' or '.join(budget)}"),
        ("early stopping", f"by non-dominated rank, reduction factor {params.get('trial.reduction_factor')},"
                           f" within a front by {params.get('trial.within')}"),
        ("confirmation", f"the {params.get('confirm.top')} best and DDPM, {params.get('confirm.seeds')} seeds each"
                         + (f": {', '.join(map(str, seeds))}" if seeds else "; none was begun")),
        ("champion rule", f"{study.rule.name}, tolerance {study.rule.tolerance:g}"
                          + (f", at most {bound}" if bound is not None else "")),
        ("of use", f"fidelity up to {1 + study.delta:g} times DDPM's best"),
    )  # fmt: skip


def _software(stored: StoredStudy) -> tuple[tuple[str, str], ...]:
    system = {key.removeprefix("system."): v for key, v in stored.tags.items() if key.startswith("system.")}
    commit = stored.tags.get("mlflow.source.git.commit")
    packages = ", ".join(f"{name} {system[name]}" for name in _PACKAGES if name in system)
    started = datetime.fromtimestamp(stored.started, UTC)
    ended = "still running" if stored.ended is None else f"{datetime.fromtimestamp(stored.ended, UTC):%Y-%m-%d %H:%M}"
    version = f"{system.get('ambient_ray', 'unknown')}" + (f", commit `{commit}`" if commit else "")
    found = [
        ("ambient-ray", version),
        ("packages", f"Python {system.get('python', '?')}, {packages}"),
        ("machine", f"{system.get('cpu', '?')}, {system.get('cores', '?')} cores; GPU {system.get('gpu', '?')};"
                    f" {system.get('platform', '?')} (the search's driver)"),
        ("a trial", f"workers {stored.params.get('trial.workers')}, CPUs each"
                    f" {stored.params.get('trial.cpus_per_worker')}, GPUs each"
                    f" {stored.params.get('trial.gpus_per_worker')}"),
        ("run", f"{started:%Y-%m-%d %H:%M} to {ended}, UTC; MLflow run `{stored.run_id}`"),
    ]  # fmt: skip
    champion = stored.tags.get("ambient_ray.champion")
    aliases = {k.removeprefix(_ALIAS): v for k, v in stored.tags.items() if k.startswith(_ALIAS) and v}
    told = [*([f"champion `{champion}`"] if champion else []), *(f"`@{name}` {text}" for name, text in aliases.items())]
    return tuple([*found, ("registry", "; ".join(told))] if told else found)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None) or "none"


def _n(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return "an unknown number of" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _list(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, 0)
    return str(len(value)) if isinstance(value, list) else str(value)
