"""Which verb is allowed in which status: the table of SEMANTICS. It must not carry a verb out."""

from __future__ import annotations

from flux_core import state as s
from flux_core.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from flux_core.state import WorkflowState

ALLOWED: Final = "allowed"
REFUSED: Final = "refused"
FORCED: Final = "only with force=True"
NO_OP: Final = "no-op"
TICKS: Final = "ticks"

_COLUMNS = (
    (s.PENDING, s.RUNNING),
    (s.SUSPENDED,),
    (s.PAUSED,),
    (s.COMPLETED,),
    (s.FAILED, s.ROLLED_BACK),
    (s.ROLLING_BACK,),
    (s.STUCK, s.BLOCKED),
    (s.CANCELLED,),
)
_ROWS = {
    "signal": (ALLOWED, ALLOWED, ALLOWED, REFUSED, ALLOWED, ALLOWED, ALLOWED, REFUSED),
    "retry_step": (REFUSED, ALLOWED, REFUSED, FORCED, ALLOWED, REFUSED, ALLOWED, FORCED),
    "resume": (TICKS, TICKS, REFUSED, REFUSED, ALLOWED, TICKS, TICKS, REFUSED),
    "cancel": (ALLOWED, ALLOWED, ALLOWED, REFUSED, NO_OP, NO_OP, ALLOWED, NO_OP),
    "pause": (ALLOWED, ALLOWED, NO_OP, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED),
    "unpause": (NO_OP, NO_OP, ALLOWED, NO_OP, NO_OP, NO_OP, NO_OP, NO_OP),
    "complete_step": (REFUSED, ALLOWED, ALLOWED, REFUSED, ALLOWED, REFUSED, ALLOWED, REFUSED),
    "skip_step": (REFUSED, ALLOWED, ALLOWED, REFUSED, ALLOWED, REFUSED, ALLOWED, REFUSED),
    "delete": (REFUSED, REFUSED, REFUSED, ALLOWED, ALLOWED, REFUSED, FORCED, ALLOWED),
}
VERBS: Final = {
    verb: {status: cell for column, cell in zip(_COLUMNS, row, strict=True) for status in column}
    for verb, row in _ROWS.items()
}
"""What each verb does in each status."""

_INSTEAD = {
    s.RUNNING: "it is running; wait until it has ended or is suspended, or cancel it",
    s.PENDING: "it is about to run; wait until it has ended or is suspended, or cancel it",
    s.SUSPENDED: "it is suspended; cancel it first",
    s.ROLLING_BACK: "its compensations are running; wait until they have ended",
    s.PAUSED: "it is paused; unpause it first, or cancel it",
    s.FAILED: "it has failed; retry a step, or resume it",
    s.ROLLED_BACK: "it has failed and was undone; retry a step, or resume it",
    s.COMPLETED: "it has completed",
    s.CANCELLED: "it was cancelled",
    s.STUCK: "it is stuck; complete, skip or retry the step it is stuck at, or cancel it",
    s.BLOCKED: "its definition has changed; deploy one that fits (flux check says which), or cancel it",
}


def check_verb(verb: str, state: WorkflowState, *, force: bool = False, step: str | None = None) -> str:
    """The table's cell for `verb` in the instance's status; `Refused`, saying what to do, if it forbids the verb.

    A failed compensation of `step` may be settled in whatever status the instance has ended (PROTOCOL rule 17).
    """
    cell = VERBS[verb][state.status]
    execution = state.steps.get(step) if step is not None and state.terminal else None
    if execution is not None and execution.status == s.COMPENSATION_FAILED:
        return ALLOWED
    if cell is REFUSED or (cell is FORCED and not force):
        hint = "; pass force=True if you mean it all the same" if cell is FORCED else ""
        message = f"{verb} is refused for workflow {state.name!r}, id {state.id!r}: {_INSTEAD[state.status]}{hint}"
        raise Refused(message)
    return cell
