"""The engine's own log lines, and the logger a handler sees. It must not decide what is worth a line."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from flux_core.ports import InstanceRef, Logger

_LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40}


class FluxConsoleLogger:
    """Lines on standard error: `[flux] warn  message key=value ...`. `level`: debug, info, warn or error."""

    def __init__(self, level: str = "info") -> None:
        """`ValueError` for a level that is none of the four."""
        if level not in _LEVELS:
            message = f"level must be one of {', '.join(_LEVELS)}; got {level!r}"
            raise ValueError(message)
        self._from = _LEVELS[level]

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

    def _line(self, level: str, message: str, fields: dict[str, object]) -> None:
        if _LEVELS[level] >= self._from:
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

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self.silent = isinstance(logger, FluxSilentLogger)
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
        try:
            if hasattr(self._logger, "isEnabledFor"):  # the standard library's loggers take no fields
                getattr(self._logger, "warning" if level == "warn" else level)("%s%s", message, _shown(fields))
            else:
                getattr(self._logger, level)(message, **fields)
        except Exception:  # noqa: BLE001 -- a logger never changes an outcome
            self.errors += 1


class StepLog:
    """`ctx.log`: the engine's logger with workflow, id, step and attempt filled in, or as the handler names them."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: Logger, ref: InstanceRef, step: str | None, attempt: int) -> None:
        self._logger = logger
        self._fields = {"workflow": ref.workflow, "id": ref.id, "step": step, "attempt": attempt}

    def debug(self, message: str, **fields: object) -> None:
        """For who looks for a fault."""
        self._logger.debug(message, **{**self._fields, **fields})

    def info(self, message: str, **fields: object) -> None:
        """What happens."""
        self._logger.info(message, **{**self._fields, **fields})

    def warn(self, message: str, **fields: object) -> None:
        """What somebody should look at."""
        self._logger.warn(message, **{**self._fields, **fields})

    def error(self, message: str, **fields: object) -> None:
        """What somebody must look at."""
        self._logger.error(message, **{**self._fields, **fields})

    warning = warn
    """The standard library's word: a slip of the name must not fail a step that has charged a card."""
