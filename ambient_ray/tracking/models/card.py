"""The model card: what a version is, what it copies, what these figures do not show, how to load and make it again.

Built from a version's tags alone, so that whoever promotes a model by hand writes the same card as the search did. The
same text is README.md in the version's folder, in the style of the Hugging Face hub, and the version's description,
which MLflow's page shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .aliases import DONE, STATE
from .origin import REPRODUCE, Origin
from .promotion import Evidence

README = "README.md"
SCORES = "record.scores"  # a tag: all scores, for programs
DESCRIPTION_LIMIT = 5000  # characters that MLflow's databases keep of a description
_PAPER = "https://arxiv.org/abs/2502.21278"
_BIBTEX = """\
@article{shah2025memorization,
  title   = {Does Generation Require Memorization? Creative Diffusion Models using Ambient Diffusion},
  author  = {Shah, Kulin and Kalavasis, Alkis and Klivans, Adam R. and Daras, Giannis},
  journal = {arXiv preprint arXiv:2502.21278},
  year    = {2025}
}"""
# What stands in a description that is too long for a section.
_ELSEWHERE = {
    "configuration": f"## How to reproduce\n\nCommands, seeds, commit and versions are in {README}, and with the whole"
    f" configuration in the tag `{REPRODUCE}`.",
    "evidence": "## Evidence\n\nThe tag `record.evidence` says it.",
}
# What each score is, and the key of the same figure for held-out images.
_COPYING = {
    "f_mem": ("samples whose nearest training image is 3 times nearer than the second, in pixels", "f_mem_heldout"),
    "s_tau": ("samples more similar to a training image than 99.9 % of held-out images, in features", "s_null"),
    "partial": ("samples with a third or more of their area copied in place from one training image",
                "partial_heldout"),
    "train_coverage": ("training images that are copied by some sample", "train_coverage_heldout"),
    "authentic": ("samples further from their nearest training image than that is from its own nearest",
                  "authentic_heldout"),
    "c_t": ("distances to training images against held-out images' (C_T; far below 0 is copying)", "c_t_heldout"),
}  # fmt: skip
_QUALITY = {
    "kid": "kernel distance to held-out images",
    "precision": "samples among held-out images",
    "recall": "held-out images among the samples",
}
_ARMS = {"ddpm": "plain DDPM", "ambient": "Ambient Diffusion", "rival": "DDPM with other settings"}


def model_card(model: str, model_id: str, tags: Mapping[str, str]) -> str:
    """README.md of a version: YAML front matter of the Hugging Face hub, then the card.

    Args:
        model: the registered model's name.
        model_id: of the logged model, by which the version is found wherever its registry is.
        tags: the version's.
    """
    return f"---\n{_front_matter(model, tags)}---\n\n" + "\n\n".join(_sections(model, model_id, tags).values()) + "\n"


def description(model: str, model_id: str, tags: Mapping[str, str]) -> str:
    """The card for MLflow's page: without front matter, and within the 5,000 characters that MLflow's databases keep.

    It begins with a plain line, which is all that the table of versions shows of it. Where it is longer, the last
    sections give way, with a line that says where they are.
    """
    sections = _sections(model, model_id, tags)
    sections["title"] = sections["title"].removeprefix("# ")
    more = f"The whole card is {README} among this version's artifacts."
    for given_up in ("", "citation", "training", "data", "configuration", "evidence"):
        if given_up in sections:
            sections[given_up] = _ELSEWHERE.get(given_up, "")
        sections = {name: text for name, text in sections.items() if text}
        text = "\n\n".join([*sections.values(), *([more] if given_up else [])])
        if len(text) <= DESCRIPTION_LIMIT:
            return text
    return text[: DESCRIPTION_LIMIT - len(more) - 2].rpartition("\n")[0] + "\n\n" + more


def write_card(folder: Path, text: str) -> Path:
    """Write a card as README.md into a model's folder, and return its path."""
    path = folder / README
    path.write_text(text, encoding="utf-8")
    return path


def about() -> str:
    """What a registered model is: the text of its page, which its versions' cards go into."""
    return (
        "Diffusion models that were trained on few images and chosen by what they copy of them"
        f" ([Ambient Diffusion]({_PAPER}), ambient-ray). Each version has its card.\n\n"
        "- `champion`: moves only to what 95 % intervals show to be better; `previous-champion`: what it was before\n"
        "- `lowest-memorization`, `best-fidelity`: ends of the newest study's front; the first within twice DDPM's"
        " best fidelity (`evaluation.delta`)\n"
        "- `ddpm-baseline`: DDPM, stopped where it copies least at matched fidelity\n\n"
        "No privacy guarantee is claimed of any of them."
    )


def _sections(model: str, model_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    evidence, origin = Evidence.read(tags), Origin.read(tags)
    scores = _scores(tags)
    parts = {
        "title": _title(model, tags, evidence, origin),
        "promotion": _promotion(tags),
        "use": _USE,
        "figures": _figures(evidence, scores),
        "limits": _limits(evidence, scores),
        "evidence": "" if evidence is None else f"## Evidence\n\n{_plain(evidence.sentence)}.",
        "loading": _loading(model_id),
        "data": _data(origin),
        "training": _training(tags, origin),
        "configuration": _reproduce(origin),
        "licence": "## Licence\n\nThe licence of the weights is not decided by this tool: it depends on the rights in"
        " the training images. The code that travels with them is Apache-2.0.",
        "citation": f"## Citation\n\n```bibtex\n{_BIBTEX}\n```",
    }  # fmt: skip
    return {name: text for name, text in parts.items() if text}


# One line a paragraph: MLflow's page breaks lines where the text does.
_USE = (
    "## Intended use\n\n"
    "Research on generative models of small data sets: to draw images like the training images, and to compare how much"
    " models of equal quality copy.\n\n"
    "## Out of scope\n\n"
    "- As anonymised data, or as proof that no training image can be recovered. **No privacy guarantee is claimed**:"
    " the figures below are measurements on samples, and say nothing about attacks on the weights.\n"
    "- Images unlike the training images, and decisions about people."
)


def _title(model: str, tags: Mapping[str, str], evidence: Evidence | None, origin: Origin | None) -> str:
    notes = {} if evidence is None else evidence.notes
    what = notes.get("configuration") or (_ARMS.get(origin.arm, origin.arm) if origin else "")
    seen = f", stopped at {int(tags['images_seen']):,} images" if "images_seen" in tags else ""
    head = f"# {model}: {what}{seen}" if what else f"# {model}"
    if origin is None:
        return head
    of = f"images of {origin.dataset['name']}" if "name" in origin.dataset else "images"
    count = origin.dataset.get("n_train")
    trained = f"trained by {_ARMS.get(origin.arm, origin.arm)} on {f'{count:,} ' if count else ''}{of}"
    again = f", which repeats trial {origin.replica_of} on a fresh seed" if origin.replica_of is not None else ""
    return (
        f"{head}\n\nA diffusion model, {trained}. Trial {origin.trial}{again} of the study {origin.study},"
        f" registered by ambient-ray."
    )


def _promotion(tags: Mapping[str, str]) -> str:
    if tags.get(STATE) != DONE:
        return ""
    before = f", after version {tags['promoted.from']}" if tags.get("promoted.from") else ""
    text = f"Promoted to champion by {_plain(tags.get('promoted.by', 'unknown'))} at {tags.get('promoted.at')}{before}:"
    text = f"{text} {_plain(tags.get('promoted.reason', ''))}."
    if tags.get("promoted.evidence") == "none":
        text += " **Without evidence**: no intervals show that it is better than what held the alias before."
    return f"## Promotion\n\n{text}"


def _figures(evidence: Evidence | None, scores: Mapping[str, float]) -> str:
    if evidence is None:
        return ""
    fidelity, memorization = evidence.objectives
    seeds = f" over {len(evidence.seeds)} fresh training seeds" if evidence.confirmed else " of one training run"
    lines = [
        f"## Figures\n\nThe two objectives{seeds}, with 95 % intervals; lower is better:\n",
        "| objective | mean |\n|---|---|",
        f"| fidelity, `{fidelity}` | {evidence.fidelity.text('.3g')} |",
        f"| memorization, `{memorization}` | {evidence.memorization.text()} |",
    ]
    rows = [
        f"| `{name}`: {what} | {_figure(scores, name)} | {_figure(scores, null)} |"
        for name, (what, null) in _COPYING.items()
        if name in scores
    ]
    rows += [f"| `{name}`: {what} | {_figure(scores, name)} | |" for name, what in _QUALITY.items() if name in scores]
    if rows:
        lines.append("\nThese weights' own samples, beside the same figure for real held-out images (the null):\n")
        lines.append("| score, 95 % interval over samples | this model | held-out images |\n|---|---|---|")
    return "\n".join([*lines, *rows])


def _limits(evidence: Evidence | None, scores: Mapping[str, float]) -> str:
    facts = {} if evidence is None else evidence.facts
    text = "## What these figures do not show\n\n"
    if "n" in facts:
        text += f"They are of {facts['n']} samples"
        text += f" against {facts['n_train']} training images" if "n_train" in facts else ""
        text += f", features by {facts['extractor']}" if "extractor" in facts else ""
        text += f" (weights {str(facts['weight_hash'])[:12]})" if facts.get("weight_hash") else ""
        text += ". "
    if evidence is not None and scores.get("f_mem") == 0 and "f_mem_high" in scores:
        text += f"No copy among them still allows {100 * scores['f_mem_high']:.2g} % of copies. "
    mirrored = "mirror images count as copies here" if facts.get("mirror") else "mirror images are missed by `f_mem`"
    moved = f"copies moved by up to {facts['shift']} pixels count" if facts.get("shift") else "moved ones are, too"
    return text + (
        "Copies are looked for as nearest neighbours in pixels (`f_mem`, `partial`) and in features (`s_tau`). Planted"
        " copies show what each misses: exact ones are found by all, noisy ones by `f_mem` and `partial` but not by"
        f" `s_tau`, ones of which half is copied by `partial` alone; {mirrored}, {moved}, and `partial` misses both."
        " A copied style, face or idea is counted by none. No privacy guarantee is claimed."
    )


def _loading(model_id: str) -> str:
    return f"""\
## How to load

```python
uri = "models:/{model_id}"

from ambient_ray.tracking import load_model
images = load_model(uri).sample(16, seed=0)  # uint8 [16, H, W, C]

import mlflow, pandas  # without ambient_ray
images = mlflow.pyfunc.load_model(uri).predict(pandas.DataFrame({{"seed": [0, 1]}}))

from diffusers import DiffusionPipeline  # the folder that this card lies in
pipeline = DiffusionPipeline.from_pretrained(mlflow.artifacts.download_artifacts(uri), trust_remote_code=True)
```"""


def _data(origin: Origin | None) -> str:
    if origin is None or not origin.dataset:
        return ""
    data = origin.dataset
    lines = [f"## Training data\n\n- {data.get('name', 'unnamed')}, SHA-256 `{data.get('content_hash', 'unknown')}`"]
    counts = {"n": "images in all", "n_train": "trained on", "n_heldout": "held out", "num_classes": "classes"}
    told = [f"{data[key]:,} {word}" for key, word in counts.items() if isinstance(data.get(key), int)]
    if told:
        lines.append(f"- {', '.join(told)}")
    if data.get("train_hash"):
        lines.append(f"- the training subset: SHA-256 `{data['train_hash']}`")
    if data.get("shape"):
        channels, height, width = data["shape"]
        lines.append(f"- {width}x{height} pixels, {channels} channel{'s' if channels != 1 else ''}")
    return "\n".join(lines)


def _training(tags: Mapping[str, str], origin: Origin | None) -> str:
    if origin is None:
        return ""
    settings = {**origin.settings, **{k: origin.training[k] for k in _TOLD if k in origin.training}}
    told = ", ".join(f"{key} {_short(value)}" for key, value in settings.items() if key != "rungs")
    seen = f"{int(tags['images_seen']):,} images seen" if "images_seen" in tags else ""
    rule = (
        f" [Ambient Diffusion]({_PAPER}): clean images below the noise level sigma_tn, images with one fixed noise"
        " above it." if origin.arm == "ambient" else ""
    )  # fmt: skip
    return f"## Training\n\n{', '.join(part for part in (seen, told) if part)}.{rule}"


_TOLD = ("sigma_tn", "noisy_ratio", "mixing", "batch_size", "lr", "optimizer", "precision", "seed")


def _reproduce(origin: Origin | None) -> str:
    if origin is None or not (origin.command or origin.retrain):
        return ""
    commands = [("the search", origin.command), ("this model alone", origin.retrain)]
    shown = "\n".join(f"{command}  # {what}" for what, command in commands if command)
    versions = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    seeds = {key: origin.training[key] for key in ("seed", "noise_seed", "latent_seed") if key in origin.training}
    lines = [f"## How to reproduce\n\n```bash\n{shown}\n```\n"]
    if origin.retrain:
        lines[0] += "\nThe last gives the same weights, bit for bit, on the same platform with the same versions; where"
        lines[0] += " trials were packed (`trial.pack`), to rounding.\n"
    lines += [f"- git commit `{origin.commit}`"] if origin.commit else []
    lines += [f"- {versions}"] if versions else []
    lines += ["- seeds: " + ", ".join(f"{key} {value}" for key, value in seeds.items())] if seeds else []
    lines.append(f"- the whole configuration: the tag `{REPRODUCE}` of this version, as JSON")
    return "\n".join(lines)


def _front_matter(model: str, tags: Mapping[str, str]) -> str:
    import yaml

    origin, evidence, scores = Origin.read(tags), Evidence.read(tags), _scores(tags)
    data: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["diffusers", "ambient-diffusion", "ambient-ray", "memorization", *([origin.arm] if origin else [])],
    }
    if evidence is not None and origin is not None:
        name = str(origin.dataset.get("name", origin.study))
        pairs = zip(evidence.objectives, (evidence.fidelity, evidence.memorization), strict=True)
        metrics = [{"type": key, "name": key, "value": span.mean} for key, span in pairs]
        others = [key for key in _COPYING if key in scores and key != evidence.objectives[1]]
        metrics += [{"type": key, "name": key, "value": scores[key]} for key in others]
        result = {"task": {"type": "unconditional-image-generation"}, "dataset": {"type": name, "name": name}}
        data["model-index"] = [{"name": model, "results": [result | {"metrics": metrics}]}]
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text


def _scores(tags: Mapping[str, str]) -> dict[str, float]:
    try:
        return {key: float(value) for key, value in json.loads(tags[SCORES]).items() if value is not None}
    except (KeyError, ValueError, TypeError):
        return {}


def _figure(scores: Mapping[str, float], name: str) -> str:
    """`0.12 [0.09, 0.15]`, or the value alone; empty where there is none."""
    if name not in scores:
        return ""
    ends = [scores.get(f"{name}_{end}") for end in ("low", "high")]
    interval = "" if None in ends else f" [{ends[0]:.3g}, {ends[1]:.3g}]"
    return f"{scores[name]:.3g}{interval}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """Free text on one line, so that it cannot end the section it stands in."""
    return " ".join(text.split()).rstrip(".") if text else ""
