"""`decide(workflow, state, event, now)`: which records an event is worth, and what to do after them.

It changes neither its workflow nor its state. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import FINISH, HAND_OVER, PROCEED, START_CHILD, TELL_PARENT, Await, Decision
from flux_core.events import (
    Advanced,
    BackedOff,
    CancelRequested,
    ChildAsked,
    ConditionHeld,
    Decided,
    DefinitionChanged,
    Event,
    InputRejected,
    Interrupted,
    Joined,
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
from flux_core.machine.abreast import abreast, again, joining
from flux_core.machine.adoption import adopted
from flux_core.machine.attempts import DIED, backed_off, begin, decided, failed, hand_over, probed, succeeded, unknown
from flux_core.machine.children import asked, undone_first
from flux_core.machine.evolution import unpaused
from flux_core.machine.forks import is_over, to_join
from flux_core.machine.lanes import innermost
from flux_core.machine.rewind import resolution, retrial
from flux_core.machine.waiting import expired, mail_read, suspend, waiting
from flux_core.machine.waking import woken
from flux_core.records import Record
from flux_core.workflow import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never, NoReturn

    from flux_core.state import WorkflowState
    from flux_core.workflow import WorkflowDefinition


def decide(workflow: WorkflowDefinition, state: WorkflowState, event: Event, now: int) -> Decision:
    """What `event` means for the instance in `state` at `now`, in ms since the epoch."""
    match event:
        case StepSucceeded():
            return succeeded(state, event, now)
        case Advanced():
            return _advance(workflow, state, event, now)
        case StepFailed():
            return failed(workflow, state, event, now)
        case StepSkipped():
            body = {"p": event.path, "ms": event.run_ms}
            return Decision(PROCEED, Record(r.SKIPPED, state.epoch, now, body))
        case Decided():
            return decided(workflow, state, event, now)
        case ChildAsked():
            return asked(workflow, state, event, now)
        case Joined():
            body = {"p": event.path, "a": event.attempt, "ms": event.run_ms, "set": event.set}
            return Decision(PROCEED) if state.undoing else Decision(PROCEED, Record(r.JOIN, state.epoch, now, body))
        case ConditionHeld():
            if state.paused or is_over(state, event.path):
                return Decision(PROCEED)
            return begin(state, workflow.by_path[event.path], event.attempt, now, held=True)
        case BackedOff():
            if not event.undo and to_join(state, event.path) and not state.paused and not is_over(state, event.path):
                return joining(workflow, state, event.path, event.attempt, now)
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
            header = (unpaused(state), now) if state.status == s.PAUSED else None
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


def _advance(workflow: WorkflowDefinition, state: WorkflowState, event: Advanced, now: int) -> Decision:
    if state.fingerprint != workflow.fingerprint:
        return Decision(PROCEED, adopted(workflow, state, now))
    running = event.running
    if state.starting is not None and event.begun != state.starting.seq:
        return Decision(START_CHILD)
    if state.paused and state.cursor < len(workflow.steps):
        # After the running steps. An attempt that died is settled once the pause is over; mail and timers wait too.
        if running:
            return Decision(Await())
        return Decision(HAND_OVER, Record(r.SUSP, state.epoch, now, {}, (s.PAUSED, None)))
    for key, intent in state.intents.items():
        if key in running:
            continue
        # The log has an attempt under way: whoever made it is gone, or is this invocation's own past.
        step = workflow.by_path[key.removesuffix(UNDO)]
        error = intent.error or DIED
        return unknown(state, step, intent.attempt, error, 0.0, None, now, undo=intent.undo, again_at_once=True)
    if state.undoing:
        return Decision(Await()) if running else _turned_back(workflow, state, event, now)
    if state.cursor >= len(workflow.steps):
        return _end(state, s.COMPLETED, now)
    if state.expires is not None and state.expires <= now:
        return Decision(PROCEED, expired(workflow, state, now))
    path, fork = (workflow.steps[state.cursor].path, False) if not state.frames else innermost(state)
    assert path is not None  # noqa: S101 -- the cursor is not at the end
    if fork:
        return abreast(workflow, state, event, path, now)
    if state.kept and path in state.kept:
        return Decision(PROCEED, again(state, path, state.kept[path], now))
    if state.waits:
        return waiting(state, state.waits[path], path, now)
    attempt = 1
    due = state.retry_at.get(path) if state.retry_at else None
    if due is not None:
        if due > now:
            return suspend(state, now, due, mail=False)
        attempt = state.steps[path].attempt + 1
    return begin(state, workflow.by_path[path], attempt, now)


def _turned_back(workflow: WorkflowDefinition, state: WorkflowState, event: Advanced, now: int) -> Decision:
    first = undone_first(workflow, state, event) if state.children else None
    if first is not None:
        return first
    for key in state.doubts:
        if not key.endswith(UNDO):
            # A cancel came while the next attempt of a commit was due: what became of the last one comes first.
            step = workflow.by_path[key]
            attempt = state.steps[key].attempt
            return unknown(state, step, attempt, DIED, 0.0, None, now, undo=False, again_at_once=True)
    return _undo_next(workflow, state, now)


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
    return _end(state, status, now)


def _end(state: WorkflowState, status: str, now: int) -> Decision:
    """The end; one that somebody waits for keeps an entry in the due index until it is told (rule 18)."""
    if state.parent is None:
        return Decision(FINISH, Record(r.END, state.epoch, now, {"s": status}, (status, None)))
    return Decision(TELL_PARENT, Record(r.END, state.epoch, now, {"s": status}, (status, now)))
