"""Instances that steps start: asking for one, what its end means, and what becomes of it when the parent is undone.

Pure like all of the machine. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import PROCEED, START_CHILD, CancelChildren, Decision, ReadMail
from flux_core.machine.attempts import turns_back
from flux_core.machine.forks import MAP_LETTER, is_over
from flux_core.machine.identity import child_id, is_end_signal
from flux_core.paths import lane_of, owner_of
from flux_core.records import Record
from flux_core.state import ErrorInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flux_core.events import Advanced, ChildAsked
    from flux_core.state import WorkflowState
    from flux_core.workflow import WorkflowDefinition


def asked(workflow: WorkflowDefinition, state: WorkflowState, event: ChildAsked, now: int) -> Decision:
    """The child goes on record before it is created, so that nobody can create it unknown to its parent (rule 18)."""
    if is_over(state, event.path):
        return Decision(PROCEED)
    call = workflow.by_path[event.path].child
    assert call is not None  # noqa: S101 -- only a child step asks for one
    body: dict[str, Any] = {
        "p": event.path, "a": event.attempt, "ms": event.run_ms, "wf": call.name, "id": child_id(state, event.path),
        "ih": event.input_hash, "in": event.input,
    }  # fmt: skip
    if call.wait:
        body["wait"] = 1
    return Decision(START_CHILD, Record(r.CHILD, state.epoch, now, body))


def ended(
    workflow: WorkflowDefinition, state: WorkflowState, path: str, mail: str, told: Any, now: int
) -> tuple[Record, bool]:
    """The record of a child's end, and whether the step has failed by it. `told` is what `end_of` has made."""
    status, data, error = told["status"], told["data"], told["error"]
    body: dict[str, Any] = {"p": path, "m": mail}
    call = workflow.by_path[path].child
    if status == s.COMPLETED:
        body["o"] = data
    elif call is not None and call.on_failure == "continue" and not state.undoing:
        body["o"] = {"id": told["id"], "status": status, "error": error}
    else:
        child = f"child {told['workflow']!r}, id {told['id']!r}"
        body["e"] = ErrorInfo("ChildFailed", f"{child} is {status}: {error}", path).to_tree()
        if turns_back(workflow, state, path):
            body["rb"] = 1
        return Record(r.RECV, state.epoch, now, body), True
    return Record(r.RECV, state.epoch, now, body), False


def end_of(state: WorkflowState) -> dict[str, object]:
    """What a child's mail to its parent says."""
    return {
        "workflow": state.name,
        "id": state.id,
        "status": state.status,
        "data": dict(state.data) if state.status == s.COMPLETED else None,
        "error": None if state.error is None else str(state.error),
    }


def undone_first(workflow: WorkflowDefinition, state: WorkflowState, event: Advanced) -> Decision | None:
    """Children that have not ended are cancelled, and their end awaited, before anything else is undone (rule 6)."""
    left = cancellable(workflow, state)
    if not left:
        return None
    fresh = [path for path in left if path not in event.cancelled]
    return Decision(CancelChildren(fresh)) if fresh else Decision(ReadMail(resting=False))


def cancellable(workflow: WorkflowDefinition, state: WorkflowState) -> list[str]:
    """The steps whose children have not ended, and are cancelled with this instance."""
    found = []
    for path in state.children:
        call = workflow.by_path[path].child if workflow.place(path) is not None else None
        if call is None or call.on_cancel == "cancel":
            found.append(path)
    return found


def needed(state: WorkflowState) -> int:
    """How many ends of children have to be in the mailbox before this instance can go on; 1 if any will do.

    More than one only if it waits for nothing but the children of one map, each the last of its item.
    """
    waiting = len(state.waits)
    if waiting < 2 or len(state.children) != waiting or state.retry_at:  # noqa: PLR2004 -- two or more
        return 1
    first = next(iter(state.waits))
    owner = owner_of(lane_of(first)) if "." in first else ""
    frame = state.frames.get(owner)
    if frame is None or frame.fork is None or frame.kind != MAP_LETTER or frame.number < int(frame.choice):
        return 1
    for path in state.waits:
        lane = lane_of(path)
        found = state.lanes.get(lane)
        last = found is not None and owner_of(lane) == owner and found.cursor == len(found.names) - 1
        if not last:
            return 1
    return sum(is_end_signal(key) for key in state.consumed) + waiting
