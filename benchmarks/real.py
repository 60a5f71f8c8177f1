"""A real search against random search without stopping, at equal training images, on this machine.

    python benchmarks/real.py [--to FOLDER] [KEY=VALUE ...]

The search runs first, as `python -m ambient_ray.search KEY=VALUE ...` would, confirmation included. Random search gets
the training images that its trials took (replicas aside), rounded to whole trials, of which DDPM is the first in both;
its fronts are not confirmed. Prints both fronts and their hypervolumes below the same reference point, writes
fronts.png and one line of JSON. By the scores as measured, luck included: one run each says little; search.py has
the intervals. The same command goes on with what is in the folder.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from ambient_ray.tuning.records import Landscape, Objectives
from ambient_ray.tuning.study import Study

RANDOM = ("sampler=random", "trial.reduction_factor=null", "prior.weight=0", "confirm.top=0")
LIMIT_S = 3 * 3600


def search(folder: Path, name: str, overrides: list[str]) -> float:
    """Run a search as a process of its own, its output into a file; the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ambient_ray.search", *overrides, f"study={name}", f"output_dir={folder}"]
    with (folder / f"{name}.log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True, timeout=LIMIT_S)
    return time.perf_counter() - began


def opened(folder: Path, name: str) -> Study:
    """The finished study, read-only by use."""
    storage = f"journal:{folder / name / 'study.journal'}"
    settings = Study(name, storage, Objectives("", "")).settings
    return Study(name, storage, Objectives(settings["evaluation.fidelity"], settings["evaluation.memorization"]))


def spent(study: Study) -> int:
    """Training images of the trials that were searched, baselines included."""
    return sum(t.rungs[-1].images_seen for t in study.trials() if t.rungs and t.replica_of is None)


def shown(name: str, study: Study, seconds: float) -> Landscape:
    """Print a study's front."""
    land, trials = study.landscape(), [t for t in study.trials() if t.replica_of is None]
    stopped = sum(t.state == "stopped" for t in trials)
    print(f"\n{name}: {len(trials)} trials, {stopped} stopped, {spent(study):,} training images, {seconds:.0f} s")
    print(f"hypervolume {land.hypervolume:.4g} below {study.reference}")
    for c in land.front:
        print(f"  {c.fidelity:9.3f} {c.memorization:7.3f}   {c.trial.label:<32} at {c.rung.images_seen:,}")
    return land


def draw(lands: dict[str, Landscape], reference: tuple[float, float], path: Path) -> None:
    """Both fronts below the reference point, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for (name, land), colour, marker in zip(lands.items(), ("#0072B2", "#D55E00"), "os", strict=True):
        front = [c.point for c in land.front if c.fidelity < reference[0]]
        x, y = [*(p[0] for p in front), reference[0]], [*(p[1] for p in front), front[-1][1]]
        axes.step(x, y, where="post", color=colour, linewidth=1.6, label=name)
        axes.plot(x[:-1], y[:-1], marker, color=colour, markersize=5)
        rest = [c.point for c in land.candidates if c.fidelity < reference[0]]
        axes.plot(*zip(*rest, strict=True), marker, color=colour, alpha=0.25, markersize=4)
    axes.set(xlabel="Fréchet distance (lower is better)", ylabel="share of copied samples (lower is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("outputs/real"), help="folder of both searches")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of both searches")
    given = parser.parse_args()
    folder = given.to.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    seconds = {"ours": search(folder, "ours", given.overrides)}
    ours = opened(folder, "ours")
    whole = ours.settings["trial.rungs"][-1]
    trials = max(2, round(spent(ours) / whole))
    kept = [o for o in given.overrides if not o.startswith(("trials=", "hours=", "gpu_hours=", "confirm."))]
    seconds["random"] = search(folder, "random", [*kept, *RANDOM, f"trials={trials}"])
    studies = {"ours": ours, "random": opened(folder, "random")}
    lands = {name: shown(name, study, seconds[name]) for name, study in studies.items()}
    assert ours.reference is not None
    draw(lands, ours.reference, folder / "fronts.png")
    print("\n" + (folder / "ours.log").read_text()[-4000:])
    volumes = {name: round(land.hypervolume, 4) for name, land in lands.items()}
    print(json.dumps({"hypervolume": volumes, "images": {name: spent(s) for name, s in studies.items()}}))


if __name__ == "__main__":
    main()
