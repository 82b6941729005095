"""The engine's own log lines, and the logger a handler sees. It must not decide what is worth a line."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from flux_core.context import Context
    from flux_core.ports import InstanceRef, Logger
    from flux_core.redaction import Redaction

_LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40}


class LevelledLogger:
    """A `Logger` that writes lines from `level` on (debug, info, warn, error); a subclass says how, in `write`."""

    def __init__(self, level: str = "info") -> None:
        """`ValueError` for a level that is none of the four."""
        if level not in _LEVELS:
            message = f"level must be one of {', '.join(_LEVELS)}; got {level!r}"
            raise ValueError(message)
        self.least = _LEVELS[level]
        """As the standard library counts levels."""

    def debug(self, message: str, **fields: object) -> None:
        """For who looks for a fault in the engine."""
        self._line("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What happens."""
        self._line("info", message, fields)

    def warn(self, message: str, **fields: object) -> None:
        """What somebody should look at."""
        self._line("warn", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What somebody must look at."""
        self._line("error", message, fields)

    def write(self, level: str, message: str, fields: dict[str, object]) -> None:
        """Write one line, whose level is high enough."""
        raise NotImplementedError

    def _line(self, level: str, message: str, fields: dict[str, object]) -> None:
        if _LEVELS[level] >= self.least:
            self.write(level, message, fields)


class FluxConsoleLogger(LevelledLogger):
    """Lines on standard error: `[flux] warn  message key=value ...`. `level`: debug, info, warn or error."""

    def write(self, level: str, message: str, fields: dict[str, object]) -> None:
        """The line."""
        sys.stderr.write(f"[flux] {level:5} {message}{_shown(fields)}\n")


def _shown(fields: dict[str, object]) -> str:
    return "".join(f" {key}={value}" for key, value in fields.items())


class FluxSilentLogger:
    """Says nothing: the default."""

    def debug(self, message: str, **fields: object) -> None:
        """Nothing."""

    info = warn = error = debug


class GuardedLogger:
    """Passes lines on; an exception of the logger is counted, and changes nothing."""

    def __init__(self, logger: Logger, redaction: Redaction) -> None:
        """What `redaction` hides in the fields of a line does not reach `logger`."""
        self._logger = logger
        self._redaction = redaction
        self.silent = type(logger) is FluxSilentLogger
        """Whether nothing would be heard of what is said."""
        self.errors = 0

    def debug(self, message: str, **fields: object) -> None:
        """For who looks for a fault."""
        self._pass("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What happens."""
        self._pass("info", message, fields)

    def warn(self, message: str, **fields: object) -> None:
        """What somebody should look at."""
        self._pass("warn", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What somebody must look at."""
        self._pass("error", message, fields)

    def _pass(self, level: str, message: str, fields: dict[str, object]) -> None:
        if self.silent:
            return
        try:
            enabled = getattr(self._logger, "isEnabledFor", None)  # the standard library's loggers take no fields
            if enabled is None:
                getattr(self._logger, level)(message, **self._redaction.fields(fields))
            elif enabled(_LEVELS[level]):
                shown = _shown(self._redaction.fields(fields))
                getattr(self._logger, "warning" if level == "warn" else level)("%s%s", message, shown)
        except Exception:  # noqa: BLE001 -- a logger never changes an outcome
            self.errors += 1


class StepLog:
    """`ctx.log`: the engine's logger with workflow, id, step and attempt filled in, or as the handler names them.

    Values of secrets that the attempt asked for are not shown.
    """

    __slots__ = ("_ctx", "_fields", "_logger")

    def __init__(self, logger: Logger, ref: InstanceRef, ctx: Context) -> None:
        self._logger = logger
        self._ctx = ctx
        self._fields = {"workflow": ref.workflow, "id": ref.id, "step": ctx.step, "attempt": ctx.attempt}

    def debug(self, message: str, **fields: object) -> None:
        """For who looks for a fault."""
        self._pass(self._logger.debug, message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What happens."""
        self._pass(self._logger.info, message, fields)

    def warn(self, message: str, **fields: object) -> None:
        """What somebody should look at."""
        self._pass(self._logger.warn, message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What somebody must look at."""
        self._pass(self._logger.error, message, fields)

    warning = warn
    """The standard library's word: a slip of the name must not fail a step that has charged a card."""

    def _pass(self, write: Callable[..., None], message: str, fields: dict[str, object]) -> None:
        revealed = self._ctx.revealed
        if revealed is not None:
            message, fields = revealed.scrub(message), revealed.fields(fields)
        write(message, **{**self._fields, **fields})
