"""Whether a write failed because the store is away, because the event is bad, or nobody can tell.

What is away comes back, so the writer waits; what is bad stays bad however often it is tried.
"""

from __future__ import annotations

import enum
import errno
import re
import sqlite3
from collections.abc import Iterator

_AWAY_STATUS = {401, 408, 429, 502, 503, 504}  # 401: the password was changed; 403 is an answer to this event alone
_AWAY_CODES = {
    "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED",
}  # fmt: skip
# Of the file system: full, over quota, or not there for the moment. A file that is missing is nobody's outage.
_AWAY_ERRNO = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.EHOSTDOWN, errno.ENOTCONN, errno.EAGAIN, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
_AWAY_CLASSES = {
    # SQLAlchemy and its drivers say OperationalError for what is the database's and not the statement's: refused,
    # reset, shut down, no more connections, locked, disk full. InterfaceError: the connection was lost and closed.
    "sqlalchemy.exc.OperationalError", "sqlalchemy.exc.InterfaceError", "sqlalchemy.exc.TimeoutError",
    "psycopg2.OperationalError", "psycopg2.InterfaceError",
    "requests.exceptions.ConnectionError", "requests.exceptions.Timeout", "requests.exceptions.ChunkedEncodingError",
    "urllib3.exceptions.ProtocolError", "urllib3.exceptions.TimeoutError", "urllib3.exceptions.NewConnectionError",
}  # fmt: skip
_TOO_MANY = re.compile(r"too many (\d{3}) error responses")


class Fault(enum.Enum):
    """Why a write failed."""

    AWAY = "away"
    BAD = "bad"
    UNCLEAR = "unclear"


def fault(error: BaseException) -> Fault:
    """Why a write failed with `error`.

    AWAY: the store cannot be reached, is overloaded, locked or full, or asks for another password. UNCLEAR: a server
    says 500, which is its own trouble or what it makes of this event. BAD: all else.
    """
    unclear = False
    for cause in _chain(error):
        status = _status(cause)
        if status in _AWAY_STATUS or getattr(cause, "error_code", None) in _AWAY_CODES or _system(cause):
            return Fault.AWAY
        unclear = unclear or status == 500
    return Fault.UNCLEAR if unclear else Fault.BAD


def reason(error: BaseException) -> str:
    """What stands at the bottom of `error`, as the few words that go into a sentence."""
    *_, root = _chain(error)
    status = next((s for s in map(_status, _chain(error)) if s is not None), None)
    if status is not None:
        return f"it answers {status}"
    inner = getattr(root, "reason", None)  # urllib3 keeps the socket's error here
    words = str(getattr(root, "strerror", None) or inner or root).strip().partition("\n")[0]
    return _shorter(words) or type(root).__name__


def _shorter(words: str) -> str:
    """Without the connection object that urllib3 prints first."""
    found = re.search(r"Failed to establish a new connection: (?:\[Errno -?\d+\] )?([^')]+)", words)
    return found[1] if found else words[:200]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__


def _system(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | sqlite3.OperationalError):
        return True
    if isinstance(error, OSError) and error.errno in _AWAY_ERRNO:
        return True
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not names.isdisjoint(_AWAY_CLASSES)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error of requests, urllib3 or MLflow is about, if it is about one."""
    answered = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(answered, int):
        return answered
    found = _TOO_MANY.search(str(error))
    return int(found[1]) if found else None
