"""How single values of other types are written: bytes, dates and times, Decimal, UUID, long ints, nan, Secret.

Each has a tag, a function to the tag's body (of JSON types) and one back. The modules they come from are imported only
where such a value occurs. This module must not know containers, nor classes of users.
"""

from __future__ import annotations

import sys

from flux_core.registered import Refused
from flux_core.secret import Secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo
    from typing import Any


def _take_bytes(value: Any) -> object:
    from binascii import b2a_base64

    return b2a_base64(value, newline=False).decode("ascii")


def _make_bytes(body: Any) -> object:
    from binascii import a2b_base64

    return a2b_base64(_text(body), strict_mode=True)


def _take_moment(value: Any) -> object:
    """A datetime or time: ISO text if that says all, else [ISO text without zone, fold, zone]."""
    zone = _take_zone(value.tzinfo)
    # Of an offset below a second fromisoformat makes UTC (CPython 3.11), so ISO text does not say it.
    if value.fold or isinstance(zone, (str, list)) or (zone is not None and zone % 1_000_000):
        return [value.replace(tzinfo=None).isoformat(), value.fold, zone]
    iso: str = value.isoformat()
    return iso


def _take_zone(zone: Any) -> Any:
    """None for a naive time, a number of microseconds for a plain offset, [microseconds, name], or the zone's key."""
    if zone is None:
        return None
    kind = type(zone)
    from datetime import timedelta, timezone

    if kind is timezone:
        offset, *name = zone.__getinitargs__()
        micros = offset // timedelta(microseconds=1)
        return [micros, *name] if name else micros
    key = getattr(zone, "key", None)
    if getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None) is kind and isinstance(key, str):
        return key
    raise Refused(
        f"a time zone of type {kind.__name__} cannot be stored; use zoneinfo.ZoneInfo or datetime.timezone, "
        "for example value.astimezone(timezone.utc)"
    )


def _make_moment(name: str) -> Callable[[Any], object]:
    def make(body: Any) -> object:
        import datetime as dt

        cls = getattr(dt, name)
        if isinstance(body, str):
            return cls.fromisoformat(body)
        iso, fold, zone = body
        return cls.fromisoformat(iso).replace(tzinfo=_make_zone(zone), fold=fold)

    return make


def _make_zone(zone: Any) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo

        return ZoneInfo(zone)
    from datetime import timedelta, timezone

    micros, *name = zone if isinstance(zone, list) else [zone]
    return timezone(timedelta(microseconds=micros), *name)


def _make_date(body: Any) -> object:
    from datetime import date

    return date.fromisoformat(_text(body))


def _take_timedelta(value: Any) -> object:
    return [value.days, value.seconds, value.microseconds]


def _make_timedelta(body: Any) -> object:
    from datetime import timedelta

    days, seconds, microseconds = body
    return timedelta(days, seconds, microseconds)


def _make_decimal(body: Any) -> object:
    from decimal import Decimal

    return Decimal(_text(body))


def _make_uuid(body: Any) -> object:
    from uuid import UUID

    return UUID(_text(body))


def _take_secret(value: Any) -> object:
    name: str = value.name
    return name


def _make_secret(body: Any) -> object:
    return Secret(_text(body))


def _text(body: Any) -> str:
    if type(body) is not str:
        raise TypeError(f"expected a string, found {type(body).__name__}")
    return body


TAKERS: dict[tuple[str, str], tuple[str, Callable[[Any], object]]] = {
    ("builtins", "bytes"): ("$bytes", _take_bytes),
    ("datetime", "datetime"): ("$datetime", _take_moment),
    ("datetime", "time"): ("$time", _take_moment),
    ("datetime", "date"): ("$date", str),
    ("datetime", "timedelta"): ("$timedelta", _take_timedelta),
    ("decimal", "Decimal"): ("$decimal", str),
    ("flux_core.secret", "Secret"): ("$secret", _take_secret),
    ("uuid", "UUID"): ("$uuid", str),
}
"""Module and qualified name of a type -> its tag, and the function from a value to the tag's body."""

MAKERS: dict[str, Callable[[Any], object]] = {
    "$bytes": _make_bytes,
    "$date": _make_date,
    "$datetime": _make_moment("datetime"),
    "$decimal": _make_decimal,
    "$float": lambda body: {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[_text(body)],
    "$int": lambda body: int(_text(body), 16),
    "$secret": _make_secret,
    "$time": _make_moment("time"),
    "$timedelta": _make_timedelta,
    "$uuid": _make_uuid,
}
"""Tag -> the function from its body to the value. It raises any exception for a body that does not fit."""
