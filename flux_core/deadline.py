"""How much of an invocation is left (PROTOCOL rule 15). It must not stop anything; it only counts."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from flux_core.ports import Clock

MARGIN: Final = 3.0
"""Seconds that saving and answering need, scaled down for invocations that are shorter than 30 s."""


class Deadline:
    """The end of one invocation."""

    __slots__ = ("_remaining", "margin")

    def __init__(self, limit: float | Callable[[], float], clock: Clock) -> None:
        """`limit`: seconds from now on, or a function that tells the seconds left (Lambda's context has one)."""
        if callable(limit):
            self._remaining = limit
        else:
            end = clock.monotonic() + limit
            self._remaining = lambda: end - clock.monotonic()
        self.margin = min(MARGIN, self._remaining() / 10)

    def remaining(self) -> float:
        """Seconds until the platform ends the invocation."""
        return self._remaining()

    def budget(self) -> float:
        """Seconds that a handler may use."""
        return self._remaining() - self.margin
