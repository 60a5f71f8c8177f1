import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ambient_ray.tuning.space import Range, Space

RUNGS = (100, 200, 400)
SECONDS = (10.0, 10.0, 20.0)
SPACE = Space("toy", {"sigma_tn": Range(0.1, 4.0, True), "noisy_ratio": Range(0.1, 0.9)}, {}, ({"sigma_tn": 0.0},))


def scores(sigma_tn, ratio, rung, noise=0.0):
    """A world in which a larger sigma_tn copies less and looks worse, and noisy_ratio = 0.5 is best."""
    worse = 1 + abs(ratio - 0.5)
    fd = (20 / (rung + 1) + 4 * np.log1p(sigma_tn)) * worse * np.exp(noise)
    copied = min(max((0.1 * rung) / (1 + sigma_tn), 0.0), 1.0) if rung else 0.0
    return {"fd": float(fd), "f_mem": round(copied * 100) / 100, "gap": float(copied + 0.01 * noise)}


def rows_of(number, settings, seeds, noise=0.1, diverges=(), shared=0.0):
    rng = np.random.default_rng([7, number + 1])
    for seed in range(seeds):
        luck = noise * rng.standard_normal() + (shared if seed % 2 == 0 else -shared)
        for rung, images in enumerate(RUNGS):
            found = scores(settings["sigma_tn"], settings.get("noisy_ratio", 0.5), rung, luck)
            if seed in diverges and rung == 2:
                found = {"fd": 500.0, "f_mem": 0.0, "gap": 0.0}
            yield {
                "configuration": number,
                "seed": seed,
                "state": "finished",
                "settings": json.dumps(settings),
                "rung": rung,
                "images_seen": images,
                "seconds": SECONDS[rung],
                **{f"score:{key}": value for key, value in found.items()},
            }


def write(path, rows, **metadata):
    made = {"space": {**SPACE.describe(), "name": SPACE.name}, "objectives": ["fd", "f_mem"], **metadata}
    table = pa.Table.from_pylist(list(rows)).replace_schema_metadata({"made_with": json.dumps(made)})
    pq.write_table(table, path)
    return path


def recorded(noise=0.1, diverges=(), configurations=25, shared=0.0):
    yield from rows_of(-1, {"sigma_tn": 0.0}, 4, noise, diverges, shared)
    side = round(configurations**0.5)
    for number in range(configurations):
        a, b = (number % side + 0.5) / side, (number // side + 0.5) / side
        yield from rows_of(number, {"sigma_tn": 0.1 * 40**a, "noisy_ratio": 0.1 + 0.8 * b}, 2, noise, shared=shared)


@pytest.fixture(scope="session")
def parquet(tmp_path_factory):
    return write(tmp_path_factory.mktemp("curves") / "toy.parquet", recorded())
