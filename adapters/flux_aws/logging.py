"""Log lines of a function: Powertools' structured ones. It must not cost a cold start anything until a line is written.

Each line is one JSON object with Powertools' keys (`level`, `message`, `timestamp`, `service`, `cold_start`,
`function_name`, `function_request_id`, `correlation_id`, `xray_trace_id`, ...) and the engine's fields (`workflow`,
`id`, `step`, `attempt`). The service's name and the like are Powertools' own settings (`POWERTOOLS_SERVICE_NAME`, ...).
Without the package, lines go to standard error as plain text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_core.logger import FluxConsoleLogger, LevelledLogger

if TYPE_CHECKING:
    from typing import Any


class PowertoolsLogger(LevelledLogger):
    """A `Logger` of the engine over Powertools', imported by the first line that is written.

    `level`: debug, info, warn or error. `logger`: a Powertools `Logger` of one's own.
    """

    def __init__(self, level: str = "info", logger: Any = None) -> None:
        """Imports nothing."""
        super().__init__(level)
        self._logger = logger
        self._console: FluxConsoleLogger | None = None
        self._keys: dict[str, object] = {}
        self._taken: frozenset[str] = frozenset()
        self._begun = False

    def begin(self, context: object) -> None:
        """An invocation begins. `context` is Lambda's; its lines show what Powertools shows of it."""
        self._keys = {"cold_start": not self._begun}
        self._begun = True
        for key, attribute in _CONTEXT.items():
            value = getattr(context, attribute, None)
            if value is not None:
                self._keys[key] = value

    def about(self, correlation: str | None) -> None:
        """From here on it is about this request, event or message."""
        self._keys.pop("correlation_id", None)
        if correlation is not None:
            self._keys["correlation_id"] = correlation

    def write(self, level: str, message: str, fields: dict[str, object]) -> None:
        """The line, by Powertools or as plain text."""
        if self._logger is None and self._console is None:
            self._open()
        if self._console is not None:
            getattr(self._console, level)(message, **fields)
            return
        if not self._taken:
            import logging

            self._taken = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
        # The standard library refuses a field that has the name of one of its own, and the line with it.
        shown = {f"{key}_" if key in self._taken else key: value for key, value in fields.items()}
        getattr(self._logger, "warning" if level == "warn" else level)(message, extra={**self._keys, **shown})

    def _open(self) -> None:
        try:
            from aws_lambda_powertools.logging.logger import Logger
        except ImportError:
            self._console = FluxConsoleLogger("debug")
            return
        # Where a line comes from is always the engine's own guard; which step it is about is in its fields.
        self._logger = Logger(level=self.least, location=None)


_CONTEXT: Final = {
    "function_name": "function_name",
    "function_memory_size": "memory_limit_in_mb",
    "function_arn": "invoked_function_arn",
    "function_request_id": "aws_request_id",
}
"""Powertools' keys, and the attributes of Lambda's context that they show."""
