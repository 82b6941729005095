"""What became of one line of input, and of all of them. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_cli.exits import GOOD, SOME_FAILED

if TYPE_CHECKING:
    from flux_core import ErrorInfo, FluxResult

REJECTED: Final = "rejected"
"""No instance was started: the line is no JSON, does not fit the workflow's input, or its id is taken."""

BROKEN: Final = "error"
"""An exception that is nobody's decision: an unreadable record, or a fault in the app's own validation."""

_GOOD = frozenset({"completed", "suspended", "paused"})


def lines_told(count: int) -> str:
    """`1 line`, `2 lines`."""
    return f"{count} line" if count == 1 else f"{count} lines"


class Outcome:
    """One line: its number, its instance if there is one, and how that stands."""

    __slots__ = (
        "created",
        "error",
        "error_type",
        "goes_on_at",
        "id",
        "number",
        "retries",
        "seconds",
        "status",
        "step",
        "waiting_for",
    )

    def __init__(self, number: int, id: str | None, status: str) -> None:
        self.number = number
        self.id = id
        self.status = status
        """A status of the instance, `rejected` or `error`."""
        self.created = False
        """Whether this run started the instance."""
        self.seconds = 0.0
        """From the line's turn to its end in this run."""
        self.retries = 0
        """Attempts after the first, over all steps."""
        self.waiting_for: tuple[str, ...] = ()
        self.goes_on_at: float | None = None
        """When it can go on by itself, in seconds since the epoch, where this run has left it to that time."""
        self.error: str | None = None
        self.error_type: str | None = None
        self.step: str | None = None

    @property
    def good(self) -> bool:
        """Whether it completed, or waits for what only others can bring."""
        return self.status in _GOOD

    def failed_with(self, kind: str, message: str, step: str | None = None) -> Outcome:
        """Itself, with its error."""
        self.error_type, self.error, self.step = kind, message, step
        return self

    def stands(self, result: FluxResult) -> Outcome:
        """Itself, as `result` says."""
        self.status = result.status
        self.created = self.created or result.created
        self.retries = sum(step.retries for step in result.history)
        self.waiting_for = tuple(name for step in result.history for name in step.waiting_for)
        error: ErrorInfo | None = result.error
        if error is None:
            self.error_type = self.error = self.step = None
            return self
        return self.failed_with(error.type, error.message, error.step)

    def as_json(self, workflow: str) -> dict[str, object]:
        """One line of `--json`. Scripts read it: fields may be added, none renamed."""
        error = {"type": self.error_type, "message": self.error, "step": self.step} if self.error_type else None
        return {
            "line": self.number,
            "id": self.id,
            "workflow": workflow,
            "status": self.status,
            "created": self.created,
            "seconds": round(self.seconds, 3),
            "retries": self.retries,
            "waiting_for": list(self.waiting_for),
            "error": error,
        }


class Summary:
    """All outcomes of one run, and how long it took."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.seconds = 0.0

    @property
    def by_status(self) -> dict[str, list[Outcome]]:
        """The outcomes of each status, the most frequent first."""
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.status, []).append(outcome)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    @property
    def exit_code(self) -> int:
        """0 if all completed or wait, else 1."""
        return GOOD if all(outcome.good for outcome in self.outcomes) else SOME_FAILED

    def as_json(self, exit_code: int) -> dict[str, object]:
        """The last line of `--json`."""
        return {
            "summary": True,
            "lines": len(self.outcomes),
            "by_status": {status: len(some) for status, some in self.by_status.items()},
            "seconds": round(self.seconds, 3),
            "exit_code": exit_code,
        }
