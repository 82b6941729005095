"""Steps that wait: mail that matches, timers that fire, and letting go of the instance until then.

Pure like all of the machine. Rules are numbered as in PROTOCOL.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import PROCEED, Await, Decision, ReadMail, Rest
from flux_core.machine.attempts import turns_back, undoable
from flux_core.machine.children import cancellable, ended, needed
from flux_core.machine.forks import is_over
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
LOOK_EVERY: Final = 1000
"""Milliseconds between two looks at open waits while other lanes go on."""


def waiting(state: WorkflowState, wait: OpenWait, path: str, now: int) -> Decision:
    """A step waits: for mail, which has to be read, or for its timer alone."""
    if wait.signals:
        return Decision(ReadMail(resting=False))
    if wait.due is not None and wait.due <= now:
        return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
    return suspend(state, now, wait.due, mail=False)


def suspend(state: WorkflowState, now: int, due: int | None, *, mail: bool, running: bool = False) -> Decision:
    """Let go of the instance until `due` (None: until somebody comes), or until mail comes.

    While attempts are under way in other lanes (`running`) the owner waits for those instead.
    """
    if running:
        look = now + LOOK_EVERY if mail else due
        return Decision(Await(look if due is None or look is None else min(due, look)))
    status = s.ROLLING_BACK if state.undoing else s.SUSPENDED
    if state.expires is not None and not state.undoing:
        due = state.expires if due is None else min(due, state.expires)
    if not mail:
        return Decision(Rest(due, due), Record(r.SUSP, state.epoch, now, {}, (status, due)))
    # The lease's entry stays until the second look into the mailbox: a signaller may have seen an owner that dies now.
    entry = state.lease_until if due is None else min(state.lease_until, due)
    need = needed(state) if state.children else 1
    body = {"need": need} if need > 1 else {}
    return Decision(ReadMail(resting=True, due=entry), Record(r.SUSP, state.epoch, now, body, (status, entry)))


def mail_read(workflow: WorkflowDefinition, state: WorkflowState, event: MailRead, now: int) -> Decision:
    """Mail that is awaited completes its steps; else a timer that has passed; else rest, or go on elsewhere."""
    post = _Post(state, event)
    if event.resting:
        if any(post.has(wait) for _, wait in _in_order(workflow, state)):
            return claim(state, event.lease, now)
        return Decision(Rest(event.due, timer(state)))
    waits = _in_order(workflow, state)
    if not waits:
        return Decision(PROCEED)
    received: list[Record] = []
    for path, wait in waits:
        found = post.take(wait)
        if found is None:
            continue
        mail, payload = found
        if path in state.children:
            record, failed = ended(workflow, state, path, mail_key(mail), payload, now)
            received.append(record)
            if failed and not state.undoing:
                break
            continue
        if len(state.consumed) + len(received) >= MOST_SIGNALS:
            if received:
                break
            message = f"the instance has taken {MOST_SIGNALS} signals, which is the most; start another one"
            return _no_signal(workflow, state, path, ErrorInfo("TooManySignals", message, path), now)
        body = {"p": path, "m": mail_key(mail), "o": payload}
        received.append(Record(r.RECV, state.epoch, now, body))
    if received:
        return Decision(PROCEED, *received)
    for path, wait in waits:
        if wait.due is not None and wait.due <= now:
            if wait.default is not None or not wait.signals:
                return Decision(PROCEED, Record(r.TIMEOUT, state.epoch, now, {"p": path}))
            message = f"no signal {' or '.join(map(repr, wait.signals))} came in time"
            return _no_signal(workflow, state, path, ErrorInfo("WaitTimeout", message, path), now)
    if not event.idle:
        return Decision(PROCEED)
    mail_wanted = any(wait.signals for _, wait in waits)
    return suspend(state, now, timer(state), mail=mail_wanted, running=bool(event.running))


def _in_order(workflow: WorkflowDefinition, state: WorkflowState) -> list[tuple[str, OpenWait]]:
    """The open waits in the order of the definition: a signal that several want is the first one's."""
    if state.undoing:  # only the ends of children matter then
        return [(path, state.waits[path]) for path in cancellable(workflow, state) if path in state.waits]
    waits = [(path, wait) for path, wait in state.waits.items() if not is_over(state, path)]
    if len(waits) > 1:
        waits.sort(key=lambda item: workflow.place(item[0]) or ())
    return waits


def _is_taken(state: WorkflowState, mail: Mail) -> bool:
    return mail_key(mail) in state.consumed


class _Post:
    """Mail that nobody has taken, by name, in the order it was sent."""

    __slots__ = ("_by_name",)

    def __init__(self, state: WorkflowState, event: MailRead) -> None:
        self._by_name: dict[str, list[tuple[int, Mail, object]]] = {}
        for place, (mail, payload) in enumerate(event.mails):
            if not _is_taken(state, mail):
                self._by_name.setdefault(mail.name, []).append((place, mail, payload))
        for found in self._by_name.values():
            found.reverse()

    def has(self, wait: OpenWait) -> bool:
        """Whether there is something for `wait`."""
        return any(name in self._by_name for name in wait.signals)

    def take(self, wait: OpenWait) -> tuple[Mail, object] | None:
        """The first mail for `wait`, which nobody else gets."""
        name = min(
            (name for name in wait.signals if name in self._by_name),
            key=lambda name: self._by_name[name][-1][0],
            default=None,
        )
        if name is None:
            return None
        _, mail, payload = self._by_name[name].pop()
        if not self._by_name[name]:
            del self._by_name[name]
        return mail, payload


def _no_signal(workflow: WorkflowDefinition, state: WorkflowState, path: str, error: ErrorInfo, now: int) -> Decision:
    body: dict[str, Any] = {"p": path, "e": error.to_tree()}
    if turns_back(workflow, state, path):
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
