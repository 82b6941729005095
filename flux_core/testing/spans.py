"""Stretches of time in words: for a reader, and as the arguments of `advance`. It must not read a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("days", "d", 86_400_000), ("hours", "h", 3_600_000), ("minutes", "min", 60_000))


def span(ms: int) -> str:
    """`2 d 3 h`, `1 min 5 s`, `0.53 s`: the two largest units that count."""
    parts = []
    for _, short, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {short}")
    if ms or not parts:
        parts.append(f"{ms / 1000:g} s")
    return " ".join(parts[:2])


def stamp(ms: int) -> str:
    """A time since the start, for a column: `+2d 03:00:00.5`."""
    days, rest = divmod(ms, 86_400_000)
    seconds, thousandths = divmod(rest, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    fraction = f".{thousandths:03}".rstrip("0") if thousandths else ""
    return f"+{f'{days}d ' if days else ''}{clock}{fraction}"


def arguments(ms: int) -> str:
    """What to give to `advance` for exactly so many milliseconds: `days=2, hours=3`."""
    parts = []
    for name, _, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{name}={count}")
    if ms or not parts:
        parts.append(f"seconds={ms / 1000:g}")
    return ", ".join(parts)


def moment(ms: int) -> str:
    """A time, given in milliseconds since the epoch, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def shown(value: object, most: int = 100) -> str:
    """A value on one line of at most about `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text)} characters)"
