"""The story of one instance in words, for whoever reads a failed test: step by step, with attempts, waits, errors.

(`story` prints the raw log, for whoever tests the engine.) It must not change anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core import records as r
from flux_core import state as s
from flux_core.machine import evolve, said
from flux_core.records import Record
from flux_core.state import WorkflowState
from flux_core.testing.attempts import COMPLETED, RUNNING, UNKNOWN, WAITING, matched
from flux_core.testing.journal import UNDONE
from flux_core.testing.outlook import outlook
from flux_core.testing.spans import moment, shown, span, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flux_core.ports import InstanceRef
    from flux_core.testing.attempts import Attempt
    from flux_core.testing.outlook import Letter

    Line = tuple[int, str]

_MOST_LINES = 80
_FIRST_LINES = 20


def narrate(
    ref: InstanceRef,
    log: Sequence[Record],
    attempts: Sequence[Attempt],
    letters: Sequence[Letter],
    remarks: Sequence[tuple[int, str]],
    now: int,
    redacted: Callable[[object], object],
) -> str:
    """The story. `letters`: signals nobody has taken; `remarks`: what the engine logged, with its time; `now` in ms.

    `redacted` gives a value as it may be shown.
    """
    state = WorkflowState(*ref)
    told = {id(attempt) for attempt, record in matched(attempts, log) if record.type != r.STUCK}
    lines: list[Line] = []
    for seq, kept in enumerate(log):
        record = _shown(kept, redacted)
        line = _LINES.get(record.type, _other)(state, record, record.body)
        lines += [(record.at, one) for one in ([line] if isinstance(line, str) else line)]
        evolve(state, record)
        lines += [_attempted(one) for one in attempts if one.after == seq and id(one) not in told]
    begun = log[0].at
    lines += [(letter.at, f"signal {letter.name!r} arrives: {shown(letter.payload)}") for letter in letters]
    lines += list(remarks)
    lines.sort(key=lambda line: line[0])  # stable: what happened at one time keeps its order
    body = [f"  {stamp(max(at - begun, 0)):<16} {text}" for at, text in lines]
    if len(body) > _MOST_LINES:
        left = len(body) - _MOST_LINES
        body[_FIRST_LINES : -(_MOST_LINES - _FIRST_LINES)] = [f"  ... {left} lines are left out here"]
    tenant = "" if ref.tenant == "default" else f", tenant {ref.tenant}"
    head = f"{ref.workflow}/{ref.id}, started {moment(begun)}{tenant}"
    after = [f"  {line}" for line in outlook(state, letters, now)]
    after[:0] = [""] if after else []
    return "\n".join([head, *body, f"  {stamp(max(now - begun, 0)):<16} now: {state.status}", *after])


def _shown(record: Record, redacted: Callable[[object], object]) -> Record:
    """The record with the user's values as they may be shown."""
    body: dict[str, Any] = {key: redacted(value) if key in _VALUES else value for key, value in record.body.items()}
    if "w" in body and body["w"][2] is not None:
        signals, due, default = body["w"]
        body["w"] = [signals, due, [redacted(default[0])]]
    return Record(record.type, record.epoch, record.at, body)


_VALUES = frozenset({"in", "o", "set"})


def _attempted(attempt: Attempt) -> Line:
    name = f"{attempt.step}: undoing it" if attempt.what == UNDONE else attempt.step
    at = attempt.started_ms if attempt.ended_ms is None else attempt.ended_ms
    error = "" if attempt.error is None else f"{attempt.error.type}: {attempt.error.message}"
    match attempt.outcome:
        case outcome if outcome == RUNNING:
            told = "is under way"
        case outcome if outcome == UNKNOWN:
            told = f"failed with {error} (it may have taken effect)"
        case outcome if outcome in {COMPLETED, WAITING}:
            told = "ended, but its invocation could not record that any more"
        case outcome:
            told = f"{outcome} with {error}"
    return at, f"{name}, attempt {attempt.number} {told}"


# --- a line for each record -----------------------------------------------------------------------------------


def _start(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"starts with input {shown(body['in'])}"


def _claim(state: WorkflowState, _: Record, __: dict[str, Any]) -> list[str]:
    return ["another invocation takes over: the one before it had died, or was too slow"] if state.owned else []


def _step(_: WorkflowState, record: Record, body: dict[str, Any]) -> str:
    name = _tried(body)
    if "e" in body:
        return f"{name} fails for good: {_error(body)}"
    if "w" in body:
        signals, due, _default = body["w"]
        until = "" if due is None else f" for {span(max(due - record.at, 0))}"
        return (
            f"{name} waits for signal {' or '.join(map(repr, signals))}{until}" if signals else f"{name} sleeps{until}"
        )
    kept = ", kept by the retry" if "h" in body else ""
    output = f": {shown(body['o'])}" if body.get("o") is not None else ""
    return f"{name} completed{kept}{output}{_changes(body)}"


def _skipped(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"{body['p']} skipped" + (", as before the retry" if "h" in body else ": its condition does not hold")


def _decide(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return said(body)


def _comp(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    if "e" in body:
        return f"{body['p']} could not be undone: {_error(body)}"
    return f"{body['p']} undone{_changes(body)}"


def _retry_wait(_: WorkflowState, record: Record, body: dict[str, Any]) -> str:
    name = f"{body['p']}: undoing it, attempt {body['a']}" if "undo" in body else f"{body['p']}, attempt {body['a']}"
    doubt = " (it may have taken effect)" if "u" in body else ""
    return f"{name} failed with {_error(body)}{doubt}; next attempt in {span(max(body['due'] - record.at, 0))}"


def _child(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    then = " and waits for its end" if "wait" in body else ""
    return f"{_tried(body)} starts {body['wf']}/{body['id']} with input {shown(body['in'])}{then}"


def _join(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"{body['p']}: what was written at the same time comes together{_changes(body)}"


def _recv(state: WorkflowState, _: Record, body: dict[str, Any]) -> str:
    if "e" in body:
        return f"{body['p']} fails for good: {_error(body)}"
    if body["p"] in state.children:
        return f"{body['p']} completed by its child: {shown(body.get('o'))}"
    return f"{body['p']} completed by signal {body['m'].partition('/')[0]!r}: {shown(body.get('o'))}"


def _timeout(state: WorkflowState, _: Record, body: dict[str, Any]) -> str:
    if "e" in body:
        return f"{body.get('p', 'the workflow')} fails: {_error(body)}"
    wait = state.waits[body["p"]]
    if not wait.signals:
        return f"{body['p']} has slept"
    return f"{body['p']} completed by its timeout: {shown(wait.default[0] if wait.default else None)}"


def _yield(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    cut = f": step {body['cut']} was cut" if "cut" in body else ""
    return f"the invocation ends and hands over{cut}"


def _end(state: WorkflowState, _: Record, body: dict[str, Any]) -> str:
    why = "" if body["s"] in {s.COMPLETED, s.CANCELLED} or state.failure is None else f" (step {state.failure.step!r})"
    return f"ends {body['s']}{why}"


def _stuck(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"is stuck at step {body.get('p')!r}: {body['why']}"


def _blocked(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"is blocked: {body['why']}"


def _adopt(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    changes = [f"{old} is now {new}" for old, new in body.get("was", {}).items()]
    changes += [f"{path} is passed over" for path in body.get("pass", ())]
    return f"goes on with the definition of version {body['ver']!r}" + "".join(f"; {change}" for change in changes)


def _cancelreq(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"cancel{_who(body)}"


def _pause(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"pause{_who(body)}"


def _unpause(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    return f"end of the pause{_who(body)}"


def _retry(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    kept = f"; kept: {', '.join(body['kept'])}" if body.get("kept") else ""
    return f"retry of step {body['p']!r}{_who(body)}{kept}"


def _resolve(_: WorkflowState, __: Record, body: dict[str, Any]) -> str:
    what = f"{body['p']}: its undoing" if "undo" in body else body["p"]
    output = f": {shown(body['o'])}" if body.get("o") is not None else ""
    return f"{what} {body['h']} by hand{_who(body)}{output}"


def _nothing(_: WorkflowState, __: Record, ___: dict[str, Any]) -> list[str]:
    return []


def _other(_: WorkflowState, record: Record, body: dict[str, Any]) -> str:
    return f"{record.type}{_who(body)}"


_LINES: dict[str, Callable[[WorkflowState, Record, dict[str, Any]], str | list[str]]] = {
    r.START: _start,
    r.CLAIM: _claim,
    r.RENEW: _nothing,
    r.INTENT: _nothing,
    r.SUSP: _nothing,
    r.STEP: _step,
    r.SKIPPED: _skipped,
    r.DECIDE: _decide,
    r.COMP: _comp,
    r.RETRY_WAIT: _retry_wait,
    r.CHILD: _child,
    r.JOIN: _join,
    r.RECV: _recv,
    r.TIMEOUT: _timeout,
    r.YIELD: _yield,
    r.END: _end,
    r.STUCK: _stuck,
    r.BLOCKED: _blocked,
    r.ADOPT: _adopt,
    r.CANCELREQ: _cancelreq,
    r.PAUSE: _pause,
    r.UNPAUSE: _unpause,
    r.RETRY: _retry,
    r.RESOLVE: _resolve,
}


def _tried(body: dict[str, Any]) -> str:
    return body["p"] if body["a"] == 1 else f"{body['p']}, attempt {body['a']}"


def _error(body: dict[str, Any]) -> str:
    kind, message, _ = body["e"]
    return f"{kind}: {message}"


def _changes(body: dict[str, Any]) -> str:
    changed = [f"data.{key} = {shown(value, 60)}" for key, value in body.get("set", {}).items()]
    changed += [f"data.{key} removed" for key in body.get("del", ())]
    return f"; {', '.join(changed)}" if changed else ""


def _who(body: dict[str, Any]) -> str:
    by = f" by {body['by']}" if body.get("by") else ""
    return f"{by}: {body['why']}" if body.get("why") else by
