"""What may be shown, logged or stored of an address that carries a password."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

# user:password@ of a URL. Without a slash the password goes up to the last @; with one (SQLAlchemy takes it so) up to
# the first, unless what follows the colon is a port, as in http://host:5000/models:/faces@champion.
_USER_INFO = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@'\"[]*):(?:[^\s/]*|(?!\d*(?:/|$))[^\s@]*)@")
# Parameters of a query, or of a connection string, whose names say that their values are secret.
_PARAMETER = re.compile(
    r"(?P<head>(?:^|[?&;\s])[A-Za-z0-9_.-]*(?:password|passwd|secret|token|credential|access[_-]?key|signature)"
    r"[A-Za-z0-9_.-]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Text in which the passwords of all addresses are `***`: `postgresql://me:***@host/db`, `s3://b?secret_key=***`.

    What names no secret is left as it is, so that this may be applied to any text, twice as well as once.
    """
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<head>{HIDDEN}", _USER_INFO.sub(rf"\g<head>:{HIDDEN}@", text))


def without_secrets(value: Any) -> Any:
    """Plain containers of settings with every string `redacted`."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {key: without_secrets(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in value]
    return value
