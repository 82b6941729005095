"""Times in words and in figures, from milliseconds since the epoch. It must not read a clock."""

from __future__ import annotations

from datetime import UTC, datetime

_LAST = 253_402_300_799_000
"""The last second that a datetime can hold."""

_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
_UNITS = ((_SECOND, 2 * _MINUTE, "s"), (_MINUTE, 2 * _HOUR, "min"), (_HOUR, 2 * _DAY, "h"))


def length(milliseconds: float, *, nearest: bool = False) -> str:
    """`45 s`, `90 min`, `30 h`, `12 d`: one unit, never less than one of the next. Cut off, or to the `nearest`."""
    more = 0.5 if nearest else 0
    for unit, limit, name in _UNITS:
        if milliseconds < limit:
            return f"{(milliseconds / unit + more) // 1:.0f} {name}" if milliseconds >= unit else f"<1 {name}"
    return f"{(milliseconds / _DAY + more) // 1:.0f} d"


def seconds(milliseconds: float) -> str:
    """How long an attempt ran: `12 ms`, `3.4 s`, then as `length`."""
    if milliseconds < _SECOND:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 2 * _MINUTE else length(milliseconds)


def ago(moment: int, now: int) -> str:
    """`2 h ago`."""
    return f"{length(max(0, now - moment))} ago"


def until(moment: int, now: int) -> str:
    """`in 2 h`, or for what is past `2 h ago`. What has just begun to take seven days ends in 7 d, not in 6."""
    return ago(moment, now) if moment <= now else f"in {length(moment - now, nearest=True)}"


def stamp(moment: int) -> str:
    """`2026-11-21 14:03:11`, in UTC."""
    return _utc(moment).strftime("%Y-%m-%d %H:%M:%S")


def _utc(moment: int) -> datetime:
    return datetime.fromtimestamp(min(moment, _LAST) / 1000, UTC)
