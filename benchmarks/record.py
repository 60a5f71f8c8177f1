"""Record real learning curves with the project's own training, for the replay in benchmarks/search.py.

    python benchmarks/record.py digits --configurations 96 --seeds 2
    python benchmarks/record.py fashion --path t10k-images-idx3-ubyte.gz --configurations 28 --seeds 2

Every configuration of a Sobol sequence over the set's search space (for digits, from the 25th on, over its better
part) is trained through all rungs under several training seeds (weights, order and noise levels; split, noise bank and
latents stay), plain DDPM under more of them.
What has been recorded is kept, so the same command goes on after a stop, and a prefix of the sequence still fills the
space evenly. One process a core, one thread each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORK = ["backbone=dit_digits", "backbone.heads=3"]  # as when these worlds were recorded; it ships with two heads
RECORDED: dict[str, dict[str, Any]] = {
    "digits": {
        "overrides": NETWORK,
        "space": "ambient_wide",
        # Most of so wide a space is useless on the digits (of the first 24 none is within twice DDPM's best distance),
        # so from the 25th on configurations fill the part around the recipe that works, where the front is.
        "refined_from": 24,
        "refined": {
            "lr": (5.0e-4, 6.0e-3),
            "weight_decay": (1.0e-6, 1.0e-4),
            "dropout": (0.0, 0.15),
            "ema_halflife_images": (2000, 20000),
            "p_mean": (-1.6, -0.6),
            "p_std": (1.0, 1.6),
        },
    },
    "fashion": {
        "overrides": [
            "dataset=own",
            "dataset.resolution=14",
            "dataset.n_train=50",
            "evaluation.features=classifier",
            *NETWORK,
            "backbone.patch_size=14",
            "trial.rungs=[19200,38400,76800,153600]",
        ],
        "space": "ambient",
    },
}
BASELINE_SEEDS = 6


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=sorted(RECORDED))
    parser.add_argument("--path", help="the images, for a set that is not built in")
    parser.add_argument("--configurations", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="start at this configuration")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = options.out / f"{options.set}.rows"
    rows.mkdir(parents=True, exist_ok=True)
    jobs = [(-1, seed) for seed in range(BASELINE_SEEDS)]
    jobs += [(n, seed) for n in range(options.first, options.configurations) for seed in range(options.seeds)]
    todo = [job for job in jobs if not (rows / f"{job[0]:04d}-{job[1]}.json").exists()]
    print(f"{len(jobs) - len(todo)} of {len(jobs)} are there", flush=True)
    with mp.get_context("spawn").Pool(options.processes, _open, (options.set, options.path, rows)) as pool:
        for done, line in enumerate(pool.imap_unordered(_record, todo), start=1):
            print(f"{done}/{len(todo)} {line}", flush=True)
    write(options.set, rows, options.out)


def configuration(name: str, path: str | None, folder: str) -> Any:
    """The set's study, prepared as a search would, without starting one."""
    from ambient_ray.console.command import load
    from ambient_ray.console.configuration import validate
    from ambient_ray.console.preparation import prepare

    given = RECORDED[name]
    overrides = [*given["overrides"], f"search_space={given['space']}", f"output_dir={folder}", "dry_run=true"]
    overrides += [f"dataset.path={path}"] if path else []
    return prepare(validate(load("search", overrides)))


def settings_of(name: str, space: Any, number: int) -> dict[str, Any]:
    """Configuration `number` of a recorded set; -1 is plain DDPM."""
    if number < 0:
        return {**space.fixed, **space.baselines[0]}
    from scipy.stats import qmc

    from ambient_ray.tuning.space import Choice

    first = RECORDED[name].get("refined_from", number + 1)
    box = RECORDED[name]["refined"] if number >= first else {}
    sequence = qmc.Sobol(len(space.parameters), seed=1 if box else 0)
    unit = sequence.random_base2(10)[number - first if box else number]
    values = {}
    for (key, parameter), u in zip(space.parameters.items(), unit, strict=True):
        if isinstance(parameter, Choice):
            values[key] = parameter.choices[min(int(u * len(parameter.choices)), len(parameter.choices) - 1)]
            continue
        low, high = box.get(key, (parameter.low, parameter.high))
        value = low * (high / low) ** u if parameter.log else low + u * (high - low)
        values[key] = round(value) if parameter.integer else float(value)
    return {**space.fixed, **values}


_state: dict[str, Any] = {}


def _open(name: str, path: str | None, rows: Path) -> None:
    import torch

    from ambient_ray.console.preparation import bank_for
    from ambient_ray.evaluation import EvaluationSettings, References
    from ambient_ray.training import TrainingData

    torch.set_num_threads(1)
    folder = tempfile.mkdtemp(prefix="record-")
    prepared = configuration(name, path, folder)
    subsets = prepared.subsets
    references = References.build(
        prepared.extractor,
        subsets.train,
        subsets.heldout,
        settings=EvaluationSettings(reference="heldout", mirror=prepared.settings.flip),
    )
    data = TrainingData(subsets.train, subsets.heldout, bank_for(prepared), prepared.extractor, references)
    _state.update(name=name, prepared=prepared, data=data, rows=rows, folder=Path(folder))


class _Mute:
    def progress(self, images_seen: int, loss: float) -> None:
        """Nothing to say."""

    def rung(self, result: Any, *, resumed: bool = False) -> bool:
        """Every trial goes through all rungs."""
        return True

    def noted(self, text: str) -> None:
        """Say it."""
        print(text)

    def leaving(self) -> bool:
        """Nobody has to leave."""
        return False


def _record(job: tuple[int, int]) -> str:
    import shutil

    from ambient_ray.training import World, run_trial

    number, seed = job
    prepared, workdir = _state["prepared"], _state["folder"] / f"{number}-{seed}"
    own = settings_of(_state["name"], prepared.space, number)
    settings = replace(prepared.settings.overlaid(own), seed=seed)
    began = time.process_time()
    outcome = run_trial(settings, _state["data"], World(), _Mute(), workdir=workdir)
    content = {
        "configuration": number,
        "seed": seed,
        "settings": own,
        "state": outcome.state,
        "reason": outcome.reason,
        "rungs": [result.to_dict() for result in outcome.results],
        "made_with": made_with(prepared, settings),
    }
    shutil.rmtree(workdir, ignore_errors=True)
    target = _state["rows"] / f"{number:04d}-{seed}.json"
    target.with_suffix(".part").write_text(json.dumps(content))
    target.with_suffix(".part").rename(target)
    last = outcome.results[-1].scores if outcome.results else {}
    fidelity = prepared.objectives.fidelity
    shown = f"{fidelity} {last.get(fidelity, float('nan')):.3g} f_mem {last.get('f_mem', float('nan')):.3f}"
    return f"configuration {number} seed {seed}: {outcome.state}, {shown}, {time.process_time() - began:.0f} s"


def made_with(prepared: Any, settings: Any) -> dict[str, Any]:
    """What a reader needs to make the same curves again."""
    import torch

    training = {k: v for k, v in settings.to_dict().items() if k not in prepared.space.parameters and k != "seed"}
    return {
        "space": prepared.space.describe() | {"name": prepared.space.name},
        "objectives": [prepared.objectives.fidelity, prepared.objectives.memorization],
        "training": training,
        "n_train": len(prepared.subsets.train),
        "n_heldout": len(prepared.subsets.heldout),
        "content_hash": prepared.images.content_hash,
        "extractor": {"name": prepared.extractor.name, "weight_hash": prepared.extractor.weight_hash},
        "torch": torch.__version__,
        "processor": platform.machine(),
        "sequence": "scipy.stats.qmc.Sobol(d, seed=0), scrambled; configuration -1 is plain DDPM",
        "refined": {key: RECORDED[_state["name"]].get(key) for key in ("refined_from", "refined")},
    }


def write(name: str, rows: Path, out: Path) -> None:
    """All rows as one Parquet file, a row a (configuration, seed, rung); how they were made is in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    trials = [json.loads(path.read_text()) for path in sorted(rows.glob("*.json"))]
    failed = [t for t in trials if t["state"] != "finished"]
    print(f"{len(trials)} trials recorded, {len(failed)} of them failed", flush=True)
    table = pa.Table.from_pylist([row for trial in trials for row in _rows(trial)])
    made = trials[-1]["made_with"]
    table = table.replace_schema_metadata({"made_with": json.dumps(made)})
    pq.write_table(table, out / f"{name}.parquet", compression="zstd")


def _rows(trial: Mapping[str, Any]) -> list[dict[str, Any]]:
    common = {"configuration": trial["configuration"], "seed": trial["seed"], "state": trial["state"]}
    common |= {"settings": json.dumps(trial["settings"], sort_keys=True)}
    rungs = trial["rungs"] or [{"rung": -1, "images_seen": 0, "seconds": 0.0, "scores": {}}]
    return [
        common
        | {"rung": r["rung"], "images_seen": r["images_seen"], "seconds": r["seconds"]}
        | {f"score:{key}": float(value) for key, value in sorted(r["scores"].items())}
        for r in rungs
    ]


if __name__ == "__main__":
    main()
