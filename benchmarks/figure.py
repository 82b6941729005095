"""What a measurement says: figures, their targets and verdicts. It must not measure anything."""

from __future__ import annotations

from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Samples(NamedTuple):
    """The best, the middle and the middle half of repeated measurements of one thing."""

    best: float
    median: float
    low: float
    high: float
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Samples:
        """Summarise; `low` and `high` are the first and third quartile."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return cls(min(values), median(values), low, high, len(values))


class Figure(NamedTuple):
    """One line of the result. The verdict is by the median: what a run is like, not what it can be like."""

    topic: str
    name: str
    unit: str
    best: float
    median: float
    low: float
    high: float
    samples: int
    target: float | None = None

    @classmethod
    def of(cls, topic: str, name: str, unit: str, samples: Samples, target: float | None = None) -> Figure:
        """A figure of repeated measurements."""
        best, middle, low, high = (round(value, 4) for value in samples[:4])
        return cls(topic, name, unit, best, middle, low, high, samples.number, target)

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing where there is no target."""
        if self.target is None:
            return ""
        return "met" if self.median <= self.target else "missed"


def spread(values: Sequence[float]) -> float:
    """How far apart the values lie: half the distance of the extremes over their middle, in per cent."""
    low, high = min(values), max(values)
    return 100 * (high - low) / (high + low)
