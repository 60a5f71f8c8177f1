"""What a test counted is printed: at once, or at the end of the run where tests run beside each other."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Count = Callable[..., None]
COUNTED = "counted"


@pytest.fixture
def count(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Count:
    """`count(name, **numbers)`: prints what a test counted; `make faults` gathers it into its last line."""

    def counted(name: str, **numbers: Any) -> None:
        line = f"{name}: " + ", ".join(f"{key} {value}" for key, value in numbers.items())
        if "PYTEST_XDIST_WORKER" in os.environ:
            request.node.user_properties.append((COUNTED, line))
        else:
            with capsys.disabled():
                print(f"\n{line}")
        if kept := os.environ.get("AMBIENT_FAULTS_COUNTS"):
            with Path(kept).open("a") as file:
                file.write(json.dumps({name: numbers}) + "\n")

    return counted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines that the processes of `pytest -n` could not."""
    for report in [r for reports in terminalreporter.stats.values() for r in reports]:
        for name, line in getattr(report, "user_properties", ()):
            if name == COUNTED and report.when == "call":
                terminalreporter.write_line(line)
