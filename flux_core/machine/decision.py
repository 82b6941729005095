"""`decide(workflow, state, event, now)`: which records an event is worth, and what to do after them.

It changes neither its workflow nor its state. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import FINISH, HAND_OVER, PROCEED, Decision
from flux_core.events import (
    Advanced,
    BackedOff,
    CancelRequested,
    ConditionHeld,
    Decided,
    DefinitionChanged,
    Event,
    InputRejected,
    Interrupted,
    MailRead,
    PauseRequested,
    Probed,
    RetryRequested,
    StepFailed,
    StepResolved,
    StepSkipped,
    StepSucceeded,
    TimeRanOut,
    UnpauseRequested,
    WokenUp,
)
from flux_core.machine.adoption import adopted
from flux_core.machine.attempts import DIED, backed_off, begin, decided, failed, hand_over, probed, succeeded, unknown
from flux_core.machine.evolution import unpaused
from flux_core.machine.lanes import current
from flux_core.machine.rewind import resolution, retrial
from flux_core.machine.waiting import expired, mail_read, suspend, waiting
from flux_core.machine.waking import woken
from flux_core.records import Record
from flux_core.workflow import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never, NoReturn

    from flux_core.state import Kept, WorkflowState
    from flux_core.workflow import WorkflowDefinition


def decide(workflow: WorkflowDefinition, state: WorkflowState, event: Event, now: int) -> Decision:
    """What `event` means for the instance in `state` at `now`, in ms since the epoch."""
    match event:
        case StepSucceeded():
            return succeeded(state, event, now)
        case Advanced():
            return _advance(workflow, state, now)
        case StepFailed():
            return failed(workflow, state, event, now)
        case StepSkipped():
            body = {"p": event.path, "ms": event.run_ms}
            return Decision(PROCEED, Record(r.SKIPPED, state.epoch, now, body))
        case Decided():
            return decided(workflow, state, event, now)
        case ConditionHeld():
            if state.undoing or state.paused:
                return Decision(PROCEED)
            return begin(state, workflow.by_path[event.path], event.attempt, now, held=True)
        case BackedOff():
            return backed_off(workflow, state, event, now)
        case Probed():
            return probed(workflow, state, event, now)
        case MailRead():
            return mail_read(workflow, state, event, now)
        case WokenUp():
            return woken(workflow, state, event, now)
        case InputRejected():
            detail = f"{event.detail}; deploy a definition that accepts the stored input, then retry the step"
            body = {"why": "input_rejected", "p": event.path, "d": detail}
            return Decision(FINISH, Record(r.STUCK, state.epoch, now, body, (s.STUCK, None)))
        case Interrupted():
            # A death like any other, but one that need not wait for the lease's end; an open intent stays open.
            return Decision(HAND_OVER, Record(r.YIELD, state.epoch, now, {"cut": event.path}, (state.status, now)))
        case TimeRanOut():
            return hand_over(state, event, now)
        case DefinitionChanged():
            return Decision(PROCEED, adopted(workflow, state, now))
        case CancelRequested():
            body = {"why": event.why, "by": event.by}
            # The owner's lease has an entry in the due index already; an instance without owner needs one now.
            header = None if state.owned else (s.ROLLING_BACK, now)
            return Decision(PROCEED, Record(r.CANCELREQ, state.epoch, now, body, header))
        case PauseRequested():
            body = {"why": event.why, "by": event.by}
            at_once = None if state.owned or state.undoing else (s.PAUSED, None)
            return Decision(PROCEED, Record(r.PAUSE, state.epoch, now, body, at_once))
        case UnpauseRequested():
            body = {"why": event.why, "by": event.by}
            header = None if state.owned else (unpaused(state), now)
            return Decision(PROCEED, Record(r.UNPAUSE, state.epoch, now, body, header))
        case RetryRequested():
            body = retrial(workflow, state, event)
            return Decision(PROCEED, Record(r.RETRY, state.epoch, now, body, (s.RUNNING, now)))
        case StepResolved():
            body, status = resolution(workflow, state, event)
            due = None if status in s.TERMINAL or status == s.PAUSED else now
            return Decision(PROCEED, Record(r.RESOLVE, state.epoch, now, body, (status, due)))
        case _:
            return _never(event)


def _never(event: Never) -> NoReturn:
    message = f"there is no rule for {event!r}"
    raise AssertionError(message)


def _advance(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Decision:
    if state.fingerprint != workflow.fingerprint:
        return Decision(PROCEED, adopted(workflow, state, now))
    if state.paused and state.cursor < len(workflow.steps):
        # After the running step. An attempt that died is settled once the pause is over; mail and timers wait too.
        return Decision(HAND_OVER, Record(r.SUSP, state.epoch, now, {}, (s.PAUSED, None)))
    if state.intents:
        # The log ends with an attempt under way: whoever made it is gone, or is this invocation's own past.
        key, intent = next(iter(state.intents.items()))
        step = workflow.by_path[key.removesuffix(UNDO)]
        error = intent.error or DIED
        return unknown(state, step, intent.attempt, error, 0.0, None, now, undo=intent.undo, again_at_once=True)
    if state.undoing:
        for key in state.doubts:
            if not key.endswith(UNDO):
                # A cancel came while the next attempt of a commit was due: what became of the last one comes first.
                step = workflow.by_path[key]
                attempt = state.steps[key].attempt
                return unknown(state, step, attempt, DIED, 0.0, None, now, undo=False, again_at_once=True)
        return _undo_next(workflow, state, now)
    steps = workflow.steps
    if state.cursor >= len(steps):
        return Decision(FINISH, Record(r.END, state.epoch, now, {"s": s.COMPLETED}, (s.COMPLETED, None)))
    if state.expires is not None and state.expires <= now:
        return Decision(PROCEED, expired(workflow, state, now))
    step = steps[state.cursor]
    path = step.path
    if state.frames:
        path = current(state) or path
        step = workflow.by_path[path]
    if state.kept and path in state.kept:
        return Decision(PROCEED, _again(state, path, state.kept[path], now))
    if state.waits:
        return waiting(state, state.waits[path], path, now)
    attempt = 1
    due = state.retry_at.get(path) if state.retry_at else None
    if due is not None:
        if due > now:
            return suspend(state, now, due, mail=False)
        attempt = state.steps[path].attempt + 1
    return begin(state, step, attempt, now)


def _again(state: WorkflowState, path: str, kept: Kept, now: int) -> Record:
    """What a retry keeps is applied again at its turn, without running anything (rule 17)."""
    if kept.how == s.SKIPPED:
        return Record(r.SKIPPED, state.epoch, now, {"p": path, "ms": 0, "h": 1})
    body: dict[str, Any] = {"p": path, "a": kept.attempt, "ms": 0, "h": 1}
    if kept.output is not None:
        body["o"] = kept.output
    if kept.set:
        body["set"] = kept.set
    if kept.unset:
        body["del"] = kept.unset
    return Record(r.STEP, state.epoch, now, body)


def _undo_next(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Decision:
    for path in reversed(state.completed):
        step = workflow.by_path[path]
        if step.compensate is None:
            continue
        attempt = 1
        due = state.retry_at.get(path + UNDO)
        if due is not None:
            if due > now:
                return suspend(state, now, due, mail=False)
            attempt = state.steps[path].undo_attempt + 1
        return begin(state, step, attempt, now, undo=True)
    if state.cancel is not None:
        status = s.CANCELLED
    else:
        seen = {step.status for step in state.steps.values()}
        undone = s.COMPENSATED in seen and s.COMPENSATION_FAILED not in seen
        status = s.ROLLED_BACK if undone else s.FAILED
    return Decision(FINISH, Record(r.END, state.epoch, now, {"s": status}, (status, None)))
