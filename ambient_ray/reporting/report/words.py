"""Small pieces of the report's language: dates, counts, numbers."""

import math
from datetime import UTC, datetime


def date(seconds: float) -> str:
    """`5 May 2026`, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %B %Y}"


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def count(n: int, what: str) -> str:
    """`1 trial`, `12 trials`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def grouped(value: object) -> str:
    """An integer with its thousands set apart; anything else as it is."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def hours(seconds: float) -> str:
    """`9 minutes`, `3.2 hours`."""
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
