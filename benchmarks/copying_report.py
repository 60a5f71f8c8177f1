"""Scores and pictures of what benchmarks/copying.py has trained.

    python benchmarks/copying_report.py score --path cifar10.zip/train
    python benchmarks/copying_report.py draw --path cifar10.zip/train

`score`: every arm and seed, at the rungs of SCORED, by the product's own `evaluate` (EfficientNet-Lite0 features,
against held-out images), into benchmarks/data/copying.json. `draw`: the figures in docs/copying/ and, in Markdown,
tables of all scores; from the JSON file and, for the galleries, the samples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from copying import ARMS, RUNGS, SEEDS, folder_of, subsets

HERE = Path(__file__).resolve().parent
FIDELITY = "fd_efficientnet_lite0"
NAMES = {"ddpm": "DDPM", "ambient_0.5": "sigma_tn .5", "ambient_1": "sigma_tn 1", "ambient_2": "sigma_tn 2"}
LOOK = {
    "ddpm": ("#000000", "o"), "ambient_0.5": ("#56B4E9", "s"), "ambient_1": ("#0072B2", "^"),
    "ambient_2": ("#D55E00", "D"),
}  # fmt: skip
TOLERANCE = 0.05
SCORED = (1, 3, 5, 7, 8)  # rungs; features of a thousand samples take a quarter of a minute
Row = dict[str, Any]


def main() -> None:
    """Score or draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("score", "draw"))
    parser.add_argument("--path", required=True, help="as given to copying.py")
    parser.add_argument("--out", type=Path, default=Path("outputs/copying"), help="as given to copying.py")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs" / "copying")
    options = parser.parse_args()
    stored = HERE / "data" / "copying.json"
    if options.command == "score":
        found = score(options.path, options.out.resolve(), stored)
        stored.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n")
    else:
        draw(json.loads(stored.read_text()), options.path, options.out.resolve(), options.docs)


def score(path: str, out: Path, stored: Path) -> dict[str, Any]:
    """The chosen rungs, as far as they were reached; features are kept, to score again quickly."""
    import torch

    from ambient_ray.evaluation import CachedExtractor, References, build_extractor, evaluate

    torch.set_num_threads(2)
    parts = subsets(path, out)
    built = build_extractor("efficientnet_lite0", image_set=parts.train, cache_dir=out)
    extractor = CachedExtractor(built, out / "features")
    references = References.build(extractor, parts.train, parts.heldout)
    rows: list[Row] = []
    facts: Mapping[str, Any] = {}
    for rung, seen in enumerate(RUNGS):
        folders = {(arm, seed): checkpoint(out, arm, seed, rung) for arm in ARMS for seed in SEEDS}
        for (arm, seed), folder in folders.items():
            if not folder.exists() or rung not in SCORED:
                continue
            scores = evaluate(samples_of(folder), extractor, references)
            facts = scores.facts
            trained = json.loads((folder / "checkpoint.json").read_text())["history"][-1]["scores"]
            gap = {key: trained[key] for key in ("gap", "gap_low", "gap_high")}
            values = {key: round(float(value), 6) for key, value in (dict(scores.values) | gap).items()}
            np.savez(folder / "hits.npz", ratio=scores.nearest.ratio, similarity=scores.nearest.similarity)
            rows.append({"arm": arm, "seed": seed, "rung": rung, "images_seen": seen, "scores": values})
            print(arm, seed, seen, {key: values[key] for key in (FIDELITY, "f_mem", "s_tau")}, flush=True)
    last = common(rows)
    return {"rows": rows, "facts": dict(facts), "compared": compared(out, last, references.originals.tau, extractor)}


def compared(out: Path, rung: int, tau: float, extractor: Any) -> dict[str, Any]:
    """At the last rung, each seed: Ambient's shares of copies less DDPM's, Holm-corrected; reproducibility."""
    from ambient_ray.evaluation import compare_many, reproducibility

    found: dict[str, Any] = {}
    for seed in SEEDS:
        hits: dict[str, dict[str, Any]] = {"f_mem": {}, "f_mem_half": {}, "s_tau": {}}
        for arm in ARMS:
            kept = np.load(checkpoint(out, arm, seed, rung) / "hits.npz", allow_pickle=False)
            hits["f_mem"][arm], hits["f_mem_half"][arm] = kept["ratio"] < 1 / 3, kept["ratio"] < 1 / 2
            hits["s_tau"][arm] = kept["similarity"] > tau
        for name, by_arm in hits.items():
            others = {arm: value for arm, value in by_arm.items() if arm != "ddpm"}
            for arm, result in compare_many(by_arm["ddpm"], others).items():
                difference = result.difference
                found[f"{name} {arm} seed{seed}"] = [difference.value, difference.low, difference.high, result.p]
    features = {(arm, seed): extractor(samples_of(checkpoint(out, arm, seed, rung))) for arm in ARMS for seed in SEEDS}
    for arm in ARMS:
        pair = reproducibility(features[arm, SEEDS[0]], features[arm, SEEDS[1]])
        found[f"reproducibility {arm}"] = [pair.value, pair.low, pair.high]
        if arm != "ddpm":
            pair = reproducibility(features["ddpm", SEEDS[0]], features[arm, SEEDS[0]])
            found[f"reproducibility ddpm {arm}"] = [pair.value, pair.low, pair.high]
    return found


def checkpoint(out: Path, arm: str, seed: int, rung: int) -> Path:
    """An arm's checkpoint at a rung."""
    from ambient_ray.training.trial import checkpoint_name

    return folder_of(out, arm, seed) / checkpoint_name(rung, RUNGS[rung])


def samples_of(folder: Path) -> Any:
    """A checkpoint's samples, uint8 [n,H,W,C]."""
    return np.load(folder / "samples.npz", allow_pickle=False)["samples"]


def draw(found: Mapping[str, Any], path: str, out: Path, docs: Path) -> None:
    """Figures, and tables on standard output."""
    rows = found["rows"]
    last = common(rows)
    docs.mkdir(parents=True, exist_ok=True)
    plane(rows, docs / "plane.png")
    onset(rows, docs / "onset.png")
    galleries(path, out, docs)
    print(
        last_rung(rows, last), matched(rows, "f_mem"), matched(rows, "f_mem_half"), matched(rows, "s_tau"), sep="\n\n"
    )
    print(json.dumps(found["compared"], indent=0))


def common(rows: Sequence[Row]) -> int:
    """The last rung that every arm has reached under every seed."""
    reached: dict[int, int] = {}
    for row in rows:
        reached[row["rung"]] = reached.get(row["rung"], 0) + 1
    return max(rung for rung, runs in reached.items() if runs == len(ARMS) * len(SEEDS))


def series(rows: Sequence[Row], arm: str, seed: int, key: str) -> list[float]:
    """A score of one run over its rungs."""
    chosen = sorted((r for r in rows if r["arm"] == arm and r["seed"] == seed), key=lambda r: r["rung"])
    return [float(r["images_seen"]) if key == "images_seen" else float(r["scores"][key]) for r in chosen]


def plane(rows: Sequence[Row], path: Path) -> None:
    """Fidelity against two scores of copying: each run's way through its rungs."""
    panels = {"f_mem_half": "share with d1/d2 < 1/2 (pixels)", "authentic": "AuthPct (held-out images: .84)"}

    def panel(axes: Any, key: str, label: str) -> None:
        for arm, (colour, marker) in LOOK.items():
            for seed, style in zip(SEEDS, ("-", (0, (3, 1.5))), strict=True):
                x, y = series(rows, arm, seed, FIDELITY), series(rows, arm, seed, key)
                name = f"{NAMES[arm]}, seed {seed}"
                axes.plot(x, y, linestyle=style, marker=marker, color=colour, markersize=4, linewidth=1.2, label=name)
        axes.set(xlabel="Fréchet distance to held-out images (lower is better)", ylabel=label)

    _figure(panels, panel, path)


def onset(rows: Sequence[Row], path: Path) -> None:
    """When copying begins: the same two scores by images seen, mean of both seeds, and both."""
    panels = {"f_mem_half": "share with d1/d2 < 1/2 (pixels)", FIDELITY: "Fréchet distance to held-out images"}

    def panel(axes: Any, key: str, label: str) -> None:
        for arm, (colour, marker) in LOOK.items():
            x = [seen / 1000 for seen in series(rows, arm, SEEDS[0], "images_seen")]
            both = np.array([series(rows, arm, seed, key) for seed in SEEDS])
            axes.plot(x, both.mean(axis=0), marker=marker, color=colour, markersize=4, label=NAMES[arm])
            axes.fill_between(x, both.min(axis=0), both.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set(xlabel="thousand training images seen", ylabel=label)

    _figure(panels, panel, path)


def _figure(panels: Mapping[str, str], panel: Callable[[Any, str, str], None], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.4), dpi=140, layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        panel(axes, key, label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def galleries(path: str, out: Path, docs: Path) -> None:
    """The most similar pairs of DDPM and of each Ambient arm, first seed, after all of its training."""
    from ambient_ray.evaluation import two_nearest
    from ambient_ray.tracking.drawing.galleries import nearest_gallery

    train = subsets(path, out).train.images
    for arm in ARMS:
        rung = max(r for r in range(len(RUNGS)) if checkpoint(out, arm, SEEDS[0], r).exists())
        samples = samples_of(checkpoint(out, arm, SEEDS[0], rung))
        nearest = two_nearest(samples, train)
        title = f"{NAMES[arm]}, {RUNGS[rung]:,} images seen: samples (left), nearest training images (right)"
        target = docs / f"nearest-{arm}.png"
        nearest_gallery(samples, train[nearest.index[:, 0]], nearest.ratio, target, limit=15, title=title)


def mean(rows: Sequence[Row], arm: str, rung: int, key: str) -> float:
    """Of both seeds; infinite where the arm was not trained so far."""
    values = [r["scores"][key] for r in rows if r["arm"] == arm and r["rung"] == rung]
    return float(np.mean(values)) if values else float("inf")


def last_rung(rows: Sequence[Row], last: int) -> str:
    """All scores of all arms at the last rung, both seeds beside each other, as a Markdown table."""
    keys = [key for key in rows[-1]["scores"] if not key.endswith(("_low", "_high", "_se"))]
    lines = ["| score | " + " | ".join(NAMES[arm] for arm in ARMS) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for key in keys:
        cells = []
        for arm in ARMS:
            pair = [r["scores"][key] for r in rows if r["arm"] == arm and r["rung"] == last]
            cells.append(", ".join(f"{value:.3g}" for value in pair))
        lines.append(f"| `{key}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def matched(rows: Sequence[Row], key: str) -> str:
    """DDPM's stops beside each Ambient arm's least copying stop at no worse a fidelity (means of both seeds)."""
    rungs = sorted({row["rung"] for row in rows})
    lines = [
        f"| DDPM stopped at | distance | `{key}` | " + " | ".join(NAMES[arm] for arm in ARMS if arm != "ddpm") + " |",
        "|---" * (len(ARMS) + 2) + "|",
    ]
    for rung in rungs:
        distance, copied = mean(rows, "ddpm", rung, FIDELITY), mean(rows, "ddpm", rung, key)
        cells = []
        for arm in ARMS:
            if arm == "ddpm":
                continue
            near = [r for r in rungs if mean(rows, arm, r, FIDELITY) <= (1 + TOLERANCE) * distance]
            best = min(near, key=lambda r: mean(rows, arm, r, key), default=None)
            shown = "none as near" if best is None else f"{mean(rows, arm, best, key):.3f} at {RUNGS[best]:,}"
            cells.append(shown)
        lines.append(f"| {RUNGS[rung]:,} | {distance:.4g} | {copied:.3f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
