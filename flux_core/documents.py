"""Instances as plain JSON: what replies and the command line show of them. It must not hide anything.

Fields may be added, none renamed: programs read it. Values that JSON has no form for stand as the store writes them:
`{"$decimal": "1.10"}`.
"""

from __future__ import annotations

from flux_core.jsontext import parse
from flux_core.values import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from flux_core.result import FluxResult, InstancePage, InstanceSummary
    from flux_core.state import ErrorInfo, StepExecution

DATA: Final = "data"
HISTORY: Final = "history"
INCLUDED: Final = (DATA, HISTORY)
"""What an answer holds on demand."""

_LAST: Final = 253_402_300_799_000
"""The last second that a datetime can hold."""


def plain(value: object) -> Any:
    """A value of an instance as JSON types."""
    return parse(encode(value, "the value").text)


def instance(result: FluxResult, include: tuple[str, ...] = ()) -> dict[str, Any]:
    """How an instance stands: `id`, `workflow`, `status`, and what there is to say of it."""
    state = result.state
    tree: dict[str, Any] = {"id": result.id, "workflow": result.workflow, "status": result.status}
    if result.error is not None:
        tree["error"] = error(result.error)
    if state.awaited and not state.terminal:
        tree["waiting_for"] = list(state.awaited)
    if DATA in include:
        tree["data"] = {key: plain(value) for key, value in result.data.items()}
    if HISTORY in include:
        tree["history"] = [step(one) | {"output": plain(one.output)} for one in result.history]
    return tree


def page(found: InstancePage) -> dict[str, Any]:
    """A page of a list; `cursor` is null on the last one."""
    return {"items": [listed(item) for item in found.items], "cursor": found.cursor}


def listed(item: InstanceSummary) -> dict[str, Any]:
    """An entry of a list."""
    return {
        "workflow": item.workflow,
        "id": item.id,
        "status": item.status,
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
        "due": iso(item.due),
    }


def error(found: ErrorInfo) -> dict[str, Any]:
    """Why an instance failed, is stuck, blocked or was cancelled."""
    return {"type": found.type, "message": found.message, "step": found.step}


def step(one: StepExecution) -> dict[str, Any]:
    """What became of a step, without its output."""
    return {
        "name": one.name,
        "path": one.path,
        "status": one.status,
        "attempts": one.attempt,
        "undo_attempts": one.undo_attempt,
        "started_at": iso(one.started_ms),
        "ended_at": iso(one.ended_ms),
        "compensated_at": iso(one.compensated_ms),
        "seconds": one.duration,
        "error": one.error,
    }


def iso(moment: int | None) -> str | None:
    """Milliseconds since the epoch as `2026-11-21T14:03:11.120Z`; None for None."""
    if moment is None:
        return None
    from datetime import UTC, datetime

    return (
        datetime.fromtimestamp(min(moment, _LAST) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
