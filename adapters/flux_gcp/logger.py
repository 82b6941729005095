"""Google's structured logging: one JSON object a line on standard output, which Cloud Run hands to Cloud Logging.

`severity`, `message` and the `logging.googleapis.com/...` fields are its own names (Cloud Logging, Structured logging);
the rest arrives as `jsonPayload`. Lines of one request carry its trace, so the console shows them under its request
log. It must not import a library of Google's, nor raise.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from flux_core.logger import LevelledLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_gcp.events import Trace

_SEVERITIES: Final = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR"}
_OWN: Final = "logging.googleapis.com/"
_LONGEST: Final = 200_000
"""Characters of one line; Cloud Logging takes 256 KB an entry, and would cut a longer one in the middle of its JSON."""

_trace: ContextVar[Trace | None] = ContextVar("flux_gcp_trace", default=None)


class GoogleLogger(LevelledLogger):
    """Writes lines from `level` on (debug, info, warn, error). `project` is where the traces are.

    A field `trace` (a traceback) of an error puts the line before Error Reporting.
    """

    def __init__(self, project: str | None = None, level: str = "info") -> None:
        """`ValueError` for a level that is none of the four."""
        super().__init__(level)
        self._project = project

    def write(self, level: str, message: str, fields: dict[str, object]) -> None:
        """The line as one JSON object."""
        entry: dict[str, object] = {"severity": _SEVERITIES[level], "message": message}
        for name, value in fields.items():
            entry[f"{name}_" if name in entry or name.startswith(_OWN) else name] = value
        if "trace" in entry:
            entry["stack_trace"] = str(entry.pop("trace"))
        trace = _trace.get()
        if trace is not None:
            place = f"projects/{self._project}/traces/" if self._project else ""
            entry[f"{_OWN}trace"] = place + trace.id
            entry[f"{_OWN}trace_sampled"] = trace.sampled
            if trace.span:
                entry[f"{_OWN}spanId"] = trace.span
        text = json.dumps(entry, default=str)
        if len(text) > _LONGEST:
            kept = {name: value for name, value in entry.items() if name.startswith(_OWN) or name == "severity"}
            text = json.dumps({**kept, "message": message[:10_000], "shortened": text[:10_000]}, default=str)
        # One write a line: threads of one instance log side by side.
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@contextmanager
def traced(trace: Trace | None) -> Iterator[None]:
    """Lines that are written within carry `trace`; step handlers run in threads that copy the context."""
    before = _trace.set(trace)
    try:
        yield
    finally:
        _trace.reset(before)
