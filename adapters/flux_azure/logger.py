"""Log lines as Application Insights can search them: one JSON object a line. It must not log a body or a key.

The Functions worker passes on what the standard library's `logging` is told, with the invocation it belongs to.
"""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from flux_core.logger import LevelledLogger

if TYPE_CHECKING:
    from collections.abc import Mapping

    import azure.functions as func

_NOTHING: Final[Mapping[str, str]] = {}
_SCOPE: ContextVar[Mapping[str, str]] = ContextVar("flux_azure_scope", default=_NOTHING)
"""What every line of the running invocation says; threads that handlers run on see it, too."""
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def enter(context: func.Context) -> None:
    """The lines that follow on this thread belong to that invocation."""
    scope = {"invocation": str(context.invocation_id)}
    parent = str(getattr(context.trace_context, "trace_parent", None) or "")
    parts = parent.split("-")
    if len(parts) == 4:  # noqa: PLR2004 -- version, trace, span, flags (W3C Trace Context)
        scope["trace"] = parts[1]
    _SCOPE.set(scope)


class AzureLogger(LevelledLogger):
    """The port `Logger` over the standard library's logger `flux`. host.json may keep fewer lines, but not more."""

    def __init__(self, level: str = "info") -> None:
        """`level`: debug, info, warn or error."""
        super().__init__(level)
        self._logger = logging.getLogger("flux")

    def write(self, level: str, message: str, fields: dict[str, object]) -> None:
        """The line as one JSON object, with what the running invocation says of itself."""
        line = {"message": message, **fields, **_SCOPE.get()}
        self._logger.log(_LEVELS[level], "%s", json.dumps(line, default=str, ensure_ascii=False))
