"""Time and randomness as tests want them: a clock that moves when told, and draws that repeat.

Nothing here may read the machine's clock or its randomness; equal seeds and equal calls give equal runs.
"""

from __future__ import annotations

START_MS = 1_700_000_000_000
"""Where a virtual clock begins unless told otherwise: milliseconds since the epoch, of the size real ones have."""


class VirtualClock:
    """A `Clock` that stands still until somebody sleeps or advances it.

    `virtual` tells the engine that no thread can wait for this clock, so leases are renewed between steps only.
    """

    virtual = True

    def __init__(self, start_ms: int = START_MS) -> None:
        """`start_ms`: milliseconds since the epoch at the beginning. The monotonic clock begins at 0 s."""
        self._start = start_ms
        self._passed = 0.0
        self.slept: list[float] = []
        """Every sleep asked for, in seconds, in order: what an invocation waited through."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return self._start + round(self._passed * 1000)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass at once, and remember that they were slept."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; `ValueError` for a negative number, since time does not go back."""
        if seconds < 0:
            message = f"a clock cannot be advanced by {seconds} seconds"
            raise ValueError(message)
        self._passed += seconds


class SeededEntropy:
    """An `Entropy` whose draws follow from its seed alone. Not for production: anybody can guess its tokens."""

    def __init__(self, seed: int = 0) -> None:
        """Equal seeds draw equal numbers."""
        from random import Random  # noqa: TID251 -- seeded, so that a test repeats; never the machine's randomness

        self._random = Random(seed)  # noqa: S311 -- repeatable on purpose

    def token(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._random.getrandbits(128):032x}"

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return self._random.random()
