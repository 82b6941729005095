"""How much of an invocation is left (PROTOCOL rule 15). It must not stop anything; it only counts."""

from __future__ import annotations

from flux_core.errors import CallerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Final

    from flux_core.ports import Clock

MARGIN: Final = 3.0
"""Seconds that saving and answering need, scaled down for invocations that are shorter than 30 s."""


class Deadline:
    """The end of one invocation."""

    __slots__ = ("_remaining", "margin")

    def __init__(self, limit: float | timedelta | Callable[[], float], clock: Clock) -> None:
        """`limit`: seconds or `timedelta` from now on, or a function that tells the seconds left.

        A limit that has passed already is fine: nothing is begun. `CallerError` for what is no duration.
        """
        if callable(limit):
            self._remaining = limit
        else:
            whole = getattr(limit, "total_seconds", None)
            duration: Any = limit if whole is None else whole()
            if type(duration) not in {int, float}:
                message = (
                    f"deadline must be seconds, a timedelta, or a function that tells the seconds left; got {limit!r}"
                )
                raise CallerError(message)
            end = clock.monotonic() + duration
            self._remaining = lambda: end - clock.monotonic()
        self.margin = min(MARGIN, self._remaining() / 10)

    def remaining(self) -> float:
        """Seconds until the platform ends the invocation."""
        return self._remaining()

    def budget(self) -> float:
        """Seconds that a handler may use."""
        return self._remaining() - self.margin
