"""What every fault's test has: how long its form is, and where its counts go."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Count = Callable[..., None]


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether this is `make faults`, as long as it takes, or the short form within `make test`."""
    return os.environ.get("AMBIENT_FAULTS") == "long"


@pytest.fixture
def count(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Count:
    """`count(name, **numbers)`: prints what a test counted; `make faults` gathers it into its last line."""

    def counted(name: str, **numbers: Any) -> None:
        with capsys.disabled():
            print(f"\n{name}: " + ", ".join(f"{key} {value}" for key, value in numbers.items()))
        if kept := os.environ.get("AMBIENT_FAULTS_COUNTS"):
            with Path(kept).open("a") as file:
                file.write(json.dumps({name: numbers}) + "\n")

    return counted
