"""How long to wait before the next attempt; it must not wait, and draws no random number."""

from __future__ import annotations

from flux_core.errors import DefinitionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

LONGEST = 365 * 24 * 3600.0
"""No wait, limit or delay is longer than a year (in seconds): beyond it, a slip of the unit is likelier than a wish."""


_LARGEST_FACTOR = 1000
_MOST_GROWTH = 64


def seconds(value: float | timedelta, what: str) -> float:
    """A duration given as seconds or `timedelta`, in seconds. `DefinitionError` names `what` if it is neither."""
    total = getattr(value, "total_seconds", None)
    result = total() if total is not None else value
    if isinstance(result, bool) or not isinstance(result, int | float) or not 0 <= result <= LONGEST:
        message = f"{what} must be a duration from 0 to one year, in seconds or as timedelta; got {value!r}"
        raise DefinitionError(message)
    return float(result)


class RetryPolicy:
    """Exponential back-off: `initial` x `factor`^n seconds, at most `maximum`, with full jitter unless switched off."""

    __slots__ = ("factor", "initial", "jitter", "maximum")

    def __init__(
        self,
        initial: float | timedelta = 1.0,
        factor: float = 2.0,
        maximum: float | timedelta = 10.0,
        *,
        jitter: bool = True,
    ) -> None:
        """`initial` and `maximum` are seconds or `timedelta`; `DefinitionError` if the figures make no back-off."""
        self.initial = seconds(initial, "RetryPolicy(initial=...)")
        self.maximum = seconds(maximum, "RetryPolicy(maximum=...)")
        if type(factor) not in {int, float} or not 1 <= factor <= _LARGEST_FACTOR:
            message = (
                f"RetryPolicy(factor=...) must be from 1 (delays do not shrink) to {_LARGEST_FACTOR}; got {factor!r}"
            )
            raise DefinitionError(message)
        self.factor = float(factor)
        self.jitter = jitter

    def delay(self, retry: int, uniform: float) -> float:
        """Seconds before retry number `retry` (1 is the first); `uniform` in [0, 1) is the jitter's draw."""
        exponent = min(retry - 1, _MOST_GROWTH)
        longest = min(self.initial * self.factor**exponent, self.maximum)
        return longest * uniform if self.jitter else longest
