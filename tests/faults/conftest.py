"""What every fault's test has: how long its form is."""

import os

import pytest


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether this is `make faults`, as long as it takes, or the short form within `make test`."""
    return os.environ.get("AMBIENT_FAULTS") == "long"
