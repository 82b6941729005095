"""How statuses are coloured, and foreign text made safe to print. It must not know where they are shown."""

from __future__ import annotations

from typing import Final

from rich.text import Text

STYLES: Final = {
    "completed": "green",
    "suspended": "cyan",
    "paused": "magenta",
    "running": "blue",
    "rolled_back": "yellow",
    "rolling_back": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "stuck": "red",
    "blocked": "red",
    "rejected": "red",
    "error": "red",
    "pending": "dim",
    "skipped": "dim",
    "unknown": "bold red",
    "compensating": "yellow",
    "compensated": "yellow",
    "compensation_failed": "red",
}
"""Of instances, steps and lines."""


def painted(status: str) -> Text:
    """The status in its colour."""
    return Text(status, STYLES.get(status, ""), no_wrap=True)


def printable(text: str) -> str:
    """`text` with every control character written as Python would write it: a message may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
