"""Which errors say that a store is away, and which that an event is bad."""

import errno

import pytest
import requests

from ambient_ray.tracking.recording.outage import Fault, fault


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.exceptions.ConnectTimeout("slow"), Fault.AWAY),
        (ConnectionResetError(104, "reset"), Fault.AWAY),
        (OSError(errno.ENOSPC, "full"), Fault.AWAY),
        (FileNotFoundError(2, "gone"), Fault.BAD),
        (PermissionError(13, "no"), Fault.BAD),
        (KeyError("trial 3"), Fault.BAD),
        (requests.exceptions.RetryError("too many 503 error responses"), Fault.AWAY),
        (requests.exceptions.RetryError("too many 500 error responses"), Fault.UNCLEAR),
        (ValueError("400"), Fault.BAD),
    ],
    ids=repr,
)
def test_what_is_away_comes_back_and_what_is_bad_does_not(error: Exception, kind: Fault) -> None:
    assert fault(error) is kind
    try:  # as MLflow wraps it: without `from`
        try:
            raise error
        except Exception:
            raise RuntimeError("API request failed")  # noqa: B904
    except RuntimeError as wrapped:
        assert fault(wrapped) is kind
