"""The engine's warnings and errors during a test, for its story. They go on to the logger that the test has given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.logger import FluxSilentLogger, GuardedLogger
from flux_core.redaction import Redaction

if TYPE_CHECKING:
    from flux_core.ports import Clock, InstanceRef, Logger

_TOLD_ANYWAY = frozenset({"a compensation failed", "stuck: an operator is needed", "blocked"})
"""What the story says in its own words."""


class Remarks:
    """A `Logger` that keeps what somebody should look at."""

    def __init__(self, clock: Clock, inner: Logger | None = None) -> None:
        """`inner` gets everything."""
        self._clock = clock
        self._inner = GuardedLogger(inner or FluxSilentLogger(), Redaction(()))  # the engine's own has redacted it
        self._kept: list[tuple[int, object, str]] = []

    def of(self, ref: InstanceRef) -> list[tuple[int, str]]:
        """Time (ms) and text of what concerns the instance, or no instance in particular."""
        return [(at, text) for at, id_, text in self._kept if id_ in {None, ref.id}]

    def debug(self, message: str, **fields: object) -> None:
        """Pass it on."""
        self._inner.debug(message, **fields)

    def info(self, message: str, **fields: object) -> None:
        """Pass it on."""
        self._inner.info(message, **fields)

    def warn(self, message: str, **fields: object) -> None:
        """Keep it and pass it on."""
        self._keep(message, fields)
        self._inner.warn(message, **fields)

    def error(self, message: str, **fields: object) -> None:
        """Keep it and pass it on."""
        self._keep(message, fields)
        self._inner.error(message, **fields)

    def _keep(self, message: str, fields: dict[str, object]) -> None:
        if message not in _TOLD_ANYWAY:
            shown = "".join(f", {key} {value}" for key, value in fields.items() if key not in {"workflow", "id"})
            self._kept.append((self._clock.now(), fields.get("id"), f"log: {message}{shown}"))
