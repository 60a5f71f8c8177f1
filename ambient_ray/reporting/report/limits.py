"""What a study does not show, in plain words and with its own numbers."""

from __future__ import annotations

from .document import Block, Bullets, Paragraph
from .recall import Recalled
from .words import grouped


def limits(study: Recalled) -> tuple[Block, ...]:
    """Points, the gravest first."""
    return (
        Paragraph(
            "**No privacy guarantee is claimed.** A low score says that the measures below found few copies among the"
            " samples drawn, not that nothing of the training images can be got out of the model."
        ),
        Bullets(tuple([*_attacks(), *_measures(study), *_data(study), *_chance(study), *_lost(study)])),
    )


def _attacks() -> list[str]:
    return [
        "Nobody attacked the models: no membership inference, no search for latents or labels that bring a training"
        " image out, no guidance, no fine-tuning. Samples were drawn as a user would draw them.",
    ]


def _measures(study: Recalled) -> list[str]:
    facts = [r.facts for t in study.trials for r in t.rungs if r.facts]
    if not facts:
        return []
    one, extractor = facts[0], str(facts[0].get("extractor", "unknown"))
    n, reference = one.get("n", "?"), one.get("reference", "?")
    found = [
        f"{grouped(n)} samples a rung: a training image that is drawn more rarely than once in {grouped(n)} is likely"
        " to go unseen. The latents are the same in every trial, which makes comparisons sharper and leaves other"
        " latents untried.",
        f"Fidelity is seen through one feature extractor, {extractor}, against the {reference} images."
        + ("" if extractor == "inception" else " It is not FID, and its numbers compare with no other extractor's."),
    ]
    if not one.get("mirror") and not study.stored.params.get("training.flip"):
        found.append("Mirror images of training images are not looked for by pixels: the training did not flip.")
    found.append(
        f"Only the training lengths {', '.join(f'{r:,}' for r in study.rungs)} were scored; what lies between or"
        " beyond them is unknown."
    )
    return found


def _data(study: Recalled) -> list[str]:
    data = study.stored.dataset
    name = data.name if data else "this data set"
    n = data.profile.get("n_train") if data else study.stored.params.get("dataset.n_train")
    network = str(study.stored.params.get("backbone._target_", "one network")).rpartition(".")[2]
    return [
        f"One data set ({name}), one draw of {grouped(n)} training images, one architecture ({network}), one set of"
        " training settings beside those searched: another of any of these may answer differently.",
    ]


def _chance(study: Recalled) -> list[str]:
    candidates = len(study.land.candidates)
    points = [p for p in study.verdict.confirmed if p.planned]
    found = []
    if points:
        seeds = max(len(p.replicas) for p in points)
        configurations = len({p.original.trial.number for p in points})
        found.append(
            f"{seeds} fresh training seeds for each of {configurations} configurations: differences smaller than the"
            " intervals may well exist. The intervals are over training seeds, with the data, the split and the"
            " latents held fixed."
        )
        found.append(
            f"The front and the table of DDPM's stops are {candidates} candidates of one training run each, chosen"
            " after the fact: they show where to look and are no evidence. Only the confirmed means are."
        )
    elif candidates:
        found.append(
            f"{candidates} candidates of one training run each, the best chosen after the fact, none trained again on"
            " fresh seeds: the best of many looks better than it is, and no interval here covers that."
        )
    stopped = sum(t.state == "stopped" for t in study.own)
    if stopped:
        found.append(
            f"{stopped} of {len(study.own)} trials were stopped early because others dominated them; what they would"
            " have become is unknown."
        )
    return found


def _lost(study: Recalled) -> list[str]:
    failed = sum(t.state == "failed" for t in study.own)
    lost = sum(t.state == "failed" for t in study.replicas)
    diverged: dict[int, int] = {}
    for point in study.verdict.confirmed:
        number = point.original.trial.number
        diverged[number] = max(diverged.get(number, 0), point.diverged)
    found = []
    if failed:
        found.append(f"{failed} trials of the search failed and count nowhere beyond the rungs that they reached.")
    if lost or any(diverged.values()):
        parts = [f"{n} {what}" for n, what in ((lost, "failed"), (sum(diverged.values()), "diverged")) if n]
        found.append(
            f"Of {len(study.replicas)} replicas, {' and '.join(parts)} and are in no mean: the means are those of runs"
            " that went well."
        )
    return found
