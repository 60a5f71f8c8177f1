"""A study's report: the question, the answer, the evidence, what it takes to repeat it, and what was not tested."""

from __future__ import annotations

from datetime import UTC, datetime

from ambient_ray.tuning.confirmation import failed_replicas

from ..comparison import percent
from ..tables import confirmed_table, front_table, match_table, rival_table, trial_table
from ..verdict import matches
from ..volume import bounds
from .document import Block, Bullets, Document, Figure, Notice, Paragraph, Section
from .limits import limits
from .measures import described
from .method import method
from .models import copied, drawn
from .pictures import Pictures
from .recall import Recalled
from .words import count, date, grouped, hours

_PAPER = "[Ambient Diffusion](https://arxiv.org/abs/2502.21278)"
_FIGURES = {
    "hypervolume.png": "What the search has gained for the images that it trained on: the hypervolume of its front. "
    "The dashed line is what DDPM reaches alone, the band its range over training seeds where there are several.",
    "importance.png": "How much of the differences between trials of the same length goes with each searched "
    "parameter, with 95 % intervals; the tick marks what chance alone exceeds in 1 of 20 studies.",
    "response.png": "Both objectives over the searched parameters, at an early and the last training length, a dot a "
    "trial with its score. A surface is drawn only where it predicts better than the mean.",
    "survival.png": "What became of the trials at each rung: trained on, stopped by the judge, or failed.",
}


def study_report(study: Recalled, pictures: Pictures, *, command: str = "", now: float | None = None) -> Document:
    """The whole report.

    Args:
        study: rebuilt from MLflow.
        pictures: its figures and images.
        command: what would begin this search again.
        now: when the report is made, in seconds since 1970; None: now.
    """
    stored, own, replicas = study.stored, study.own, study.replicas
    made = datetime.fromtimestamp(now, UTC) if now is not None else datetime.now(UTC)
    number = f"{count(len(own), 'trial')}" + (f" and {count(len(replicas), 'replica')}" if replicas else "")
    byline = (
        f"Study `{stored.name}` · {number} · searched {date(stored.started)}"
        f" · report of {made:%-d %B %Y}, by ambient-ray {stored.tags.get('system.ambient_ray', '')}"
    )
    sections = [
        Section("The question", _question(study)),
        Section("The front", _front(study, pictures)),
        Section("The baselines", _baselines(study)),
        Section("Confirmation on fresh seeds", _confirmation(study)),
        Section("What the models draw", drawn(study, pictures), broken=True),
        Section("What was copied", copied(study)),
        Section("The search", _search(study, pictures)),
        Section("What was not tested", limits(study)),
        Section("Method, to reproduce it", method(study, command), broken=True),
        Section("Every trial", (trial_table(study.trials, study.objectives),)),
    ]
    return Document(
        f"Memorization against fidelity on {_data(study)}",
        byline,
        (*_notices(study, pictures), Paragraph(study.verdict.sentence, "lead"), *_remark(study)),
        tuple(section for section in sections if section.blocks),
    )


def _notices(study: Recalled, pictures: Pictures) -> list[Block]:
    """What a reader must know before he reads any number."""
    stored, found = study.stored, list[Block]()
    if stored.running:
        ended = sum(t.ended for t in study.own)
        heard = max((r.at for t in study.trials for r in t.rungs), default=stored.started)
        when = f"{datetime.fromtimestamp(heard, UTC):%-d %B %Y, %H:%M} UTC"
        planned = stored.params.get("trials")
        of = f" of {planned}" if planned else ""
        text = f"{ended}{of} trials have ended, the last rung was scored on {when}. Everything below is as it stands; "
        text += "none of it is final. (A search that died without a word looks the same; its command continues it.)"
        found.append(Notice("This study is still running.", text))
    elif stored.status != "FINISHED":
        text = f"MLflow has its run as {stored.status}: it was interrupted or failed before its end, and what was not "
        found.append(Notice("This search did not end.", text + "begun then is missing here. Its command continues it."))
    partly = [t for t in stored.trials if t.from_metrics]
    if partly:
        rungs = sum(len(t.from_metrics) for t in partly)
        text = f"The records of {count(rungs, 'rung')} of {count(len(partly), 'trial')} could not be read from "
        text += "MLflow's artifacts, so their scores come from the metric history; seconds are unknown for them."
        reasons = f" ({'; '.join(stored.unread)})" if stored.unread else ""
        found.append(Notice("Rebuilt from metrics.", text + reasons))
    if study.unscored:
        which = ", ".join(f"trial {number} at {images:,} images" for number, images in study.unscored[:8])
        more = "" if len(study.unscored) <= 8 else f" and {len(study.unscored) - 8} more"
        found.append(Notice("Not scored.", f"No finite score, so in no table: {which}{more}."))
    if pictures.missing:
        text = f"MLflow did not give {', '.join(pictures.missing)}."
        found.append(Notice("Images are missing.", text))
    return found


def _remark(study: Recalled) -> list[Block]:
    if not study.land.candidates:
        return [Paragraph("No rung has been scored yet, so there is nothing to show but the settings.")]
    name = study.objectives.memorization
    key = f"{name}_heldout" if not name.startswith("s_tau") else name.replace("s_tau", "s_null")
    nulls = [c.rung.scores[key] for c in study.land.candidates if key in c.rung.scores]
    null = f" Held-out real images, which cannot be copies, score {nulls[0]:.3f}." if nulls else ""
    text = f"Memorization is `{name}`, {described(name) or 'as the study defined it'}; fidelity is"
    text += f" `{study.objectives.fidelity}`, {described(study.objectives.fidelity) or 'as the study defined it'}."
    return [Paragraph(f"{text}{null} Brackets hold 95 % intervals.", "small")]


def _question(study: Recalled) -> tuple[Block, ...]:
    data = study.stored.dataset
    n_train = data.profile.get("n_train") if data else study.stored.params.get("dataset.n_train")
    ranges = ", ".join(_range(study, name) for name in study.searched)
    first = (
        f"Diffusion models that are trained on few images reproduce some of them. {_PAPER} trains low noise levels on"
        " the clean images and levels above `sigma_tn` on images that carry one fixed noise, which are harder to"
        f" remember. Which settings copy the {grouped(n_train)} training images of {_data(study)} least, and do they"
        " do so without losing fidelity against plain DDPM (`sigma_tn` = 0)?"
    )
    second = (
        f"The search varied {ranges or 'nothing: one configuration was trained'}. Every model was scored at"
        f" {count(len(study.rungs), 'training length')} ({', '.join(f'{r:,}' for r in study.rungs)} images), and each"
        " of these rungs is a candidate: early stopping competes, for DDPM as well."
        f" Matched fidelity means within {percent(study.rule.tolerance)} of DDPM's best."
    )
    return Paragraph(first), Paragraph(second)


def _front(study: Recalled, pictures: Pictures) -> tuple[Block, ...]:
    if not study.land.candidates:
        return ()
    found: list[Block] = []
    if "front.png" in pictures.figures:
        caption = (
            f"All {len(study.land.candidates)} candidates of the search, a dot a trial and rung; left and down is"
            " better. The line is the Pareto front, with 95 % intervals over samples; the dashed path is DDPM as it"
            " trains, with the images it has seen; the star is the champion. One training run each, so chance has"
            " helped those on the front: see the confirmation."
        )
        html = pictures.figures.get("front.html")
        document = None if html is None else html.decode("utf-8")
        found.append(Figure(pictures.figures["front.png"], caption, "Fidelity against memorization", document))
    found.append(front_table(study.land, study.objectives, study.verdict.champion))
    if study.land.reference is not None:
        text = f"Hypervolume {study.land.hypervolume:.4g}, bounded by"
        found.append(Paragraph(f"{text} {bounds(study.land, study.objectives, study.delta)}.", "small"))
    return tuple(found)


def _baselines(study: Recalled) -> tuple[Block, ...]:
    rows = matches(study.land, study.objectives, study.rule.tolerance)
    found: list[Block] = []
    if rows:
        text = (
            "DDPM copies more the longer it trains, so it could simply be stopped earlier. Beside each of its stops"
            " stands the Ambient candidate that copies least at no worse a fidelity."
        )
        found += [Paragraph(text), match_table(rows, study.objectives, study.rule.tolerance)]
    else:
        found.append(Paragraph("No DDPM was scored in this study, so nothing here is compared with it."))
    if any(c.trial.arm == "rival" for c in study.land.candidates):
        found.append(rival_table(study.land, study.objectives))
    return tuple(found) if study.land.candidates else ()


def _confirmation(study: Recalled) -> tuple[Block, ...]:
    found: list[Block] = []
    confirmed = study.verdict.confirmed
    if confirmed:
        seeds = sorted({seed for point in confirmed for seed in point.seeds})
        text = (
            f"A front's points are the best of many runs, and look better than they are. {count(len(seeds), 'seed')}"
            f" ({', '.join(map(str, seeds))}) that the search never used trained the best candidates and DDPM again;"
            " the answer above rests on these means alone, with Student's t intervals over seeds."
        )
        found += [Paragraph(text), confirmed_table(confirmed, study.objectives, study.verdict.champion)]
    elif study.replicas:
        found.append(Paragraph("Replicas on fresh seeds have been begun and are not all done: no means yet."))
    elif study.land.candidates:
        text = "Nothing was trained again on fresh seeds. All numbers are of one training run each, the best of many."
        found.append(Paragraph(text))
    lost = failed_replicas(study.trials)
    if lost:
        found.append(Bullets(tuple(
            f"Replica {t.number} of trial {t.replica_of} (seed {t.settings.get('seed')}) failed after"
            f" {count(len(t.rungs), 'rung')}: {t.reason or 'no reason was given'}"
            for t in lost
        )))  # fmt: skip
    return tuple(found)


def _search(study: Recalled, pictures: Pictures) -> tuple[Block, ...]:
    if not study.trials:
        return ()
    kinds = {"finished": "trained to their end", "stopped": "stopped early by the judge", "failed": "failed",
             "running": "not ended"}  # fmt: skip
    states = [(sum(t.state == state for t in study.own), words) for state, words in kinds.items()]
    said = ", ".join(f"{n} {words}" for n, words in states if n)
    images = sum(t.rungs[-1].images_seen for t in study.trials if t.rungs)
    text = f"Of {count(len(study.own), 'trial')}, {said}. With replicas the study trained on {images:,} images"
    seconds = sum(r.seconds for t in study.trials for r in t.rungs)
    text += f" in {hours(seconds)} of trials' time." if seconds else "."
    found: list[Block] = [Paragraph(text)]
    for name, caption in _FIGURES.items():
        if name in pictures.figures:
            found.append(Figure(pictures.figures[name], caption, caption.partition(";")[0]))
    failed = [t for t in study.own if t.state == "failed"]
    if failed:
        found.append(Bullets(tuple(f"Trial {t.number} ({t.label}) failed: {t.reason or 'no reason'}" for t in failed)))
    return tuple(found)


def _range(study: Recalled, name: str) -> str:
    """`sigma_tn` from 0.13 to 3.5: the values that were tried, not the space that they were drawn from."""
    values = [t.settings[name] for t in study.own if name in t.settings]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if numbers and len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        return f"`{name}` ({low:.3g} to {high:.3g})" if low < high else f"`{name}` ({low:.3g})"
    tried = sorted({str(v) for v in values})
    return f"`{name}` ({', '.join(tried)})" if tried else f"`{name}`"


def _data(study: Recalled) -> str:
    return study.stored.dataset.name if study.stored.dataset else str(study.stored.params.get("dataset.name", "images"))
