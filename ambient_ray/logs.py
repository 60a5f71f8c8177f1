"""Log lines that a program can ask: one JSON object a line, with the study, trial and rung that it is about.

`about` names what the code within is about; every record that is made there carries it, in the driver as in a worker,
whoever makes it (`stamp_records`). `JsonLines` writes a record, `LogFile` keeps them in a file that is rotated.
"""

from __future__ import annotations

import contextvars
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ambient_ray.redaction import redacted

#: The logger above all of this package.
PACKAGE = "ambient_ray"
_KEPT_BYTES, _KEPT_FILES = 10 * 2**20, 5
# What every record has of itself; the rest was given by its maker (`extra`) or by `about`.
_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}

_about: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "ambient_ray.logs.about",
    default=MappingProxyType({}),
)


@contextmanager
def about(**ids: Any) -> Iterator[None]:
    """Records made within carry these ids: study, trial (a number, or a list where trials are packed), rung."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def stamp_records() -> None:
    """From now on every log record of this process has the ids that `about` names. Done again, it changes nothing."""
    before = logging.getLogRecordFactory()
    if getattr(before, "stamps", False):
        return

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        for key, value in _about.get().items():
            setattr(record, key, value)
        return record

    stamped.stamps = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(stamped)


def log_as_json() -> None:
    """From now on this package's log lines of this process, a worker of Ray's, are JSON on standard error.

    Ray Train gives its workers handlers of its own, which print the message alone.
    """
    stamp_records()
    logger = logging.getLogger(PACKAGE)
    if any(isinstance(handler.formatter, JsonLines) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, and what it is about.

    Passwords in addresses are hidden (`redacted`). Numbers that JSON does not have (nan, inf) are null.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        # Once Ray is imported, each record has its own time once more.
        given = {key: value for key, value in vars(record).items() if key not in _OWN and not key.startswith("_ray")}
        line |= {key: _plain(value) for key, value in given.items() if key not in line}
        if record.exc_info:
            line["error"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return redacted(str(value))


class LogFile(RotatingFileHandler):
    """A log in a file, begun anew at 10 MB, the five before it kept beside it.

    A line that cannot be written (the disk is full) is counted in `lost` and ends nothing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_KEPT_BYTES, backupCount=_KEPT_FILES, encoding="utf-8", delay=True)
        self.lost = 0
        self.setFormatter(JsonLines())
        self.setLevel(logging.INFO)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Count it."""
        self.lost += 1


@contextmanager
def logging_to(path: Path, **ids: Any) -> Iterator[LogFile]:
    """This package's log lines go into a file, each with these ids; warnings go on to standard error as well.

    Args:
        path: of the file; its folder is there.
        ids: as for `about`; they hold in every thread.
    """
    stamp_records()
    logger, handler = logging.getLogger(PACKAGE), LogFile(path)
    handler.addFilter(
        lambda record: vars(record).update({k: v for k, v in ids.items() if k not in vars(record)}) or True
    )
    # Else nobody would see warnings: those that are no event, which the terminal is told in its own words.
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.addFilter(lambda record: not hasattr(record, "event"))
    level = logger.level
    handlers: tuple[logging.Handler, ...] = (handler, terminal)
    logger.setLevel(logging.INFO)
    for each in handlers:
        logger.addHandler(each)
    try:
        yield handler
    finally:
        for each in handlers:
            logger.removeHandler(each)
        logger.setLevel(level)
        handler.close()
