"""What people did to an instance by hand, read from its log. It must not look at anything but records."""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Final

    from flux_core.records import Record


class AuditEntry:
    """One intervention: a verb of the engine, and who asked for it, why and when."""

    __slots__ = ("at", "step", "verb", "who", "why")

    def __init__(self, verb: str, step: str | None, who: str | None, why: str | None, at: int) -> None:
        self.verb = verb
        self.step = step
        """The step that the verb named, if it takes one."""
        self.who = who
        self.why = why
        self.at = at
        """Milliseconds since the epoch."""

    @property
    def time(self) -> datetime:
        """When, in UTC."""
        from datetime import UTC, datetime

        return datetime.fromtimestamp(self.at / 1000, UTC)

    def __repr__(self) -> str:
        step = f" {self.step}" if self.step else ""
        return f"<{self.verb}{step} at {self.time:%Y-%m-%d %H:%M:%S} by {self.who or '?'}: {self.why or 'no reason'}>"


_VERBS: Final = {
    r.CANCELREQ: "cancel",
    r.PAUSE: "pause",
    r.UNPAUSE: "unpause",
    r.RETRY: "retry_step",
}


def audit(log: Iterable[Record]) -> list[AuditEntry]:
    """The interventions of `log`, oldest first. A `resume` of a failed instance is a retry of its failed step."""
    entries: list[AuditEntry] = []
    for record in log:
        verb = _VERBS.get(record.type)
        if record.type == r.RESOLVE:
            verb = "complete_step" if record.body["h"] == s.COMPLETED else "skip_step"
        if verb is not None:
            body = record.body
            entries.append(AuditEntry(verb, body.get("p"), body.get("by"), body.get("why"), record.at))
    return entries
