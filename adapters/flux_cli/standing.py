"""How an instance stands, in sentences: what it waits for, who owns it, what went wrong. It must not know commands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from flux_cli.exits import GOOD, SOME_FAILED
from flux_cli.moments import ago, stamp, until
from flux_cli.styles import printable
from flux_core import state as s
from flux_core.machine import current, is_due, takeover_at, timer
from flux_core.machine.identity import key_of
from flux_core.workflow import UNDO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core import AuditEntry, ErrorInfo, StepExecution, WorkflowState

_BAD: Final = frozenset({s.FAILED, s.ROLLED_BACK, s.STUCK, s.BLOCKED})
_MOST_WAITS: Final = 8
"""Waits that are told one by one; more are counted."""
_VERB: Final = {s.COMPLETED: "has completed", s.FAILED: "has failed", s.CANCELLED: "was cancelled"}


def exit_code(status: str) -> int:
    """That of a verb which has left the instance in `status`."""
    return SOME_FAILED if status in _BAD else GOOD


def stands(status: str) -> str:
    """`has completed`, `is suspended`."""
    return _VERB.get(status, f"is {status.replace('_', ' ')}")


def resting(status: str) -> bool:
    """Whether nobody works at an instance of this status."""
    return status not in {s.PENDING, s.RUNNING, s.ROLLING_BACK}


def overdue(state: WorkflowState, now: int) -> bool:
    """Whether a tick would go on with it. A blocked instance is looked at again by itself, and is never overdue."""
    if state.status == s.BLOCKED or not is_due(state, now):
        return False
    due = timer(state)
    return state.owned or due is None or due <= now


def reasons(state: WorkflowState, now: int, audit: Sequence[AuditEntry] = ()) -> list[str]:
    """Why it stands as it does: who stopped it, the error, what it waits for, who owns it. One sentence each."""
    told = []
    if state.parent is not None:
        told.append("started by step {2} of {0} {1}".format(*state.parent))
    if state.paused and state.status != s.PAUSED:
        told.append("it will be paused once the running step has ended")
    if state.paused or state.status == s.CANCELLED:
        told += _asked("pause" if state.paused else "cancel", audit)
    error = state.error or state.failure
    if error is not None and state.status not in {s.COMPLETED, s.CANCELLED}:
        told.append(trouble(error))
    told += [f"the idempotency key of {what} is {key}" for what, key in _unknown(state)]
    if not state.terminal:
        told += _waits(state, now)
        told += _ownership(state, now)
    failed = [step.path for step in state.steps.values() if step.status == s.COMPENSATION_FAILED]
    told += [f"the effect of step {path} still stands: its compensation failed" for path in failed]
    return told


def _unknown(state: WorkflowState) -> list[tuple[str, str]]:
    """The attempts whose outcome nobody knows, and the keys that the other side knows them by."""
    if state.owned:
        return []
    found = []
    for path in {**state.intents, **state.doubts}:
        step = path.removesuffix(UNDO)
        what = f"step {step}" if path == step else f"the compensation of step {step}"
        found.append((what, key_of(state, path)))
    return found


def _asked(verb: str, audit: Sequence[AuditEntry]) -> list[str]:
    entry = next((one for one in reversed(audit) if one.verb == verb), None)
    if entry is None or not (entry.who or entry.why):
        return []
    by = f" by {entry.who}" if entry.who else ""
    return [printable(f"asked for{by}{': ' if entry.why else ''}{entry.why or ''}")]


def trouble(error: ErrorInfo) -> str:
    """The error with its step and type."""
    at = f"at step {error.step}: " if error.step else ""
    kind = "" if error.type == "definition_changed" else f"{error.type}: "
    return printable(f"{at}{kind}{error.message}")


def _waits(state: WorkflowState, now: int) -> list[str]:
    told = _children(state)
    waits = () if state.undoing else [item for item in state.waits.items() if item[0] not in state.children]
    if len(waits) > _MOST_WAITS:
        by_name = Counter(" or ".join(wait.signals) for _, wait in waits)
        told += [
            f"{_steps(count)} {f'for the signal {names}' if names else 'until their time'}"
            for names, count in by_name.items()
        ]
        waits = ()
    for path, wait in waits:
        if not wait.signals:
            told.append(f"step {path} sleeps {_end(wait.due, now)}")
            continue
        names = " or ".join(wait.signals)
        ending = "" if wait.due is None else f" {_end(wait.due, now)}"
        after = "" if wait.due is None else "; then " + ("it goes on with a default" if wait.default else "it fails")
        told.append(f"step {path} waits for the signal {names}{ending}{after}")
    if state.expires is not None and not state.undoing:
        told.append(f"the whole has to end by {moment(state.expires, now)}")
    for key, due in state.retry_at.items():
        what = f"the next attempt to undo step {key.removesuffix(UNDO)}"
        what = what if key.endswith(UNDO) else f"the next attempt of step {key}"
        told.append(f"{what} is due {moment(due, now)}")
    return told


def _children(state: WorkflowState) -> list[str]:
    """Which children have to end, or to be undone, first."""
    end = "is undone" if state.undoing else "ends"
    if len(state.children) > _MOST_WAITS:
        names = Counter(child_of(state.steps[path])["workflow"] for path in state.children)
        return [f"{_steps(count)} until their children of {name} are at their end" for name, count in names.items()]
    found = [(path, child_of(state.steps[path])) for path in state.children]
    return [f"step {path} waits until its child {child['workflow']} {child['id']} {end}" for path, child in found]


def _steps(count: int) -> str:
    return "1 step waits" if count == 1 else f"{count} steps wait"


def child_of(step: StepExecution) -> dict[str, str]:
    """The workflow and the id of what the step has started."""
    workflow, _, id_ = (step.child or "").partition("/")
    return {"workflow": workflow, "id": id_}


def _end(due: int | None, now: int) -> str:
    return "" if due is None else f"until {moment(due, now)}"


def shown(step: StepExecution, state: WorkflowState) -> str:
    """The step's status; `unknown` if its attempt (or its undoing) was cut off and nobody is at it any more."""
    unknown = (step.path in state.intents or step.path + UNDO in state.intents) and not state.owned
    return "unknown" if unknown else step.status


def _ownership(state: WorkflowState, now: int) -> list[str]:
    told = []
    if state.owned:
        end = takeover_at(state)
        if now < end:
            at = current(state) or state.names[-1]
            doing = "undoes it" if state.undoing else f"works at step {at}"
            told.append(f"an invocation {doing} and owns it until {moment(end, now)}, longer if it renews its lease")
        else:
            told.append(f"its invocation has died: its lease ended {moment(end, now)}, and nobody has taken it over")
    elif overdue(state, now):
        told.append("it is due, and nobody has woken it yet")
    if state.deaths:
        died = "1 invocation has" if state.deaths == 1 else f"{state.deaths} invocations have"
        told.append(f"{died} died since it last came on")
    return told


def moment(due: int, now: int) -> str:
    """`2026-11-21 14:03:11 UTC (in 2 h)`."""
    return f"{stamp(due)} UTC ({until(due, now)})"


def since(state: WorkflowState, moment_: int, now: int) -> str:
    """` since 2026-11-21 14:03:11 UTC (2 h ago)`, or for what is under way, when it last came on."""
    if not resting(state.status):
        return f"; its last record is of {stamp(state.updated_at)} UTC ({ago(state.updated_at, now)})"
    return f" since {stamp(moment_)} UTC ({ago(moment_, now)})"
