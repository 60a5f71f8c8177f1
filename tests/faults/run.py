"""`make faults`: every fault in its long form. The last line printed is one JSON object of counts."""

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest


def main(arguments: list[str]) -> int:
    """Run this folder's tests, with pytest's further arguments; pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "counts"
        kept.touch()
        os.environ |= {"AMBIENT_FAULTS": "long", "AMBIENT_FAULTS_COUNTS": str(kept)}
        code = int(pytest.main([str(Path(__file__).parent), "-m", "", "--timeout", "7200", *arguments]))
        counts: dict[str, dict[str, object]] = {}
        for line in kept.read_text().splitlines():
            for name, numbers in json.loads(line).items():
                counts.setdefault(name, {}).update(numbers)
    print(json.dumps(counts))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
