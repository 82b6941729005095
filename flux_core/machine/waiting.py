"""Steps that wait: mail that matches, timers that fire, and letting go of the instance until then.

Pure like all of the machine. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import PROCEED, Decision, ReadMail, Rest
from flux_core.machine.attempts import undoable
from flux_core.machine.waking import claim, timer
from flux_core.records import Record
from flux_core.state import ErrorInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from flux_core.events import MailRead
    from flux_core.ports import Mail
    from flux_core.state import OpenWait, WorkflowState
    from flux_core.workflow import WorkflowDefinition

MOST_SIGNALS: Final = 10_000
"""The ids of consumed mail stay in the state, so an instance takes no more (rule 4)."""


def waiting(state: WorkflowState, wait: OpenWait, path: str, now: int) -> Decision:
    """A step waits: for mail, which has to be read, or for its timer alone."""
    if wait.signals:
        return Decision(ReadMail(resting=False))
    if wait.due is not None and wait.due <= now:
        return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
    return suspend(state, now, wait.due, mail=False)


def suspend(state: WorkflowState, now: int, due: int | None, *, mail: bool) -> Decision:
    """Let go of the instance until `due` (None: until somebody comes), or until mail comes."""
    status = s.ROLLING_BACK if state.undoing else s.SUSPENDED
    if state.expires is not None and not state.undoing:
        due = state.expires if due is None else min(due, state.expires)
    if not mail:
        return Decision(Rest(due, due), Record(r.SUSP, state.epoch, now, {}, (status, due)))
    # The lease's entry stays until the second look into the mailbox: a signaller may have seen an owner that dies now.
    entry = state.lease_until if due is None else min(state.lease_until, due)
    return Decision(ReadMail(resting=True, due=entry), Record(r.SUSP, state.epoch, now, {}, (status, entry)))


def mail_read(workflow: WorkflowDefinition, state: WorkflowState, event: MailRead, now: int) -> Decision:
    """Mail that is awaited completes its step; else a timer that has passed; else rest."""
    if event.resting:
        if any(_pick(state, wait, event) for wait in state.waits.values()):
            return claim(state, event.lease, now)
        return Decision(Rest(event.due, timer(state)))
    if state.undoing or not state.waits:
        return Decision(PROCEED)
    for path, wait in state.waits.items():
        found = _pick(state, wait, event)
        if found is not None:
            mail, payload = found
            if len(state.consumed) >= MOST_SIGNALS:
                message = f"the instance has taken {MOST_SIGNALS} signals, which is the most; start another one"
                return _no_signal(workflow, state, path, ErrorInfo("TooManySignals", message, path), now)
            body = {"p": path, "m": mail_key(mail), "o": payload}
            return Decision(PROCEED, Record(r.RECV, state.epoch, now, body))
    for path, wait in state.waits.items():
        if wait.due is not None and wait.due <= now:
            if wait.default is not None:
                return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
            message = f"no signal {' or '.join(map(repr, wait.signals))} came in time"
            return _no_signal(workflow, state, path, ErrorInfo("WaitTimeout", message, path), now)
    return suspend(state, now, timer(state), mail=True)


def _no_signal(workflow: WorkflowDefinition, state: WorkflowState, path: str, error: ErrorInfo, now: int) -> Decision:
    body: dict[str, Any] = {"p": path, "e": error.to_tree()}
    if undoable(workflow, state):
        body["rb"] = 1
    return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, body))


def expired(workflow: WorkflowDefinition, state: WorkflowState, now: int) -> Record:
    """The time of the whole workflow has passed: it is undone like after any failure."""
    assert state.time_limit is not None  # noqa: S101 -- only what is limited expires
    message = f"the workflow did not end within {state.time_limit / 1000:g} s (its timeout)"
    body: dict[str, Any] = {"e": ErrorInfo("WorkflowTimeout", message).to_tree()}
    if undoable(workflow, state):
        body["rb"] = 1
    return Record(r.TIMEOUT, state.epoch, now, body)


def mail_key(mail: Mail) -> str:
    """How the state remembers consumed mail."""
    return f"{mail.name}/{mail.id}"


def _pick(state: WorkflowState, wait: OpenWait, event: MailRead) -> tuple[Mail, object] | None:
    """The first mail for `wait` that nobody has taken: by sender time, then id."""
    for mail, payload in event.mails:
        if mail.name in wait.signals and mail_key(mail) not in state.consumed:
            return mail, payload
    return None
