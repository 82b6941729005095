"""Lengths of time as they are typed: `30d`, `12h`, `90m`. It must not read a clock."""

from __future__ import annotations

import re
from typing import Final

from flux_cli.exits import USAGE, CommandFailed

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_FORM: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])")
_LONGEST: Final = 1000 * 365 * 86_400


def seconds_of(option: str, text: str) -> float:
    """`text` in seconds: a number with s, m, h, d or w. `CommandFailed` if it is none."""
    found = _FORM.fullmatch(text.strip().lower())
    length = float(found[1]) * _UNITS[found[2]] if found else _LONGEST + 1
    if length > _LONGEST:
        raise CommandFailed(f"{option} {text!r} is no length of time; write 30d, 12h, 90m or 45s, for example", USAGE)
    return length
