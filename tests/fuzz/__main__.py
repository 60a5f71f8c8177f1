"""`python -m fuzz KIND CASES FOLDER [SEED]`, in tests/: one kind of hostile input; the last line is JSON."""

import importlib
import logging
import sys
import warnings
from pathlib import Path

from .harness import report


def main(name: str, cases: str, scratch: str, first_seed: str = "0") -> int:
    """The exit code: 0 where every promise held."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    kind = importlib.import_module(f"fuzz.{name}").KIND
    return report(kind, int(cases), Path(scratch).resolve(), int(first_seed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
