"""Who may own an instance, when, and for how long: starts, claims, leases, deadlines, blocked definitions.

Pure like all of the machine. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import FINISH, PROCEED, TELL_PARENT, Decision, Ignore, ReadMail, Rest
from flux_core.machine.adoption import continuation, misfit
from flux_core.machine.evolution import resting
from flux_core.machine.lanes import current, next_steps
from flux_core.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from flux_core.events import WokenUp
    from flux_core.state import Lease, WorkflowState
    from flux_core.workflow import WorkflowDefinition

MOST_DEATHS: Final = 5
"""Deaths without progress after which an instance is stuck (rule 10)."""

_LONGEST_PAUSE = 3_600_000
_AT_REST = frozenset({s.STUCK, s.PAUSED})
"""Statuses that only an operator ends."""


def start(workflow: WorkflowDefinition, input_: object, input_hash: str, lease: Lease, now: int) -> Record:
    """The first record of an instance; it contains the first claim (rule 1)."""
    body = _start_body(workflow, input_, input_hash) | _term(lease)
    return Record(r.START, 1, now, body, (s.RUNNING, lease.end(now)))


def _start_body(workflow: WorkflowDefinition, input_: object, input_hash: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "ver": workflow.version,
        "fp": workflow.fingerprint,
        "names": [step.name for step in workflow.steps],
        "kinds": workflow.kinds,
        "in": input_,
        "ih": input_hash,
    }
    if workflow.timeout is not None:
        body["to"] = round(workflow.timeout * 1000)
    if workflow.patches:
        body["pt"] = list(workflow.patches)
    return body


def unowned_start(
    workflow: WorkflowDefinition, input_: object, input_hash: str, parent: list[str] | None, now: int
) -> Record:
    """The first record of an instance that others will run: nobody owns it, and it is due at once (rule 18).

    `parent` is the workflow, id and step that wait for its end, if it is a child and one does.
    """
    body = _start_body(workflow, input_, input_hash)
    if parent is not None:
        body["pa"] = parent
    return Record(r.START, 1, now, body, (s.PENDING, now))


def renewal(state: WorkflowState, now: int) -> Record:
    """The watchdog's record while one step outlasts half the lease (rule 14)."""
    return Record(r.RENEW, state.epoch, now, {})


def takeover_at(state: WorkflowState) -> int:
    """When an owned instance may be claimed: its lease's end, later with every death (rules 10 and 14)."""
    return state.lease_until + _pause(state.deaths)


def timer(state: WorkflowState) -> int | None:
    """The earliest time at which a resting instance needs a tick, if there is one."""
    times = list(state.retry_at.values())
    if not state.undoing:
        ahead = set(next_steps(state)) if state.retry_at else ()
        times = [due for path, due in state.retry_at.items() if path in ahead]
        if state.status == s.SUSPENDED and not resting(state):
            times.append(state.updated_at)  # a verb has taken over a definition in which something else is next
        times += [wait.due for wait in state.waits.values() if wait.due is not None]
        if state.expires is not None:
            times.append(state.expires)
    return min(times, default=None)


def is_due(state: WorkflowState, now: int) -> bool:
    """Whether a tick would find something to do."""
    if state.terminal or state.status in _AT_REST:
        return False
    if state.owned:
        return now >= takeover_at(state)
    due = timer(state)
    return state.status != s.SUSPENDED or (due is not None and due <= now)


def may_start(
    timeout: float | None, observed: float, remaining: float, margin: float, *, commit: bool, first: bool
) -> bool:
    """Whether a step may start when `remaining` seconds of the invocation are left (rule 15).

    `observed` is the longest this invocation has seen the step run, `margin` what saving and answering need.
    """
    spare = remaining - margin
    if first:
        return spare > 0
    if commit:
        return timeout is not None and spare >= timeout
    return spare > 0 and spare >= (observed if timeout is None else min(timeout, observed))


def woken(workflow: WorkflowDefinition, state: WorkflowState, event: WokenUp, now: int) -> Decision:
    """Whether a tick may, and has to, take the instance over."""
    if state.terminal and state.parent is not None:
        return Decision(TELL_PARENT)  # again, perhaps: who did it before may have died on the way
    if state.terminal or state.status in _AT_REST:
        return Decision(Ignore(f"it is {state.status}", None))
    if state.owned and now < takeover_at(state):
        return Decision(Ignore("another invocation owns it", takeover_at(state)))
    if state.fingerprint != workflow.fingerprint:
        problems = continuation(workflow, state).problems
        if problems:
            return _blocked(misfit(workflow, state, problems), state, now)
    rests = not state.owned and (is_resting(state) if state.undoing else state.status == s.SUSPENDED)
    due = timer(state)
    if rests and (due is None or due > now):
        awaited = state.children if state.undoing else any(wait.signals for wait in state.waits.values())
        if awaited:
            return Decision(ReadMail(resting=True))
        return Decision(Rest(None, due))
    return claim(state, event.lease, now)


def is_resting(state: WorkflowState) -> bool:
    """Of an instance that is being undone, and that nobody owns: whether it can only wait, for a timer or a child."""
    return bool(state.retry_at) or (state.rests and bool(state.children))


def claim(state: WorkflowState, lease: Lease, now: int) -> Decision:
    """Take the instance over: a record with a higher epoch fences whoever owned it (rule 1)."""
    deaths = state.deaths + 1 if state.owned else state.deaths
    status = s.ROLLING_BACK if state.undoing else s.RUNNING
    epoch = state.epoch + 1
    claim = Record(r.CLAIM, epoch, now, _term(lease), (status, lease.end(now)))
    if deaths < MOST_DEATHS:
        return Decision(PROCEED, claim)
    at = current(state)
    detail = (
        f"{deaths} invocations died without progress, the last at step {at!r}; find out why (memory? time-outs of the "
        f"platform?), then retry, complete or skip that step, or cancel the workflow"
    )
    stuck = Record(r.STUCK, epoch, now, {"why": "poison", "p": at, "d": detail}, (s.STUCK, None))
    return Decision(FINISH, claim, stuck)


def _blocked(detail: str, state: WorkflowState, now: int) -> Decision:
    again = state.updated_at + _pause(state.pauses)
    if state.status == s.BLOCKED and now < again:
        return Decision(Ignore("its definition has changed", again))
    due = now + _pause(state.pauses + 1)
    body = {"why": "definition_changed", "d": detail}
    record = Record(r.BLOCKED, state.epoch, now, body, (s.BLOCKED, due))
    return Decision(Ignore("its definition has changed", due), record)


def _term(lease: Lease) -> dict[str, Any]:
    return {"l": lease.ms} if lease.cap is None else {"l": lease.ms, "dl": lease.cap}


def _pause(count: int) -> int:
    """Milliseconds after `count` futile tries: none, then 1 s, doubling up to an hour."""
    return 0 if count == 0 else min(1000 * 2 ** min(count - 1, 20), _LONGEST_PAUSE)
