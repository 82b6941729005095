"""The real clock and the real randomness: the only module of the core that reads either."""

from __future__ import annotations

import os
import time


class SystemClock:
    """The machine's clocks."""

    virtual = False

    def now(self) -> int:
        """Wall-clock milliseconds since the epoch."""
        return int(time.time() * 1000)

    monotonic = staticmethod(time.monotonic)
    """Seconds of a clock that never goes back."""

    sleep = staticmethod(time.sleep)
    """Block for some seconds."""


class SystemEntropy:
    """The operating system's random numbers."""

    def token(self) -> str:
        """32 hexadecimal digits."""
        return os.urandom(16).hex()

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return int.from_bytes(os.urandom(6), "big") / (1 << 48)
