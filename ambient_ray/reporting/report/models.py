"""The models that the report looks at closely: what they draw, and how much of it is copied, by every measure."""

from __future__ import annotations

from .document import Block, Figure, Paragraph
from .measures import COPYING, fidelity_measures, measure_table
from .pictures import Pictures
from .recall import Recalled
from .subjects import subjects
from .words import capital


def drawn(study: Recalled, pictures: Pictures) -> tuple[Block, ...]:
    """Samples, nearest training images and partial copies of each, as far as MLflow has them."""
    found: list[Block] = []
    for subject in subjects(study):
        kept = pictures.models.get(subject.name, {})
        name = f"**{capital(subject.name)}** ({subject.where})"
        if "samples" in kept:
            text = f"{name}: samples as they come, from the same latents for all models."
            found.append(Figure(kept["samples"], text, f"Samples of {subject.name}", width=0.45))
        if "nearest" in kept:
            text = f"{name}: generated images beside their nearest training images, the most similar first. Orange "
            text += "frames are copies."
            found.append(Figure(kept["nearest"], text, f"Nearest training images of {subject.name}", width=0.86))
        if "partial" in kept:
            text = f"{name}: images of which a part is copied, beside where it comes from, the largest part first."
            found.append(Figure(kept["partial"], text, f"Partial copies of {subject.name}", width=0.86))
    if pictures.reproducibility is not None:
        text = (
            "How alike two models draw from the same latents, for every two of the front and of DDPM's stops: what both"
            " have learnt, whether they copied it or not."
        )
        found.append(Figure(pictures.reproducibility, text, "Matrix of reproducibility between models", width=0.8))
    return tuple(found)


def copied(study: Recalled) -> tuple[Block, ...]:
    """Every measure of copying beside its null, and every measure of quality."""
    looked = [(capital(s.name), s.shown) for s in subjects(study)]
    if not looked:
        return ()
    n = looked[0][1].rung.facts.get("n")
    samples = f"{n:,} samples" if isinstance(n, int) else "samples"
    text = (
        "No single measure sees every copy: pixels miss a copy that is shifted or mirrored, features miss one under"
        " noise and take things for copies that merely look alike. So each stands beside its null, the same figure for"
        " real images that were held out of training and cannot have been copied."
    )
    notes = f"One run of each model, the one whose images are shown; 95 % intervals over {samples}."
    fidelity = fidelity_measures(study.objectives.fidelity)
    return (
        Paragraph(text),
        measure_table("Copying by every measure", COPYING, looked, notes),
        measure_table("Quality of the same runs", fidelity, looked, "Smaller is better unless said."),
    )
