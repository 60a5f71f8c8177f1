"""Waiting for a disk that is full or a store that does not answer, with a word, instead of failing."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .errors import StorageGivenUpError
from .place import Location, RemoteFolder

Result = TypeVar("Result")

_FULL = {
    errno.ENOSPC: "no space left on device at {where}; free some",
    errno.EDQUOT: "the quota of {where} is used up; free some of it",
    errno.EROFS: "{where} is mounted read-only; mount it to be written to",
    errno.EFBIG: "{where} takes no file of this size; raise its limit",
}
# What a store's errors say, as pyarrow passes them on, the first that is found.
_SAID = (
    (r"NO_SUCH_BUCKET|bucket does not exist|Bucket '[^']*' not found", "there is no bucket {root}; make it"),
    (
        r"ACCESS_DENIED|AccessDenied|INVALID_ACCESS_KEY|InvalidAccessKeyId|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN"
        r"|UNRECOGNIZED_CLIENT|EXPIRED_TOKEN|ExpiredToken|HTTP status (401|403)|PERMISSION_DENIED|UNAUTHENTICATED",
        "{root} refuses ({said}); look at its policy and at this machine's credentials",
    ),
    (
        r"SLOW_DOWN|SlowDown|SERVICE_UNAVAILABLE|ServiceUnavailable|HTTP status 50[0234]|INTERNAL_FAILURE",
        "{root} is overloaded or away ({said})",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|REQUEST_TIMEOUT|Couldn't resolve|Could not connect|[Tt]imed out|USER_CANCELLED",
        "{root} does not answer ({said})",
    ),
)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a store.

    Attributes:
        hours: in all, after which it has failed.
        first: seconds before the second try; doubled for each further one.
        longest: seconds between two tries at the most.
    """

    hours: float = 12.0
    first: float = 1.0
    longest: float = 30.0


def patiently(
    action: Callable[[], Result],
    where: Location,
    *,
    patience: Patience = Patience(),  # frozen
    say: Callable[[str], None] = lambda text: None,
    alive: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Do it, and again while the disk or the store refuses, telling so once and when it is over.

    Args:
        action: raises OSError where it has to wait; may be done again after that.
        where: what it writes to or reads from, for the sentence.
        patience: how long.
        say: told what is waited for, whenever that changes, and when it goes on.
        alive: called every few seconds of the wait, so that nobody takes it for a hang.
        clock: seconds.
        sleep: waits.

    Raises:
        StorageGivenUpError: after so many hours.
    """
    began, delay, told = clock(), patience.first, ""
    while True:
        try:
            result = action()
        except OSError as error:
            waited, problem = clock() - began, trouble(error, where)
            if waited >= 3600 * patience.hours:
                raise StorageGivenUpError(f"{problem}; given up after {_duration(waited)}") from error
            if problem != told:
                told = problem
                say(f"waits: {problem}, it tries again every {patience.longest:g} s")
            until = clock() + min(delay, max(0.0, 3600 * patience.hours - waited))
            while (left := until - clock()) > 0:
                alive()
                sleep(min(left, 2.0))
            delay = min(2 * delay, patience.longest)
        else:
            if told:
                say(f"goes on after {_duration(clock() - began)}: {_named(where)} takes what it is given again")
            return result


def trouble(error: OSError, where: Location) -> str:
    """Why a disk or store refuses, and what to do about it, as one clause."""
    text = " ".join(str(error).split())
    if error.errno in _FULL and not re.search("AWS Error|HTTP status", text):
        return _FULL[error.errno].format(where=_named(where) if isinstance(where, RemoteFolder) else where)
    if isinstance(where, RemoteFolder):
        for pattern, words in _SAID:
            if found := re.search(pattern, text):
                said = found[0].lower().replace("_", " ")
                return words.format(root=where.root, said=said)
    return f"{_named(where)} cannot be used: {error.strerror or text[:300]}"


def _named(where: Location) -> str:
    return where.root if isinstance(where, RemoteFolder) else str(where)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
