"""Hostile input of every kind: one sentence, nothing written outside, bounded memory and time (tests/fuzz)."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
LONG = 10_000
# Kind -> cases of the short form: fewer where a case costs more, by Hydra's composing or a network's building.
SHORT = {
    "images": 200, "arrays": 300, "idx": 200, "zips": 150, "cifar": 150, "checkpoints": 200, "models": 60,
    "spaces": 200, "points": 300, "subset_lists": 300, "overrides": 40, "audits": 150,
}  # fmt: skip


def fuzzed(kind: str, cases: int, scratch: Path, limit: float) -> dict[str, object]:
    """What `python -m fuzz` counted; its failure is an assertion's. A process of its own bounds memory."""
    scratch.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_", "HYPOTHESIS"))}
    environment = kept | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(scratch.parent / "hypothesis")  # it is no case that writes there
    command = [sys.executable, "-m", "fuzz", kind, str(cases), str(scratch)]
    done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=limit)
    lines = done.stdout.splitlines()
    assert done.returncode in (0, 1) and lines, f"{kind} ended with {done.returncode}: {done.stderr[-3000:]}"
    told: dict[str, object] = json.loads(lines[-1])
    assert "failure" not in told, told["failure"]
    return told


@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's /proc")
def test_hostile_input_is_one_sentence_and_touches_nothing(long, count, tmp_path):
    cases = {kind: LONG if long else some for kind, some in SHORT.items()}
    limit = 4 * 3600.0 if long else 250.0
    with ThreadPoolExecutor(2) as two:
        runs = {kind: two.submit(fuzzed, kind, n, tmp_path / kind, limit) for kind, n in cases.items()}
        counted = {kind: run.result() for kind, run in runs.items()}
    for kind, numbers in counted.items():
        count(f"fuzzing {kind}", **numbers)
    for kind, numbers in counted.items():
        assert numbers["cases"] == cases[kind], kind
        assert numbers["accepted"] and numbers["refused"], f"{kind}: all of one kind shows nothing"
